"""What is known of each model that lives in memory, or would like to.  Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum

from msgspec import Struct, field

from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space

_HALF_LIFE_S = 600.0  # of a use, when it is guessed whether there will be another
_LOAD_S = 5.0  # of a model that was not loaded yet


class Phase(Enum):
    """Where a model is."""

    ABSENT = "absent"
    LOADING = "loading"
    RESIDENT = "resident"
    LEAVING = "leaving"


class Terms(Struct, frozen=True, kw_only=True):
    """What router.yaml says of a model's stay.

    Attributes:
        pinned: it is not evicted once it is resident.
        idle_s: it is evicted once nobody has used it for so long; None: never for that.
        memory_bytes: what it needs at least, whatever is estimated or measured.
        sizes: its keys of which lower values take less memory.
    """

    pinned: bool = False
    idle_s: float | None = None
    memory_bytes: int | None = None
    sizes: tuple[str, ...] = ()

    @property
    def less(self) -> str:
        """How the model would take less, as advice."""
        lower = " or ".join(f"`{key}`" for key in self.sizes)
        return f"lower its {lower}, choose smaller weights" if lower else "choose smaller weights"


class Budget(Struct, frozen=True, kw_only=True):
    """What models may take together, and how long a call may wait while others are answered."""

    space: Space = UNLIMITED
    swap_wait_s: float = 10.0


class Tenant(Struct, kw_only=True, eq=False):
    """What is known of one model.  Only `Residency` writes it.

    Attributes:
        name: for people.
        need: what it is counted for: an estimate first, then what was measured.
        estimate: what a load is thought to take.
        ready: it may be loaded: it is not being ended, nor resting after a crash.
        wish: it is to be loaded when there is room; nobody is evicted for that.
        wanted_s: since when it is wanted by calls that were answered elsewhere.
        waiting: calls that wait for it, by when they came.
        granted: calls that it may answer and that have not begun.
        running_count: calls that have.
        closed: it takes no new calls: others have waited long enough.
        short: there is no room for it now.
        too_little: the room that was not enough for it.
    """

    name: str
    terms: Terms
    need: Space = NO_SPACE
    estimate: Space = NO_SPACE
    phase: Phase = Phase.ABSENT
    ready: bool = False
    wish: bool = False
    wanted_s: float | None = None
    waiting: dict[int, float] = field(default_factory=dict)
    granted: set[int] = field(default_factory=set)
    running_count: int = 0
    idle_since_s: float = 0.0
    load_s: float = _LOAD_S
    uses: float = 0.0
    uses_at_s: float = 0.0
    closed: bool = False
    short: bool = False
    too_little: Space | None = None

    @property
    def takes_room(self) -> bool:
        """Whether it is counted."""
        return self.phase is not Phase.ABSENT

    @property
    def busy(self) -> bool:
        """Whether evicting it would cut something off."""
        if self.phase is Phase.LOADING:
            return bool(self.waiting) or self.wish or self.wanted_s is not None
        return self.running_count > 0 or bool(self.granted)

    @property
    def asked_s(self) -> float | None:
        """When the first came who is still waiting."""
        times = [*self.waiting.values()] if self.wanted_s is None else [*self.waiting.values(), self.wanted_s]
        return min(times, default=None)

    def used(self, now_s: float) -> None:
        """Count a use; older ones count less and less."""
        self.uses = self.uses_now(now_s) + 1.0
        self.uses_at_s = now_s

    def uses_now(self, now_s: float) -> float:
        """Uses, as far as they still count."""
        return self.uses * math.exp2(-max(0.0, now_s - self.uses_at_s) / _HALF_LIFE_S)

    def worth(self, lacking: Space, now_s: float) -> float:
        """Seconds of loading that are likely saved by keeping it, for each byte of what is lacking."""
        likely = 1.0 - math.exp(-self.uses_now(now_s))
        return self.load_s * likely / max(1, given(self.need, lacking))


def summed(spaces: Iterable[Space]) -> Space:
    """All of them together."""
    return sum(spaces, start=NO_SPACE)


def given(need: Space, lacking: Space) -> int:
    """Bytes of the kinds that are lacking."""
    return (need.ram_bytes if lacking.ram_bytes > 0 else 0) + (
        need.vram_bytes if lacking.vram_bytes > 0 else 0
    )


def declared(terms: Terms, need: Space) -> Space | None:
    """What router.yaml says, for the kind of memory that most of the model is in; None: it says nothing."""
    if terms.memory_bytes is None:
        return None
    if need.vram_bytes > need.ram_bytes:
        return Space(need.ram_bytes, terms.memory_bytes)
    return Space(terms.memory_bytes, need.vram_bytes)
