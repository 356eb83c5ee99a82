"""The states of a worker and what follows from them.  Pure."""

from __future__ import annotations

from typing import TypeAlias

from msgspec import Struct

from hybrid_router.engines.task import Opened

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 60.0
_STEADY_AFTER_S = 60.0


class Absent(Struct, frozen=True):
    """No child, and nobody asked for one yet."""


class Loading(Struct, frozen=True):
    """A child is opening the model since `since_s`."""

    since_s: float


class Resident(Struct, frozen=True):
    """A child serves, since `since_s`."""

    opened: Opened
    since_s: float


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
