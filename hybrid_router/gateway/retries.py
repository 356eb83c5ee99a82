"""When a step is tried again, and how long its answer may take to begin."""

from __future__ import annotations

from hybrid_router.gateway.controls import Controls

LONGEST_WAIT_S = 60.0
LONGEST_S = 600.0  # of a request with all its steps: no other try begins later than this


def wait_s(controls: Controls, failed_count: int) -> float:
    """The pause after the so-manieth try failed, from 1: the same each time, growing, or doubling."""
    delay_s = controls.retry_delay_s or 0.0
    match controls.backoff:
        case "linear":
            delay_s *= failed_count
        case "exponential":
            delay_s *= 2 ** (failed_count - 1)
    return min(delay_s, LONGEST_WAIT_S)


def may_go_on(elapsed_s: float, pause_s: float = 0.0) -> bool:
    """Whether another try may begin after a pause: a caller who asks for many gets no endless silence."""
    return elapsed_s + pause_s < LONGEST_S


def within_s(controls: Controls, try_count: int, *, last_step: bool) -> float | None:
    """How long the so-manieth try, from 1, may take to begin its answer.

    The last of several tries waits without a limit: nothing is left to do instead.  A step that others
    come after never does, and a call that is tried once has the limit that it asks for.
    """
    if last_step and 1 < controls.tries == try_count:
        return None
    return controls.request_timeout_s
