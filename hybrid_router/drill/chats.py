"""Which part of a configuration can be drilled: a drill chats, and not every model does."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec.structs import replace

from hybrid_router.config.schema import Config
from hybrid_router.core.ability import DOES
from hybrid_router.core.call import Operation


def chatting(config: Config, can: Mapping[str, frozenset[Operation]]) -> tuple[Config, dict[str, str]]:
    """The configuration without steps and aliases that nobody can chat with; and those aliases, with what
    their models do instead.

    Args:
        can: step → what it can be asked.
    """
    aliases, others = {}, {}
    for name, alias in config.aliases.items():
        steps = tuple(step for step in alias.try_ if Operation.CHAT in can[step.step])
        if steps:
            aliases[name] = replace(alias, try_=steps)
        else:
            does = frozenset[Operation]().union(*(can[step.step] for step in alias.try_))
            others[name] = " and ".join(DOES[each] for each in Operation if each in does)
    return replace(config, aliases=aliases), others
