"""The states of a worker and what follows from them.  Pure."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hybrid_router.engines.task import Opened
from hybrid_router.workers.choice import Eviction

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_STEADY_AFTER_S = 60.0
_MOST_LOADS = 6


class Absent(Struct, frozen=True):
    """No child, and nobody asked for one yet.

    `eviction`: why there is none any more.
    """

    eviction: Eviction | None = None


class Loading(Struct, frozen=True):
    """A child is opening the model since `since_s`."""

    since_s: float


class Resident(Struct, frozen=True):
    """A child serves, since `since_s`, after loading for `load_s`."""

    opened: Opened
    since_s: float
    load_s: float = 0.0


class Dead(Struct, frozen=True):
    """The child ended; a new one starts at `until_s`, never if None."""

    reason: str
    until_s: float | None


State: TypeAlias = Absent | Loading | Resident | Dead


def pause_s(failure_count: int) -> float:
    """How long to wait before the next start after so many failures in a row.

    The first is free: one crash should cost its callers a load, not a wait.
    """
    if failure_count <= 1:
        return 0.0
    return min(_FIRST_PAUSE_S * 2.0 ** (failure_count - 2), _LONGEST_PAUSE_S)


def failures_after(failure_count: int, lived_s: float) -> int:
    """Failures in a row, counting one more; a child that lived long makes it the first again."""
    return 1 if lived_s >= _STEADY_AFTER_S else failure_count + 1


class Ending(Struct, frozen=True):
    """How a child ended.

    Attributes:
        loading: before it had its model.
        hopeless: another would fare the same.
        evicted: it was ended to make room.
        burst: the kernel killed it for memory.
    """

    reason: str
    loading: bool = False
    hopeless: bool = False
    evicted: bool = False
    burst: bool = False


def given_up(ending: Ending, killed_count: int, less: str) -> str | None:
    """Why no other child is started, or None.

    Args:
        killed_count: children in a row that ended before their model was open, this one included.  Mostly
            memory ran out: that may pass, but every try takes it from others.
        less: how the model would take less memory.
    """
    if ending.hopeless:
        return ending.reason
    if killed_count < _MOST_LOADS:
        return None
    return (
        f"{ending.reason} while it opened its model, {killed_count} times in a row; if memory is short, "
        f"{less}, then reload"
    )


def wait_s(state: State, now_s: float) -> float | None:
    """Seconds until a dead worker is started again; None: never, or it is not dead."""
    if not isinstance(state, Dead) or state.until_s is None:
        return None
    return max(0.0, state.until_s - now_s)


def why_down(state: State, now_s: float) -> str | None:
    """Why a worker in `state` cannot take calls, or None if it can or soon will."""
    if not isinstance(state, Dead):
        return None
    if state.until_s is None:
        return state.reason
    if state.until_s <= now_s:
        return None
    return f"{state.reason}; starting again in {max(0.0, state.until_s - now_s):.1f} s"
