"""An error in the words of the dialect that it was asked in, which its address tells.

So a request that finds no route, or no key, is answered in words that its client reads too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeAlias

from hybrid_router.api.ai_gateway import error as ai_gateway
from hybrid_router.api.openai import error as openai
from hybrid_router.api.workers_ai import error as workers_ai
from hybrid_router.core.errors import RouterError

Document: TypeAlias = Callable[[RouterError], bytes]
WORKERS_AI = "/client/v4/"
ACCOUNT = "[0-9a-fA-F]{32}"
_GATEWAY = re.compile(rf"/v1/{ACCOUNT}/", re.ASCII)


def is_gateway(path: str) -> bool:
    """Whether an address is of an AI Gateway, where a key may come in `cf-aig-authorization`."""
    return _GATEWAY.match(path) is not None


def document_of(path: str) -> Document:
    """How errors at an address are written."""
    if path.startswith(WORKERS_AI):
        return workers_ai.document
    return ai_gateway.document if is_gateway(path) else openai.document
