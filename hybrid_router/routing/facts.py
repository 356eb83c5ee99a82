"""Everything the policy may look at besides the call, read once before deciding."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from hybrid_router.core.call import Feature


class Facts(Struct, frozen=True, kw_only=True):
    """The state of the world for one decision.

    Attributes:
        off: backend → why it is off (no credentials, extra not installed).
        local: names of backends that run on this machine.
        down: `backend/model` → why it cannot serve right now.
        features: `backend/model` → what it can do beyond text; a step not named here can do everything.
        online: whether clouds can be reached.
        minute_of_day: local wall clock, 0 to 1439.
    """

    off: Mapping[str, str] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    down: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, frozenset[Feature]] = field(default_factory=dict)
    online: bool = True
    minute_of_day: int = 0
