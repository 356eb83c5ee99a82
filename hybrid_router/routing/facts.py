"""Everything the policy may look at besides the call, read once before deciding."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, field

from hybrid_router.core.backend import Load
from hybrid_router.core.call import Feature, Operation
from hybrid_router.routing.ledger import Allowance, Rate
from hybrid_router.routing.speed import Speed


class Facts(Struct, frozen=True, kw_only=True):
    """The state of the world for one decision.  A step is named `backend/model`.

    Attributes:
        off: backend → why it is off (no credentials, extra not installed).
        local: names of backends that run on this machine.
        down: step → why it cannot serve right now: a dead worker, an open breaker, a bench.
        waits: step → seconds after which it may be asked again, of those that are down until a known time.
        unreachable: backend → why no connection to it can be made at present.
        features: step → what it can do beyond text; a step not named here can do everything.
        operations: step → what it can be asked; a step not named here can be asked everything.
        contexts: step → tokens of prompt and answer that fit, where known.
        loads: step → what runs and waits there.
        speeds: step → what was learned of it.
        cached: step → tokens of this conversation's beginning that it holds.
        allowances: backend → neurons that may be used now; a backend not named here is not counted.
        rates: step → what its work costs.
        default_max_tokens: backend → tokens of an answer whose client names no limit.
        online: whether clouds can be reached.
        minute_of_day: local wall clock, 0 to 1439.
    """

    off: Mapping[str, str] = field(default_factory=dict)
    local: frozenset[str] = frozenset()
    down: Mapping[str, str] = field(default_factory=dict)
    waits: Mapping[str, float] = field(default_factory=dict)
    unreachable: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, frozenset[Feature]] = field(default_factory=dict)
    operations: Mapping[str, frozenset[Operation]] = field(default_factory=dict)
    contexts: Mapping[str, int] = field(default_factory=dict)
    loads: Mapping[str, Load] = field(default_factory=dict)
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    cached: Mapping[str, int] = field(default_factory=dict)
    allowances: Mapping[str, Allowance] = field(default_factory=dict)
    rates: Mapping[str, Rate] = field(default_factory=dict)
    default_max_tokens: Mapping[str, int] = field(default_factory=dict)
    online: bool = True
    minute_of_day: int = 0
