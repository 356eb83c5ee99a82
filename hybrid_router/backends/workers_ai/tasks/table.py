"""Which task does what, for which families of models.

What is written as text, chats and completions of `TEXT`, is not here: see `backends.workers_ai.encode`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.backends.workers_ai.tasks.task import Task
from hybrid_router.catalogue.families import Family
from hybrid_router.core.backend import GENERATES
from hybrid_router.core.call import Operation

TEXT = frozenset({Family.CLASSIC, Family.CHAT, Family.EITHER, Family.BY_INPUT, Family.GUARD, Family.DECISION})
TASKS: Mapping[tuple[Family, Operation], Task] = MappingProxyType({})


def operations(family: Family) -> frozenset[Operation]:
    """What models of a family can be asked."""
    text = GENERATES if family in TEXT else frozenset[Operation]()
    return text | {operation for known, operation in TASKS if known is family}
