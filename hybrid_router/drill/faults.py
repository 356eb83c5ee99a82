"""The ways in which a step fails in a drill, on both sides: a cloud's and this machine's."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

from hybrid_router.core.step import Step
from hybrid_router.emulator import fault as emulated

Where: TypeAlias = Literal["emulator", "closed", "no_name", "no_route", "no_answer"]
Local: TypeAlias = Literal["dead", "killed", "silent", "loading", "slow", "stall", "reset", "busy", "error"]

MIDDLE = 5  # events of a stream before it goes wrong
_SLOW_SHARE = 0.8  # of the policy's wait for the first token


class Cloud(Struct, frozen=True, kw_only=True):
    """A cloud's failure: where its address leads, and what the emulator does there."""

    where: Where = "emulator"
    fault: emulated.Fault = emulated.NO_FAULT
    is_slow: bool = False

    def emulated(self, step: Step) -> emulated.Fault:
        """What the emulator does to a call of `step`."""
        if self.is_slow:
            return emulated.Fault(delay_first_s=_SLOW_SHARE * step.timeouts.first_token_s)
        return self.fault


class Fault(Struct, frozen=True, kw_only=True):
    """One way to fail.

    Attributes:
        title, local_title: what a cloud, and what a model on this machine does; empty: it has no such way.
        cloud, local: how it is done.
        everywhere: only ever done to all clouds at once.
    """

    name: str
    title: str = ""
    local_title: str = ""
    cloud: Cloud | None = None
    local: Local | None = None
    everywhere: bool = False


DEAD: Local = "dead"
REFUSING = Cloud(where="closed")


def _cloud(name: str, title: str, fault: emulated.Fault) -> Fault:
    """A way to fail that only clouds have."""
    return Fault(name=name, title=title, cloud=Cloud(fault=fault))


def _both(name: str, title: str, fault: emulated.Fault, local_title: str, local: Local) -> Fault:
    return Fault(
        name=name, title=title, cloud=Cloud(fault=fault), local_title=local_title or title, local=local
    )


_SILENT, _STALLS = "accepts the call and stays silent", "falls silent in the middle"
FAULTS: tuple[Fault, ...] = (
    Fault(
        name="refuse",
        title="refuses connections",
        cloud=REFUSING,
        local_title="its process is dead",
        local=DEAD,
    ),
    Fault(name="killed", local_title="its process is killed before the first token", local="killed"),
    Fault(name="loading", local_title="its model is not loaded in time", local="loading"),
    Fault(name="no_answer", title="no connection comes about", cloud=Cloud(where="no_answer")),
    Fault(name="no_name", title="its name does not resolve", cloud=Cloud(where="no_name")),
    Fault(name="offline", title="this machine is offline", cloud=Cloud(where="no_route"), everywhere=True),
    _both("hang", _SILENT, emulated.Fault(hang="before_headers"), "", "silent"),
    _cloud("headers", "sends headers, then nothing", emulated.Fault(hang="after_headers")),
    Fault(
        name="slow",
        title="needs most of the wait for its first token",
        cloud=Cloud(is_slow=True),
        local_title="needs most of the wait for its first token",
        local="slow",
    ),
    _both("stall", _STALLS, emulated.Fault(stall_after=MIDDLE), "", "stall"),
    _cloud("cut", "ends in the middle", emulated.Fault(close_after=MIDDLE)),
    _both(
        "reset",
        "resets the connection in the middle",
        emulated.Fault(cut_after=MIDDLE),
        "its process is killed in the middle",
        "reset",
    ),
    _cloud("malformed", "talks nonsense in the middle", emulated.Fault(malformed_after=MIDDLE)),
    _both("rate", "its rate limit is reached (3021)", emulated.Fault(code=3021), "its queue is full", "busy"),
    _cloud("capacity", "it is out of capacity (3040)", emulated.Fault(code=3040)),
    _cloud("quota", "the day's neurons are spent (3036)", emulated.Fault(code=3036)),
    _cloud("quota_4006", "the day's neurons are spent (4006)", emulated.Fault(code=4006)),
    _both("error", "internal error", emulated.Fault(status=500), "its engine fails", "error"),
    _cloud("gateway", "a proxy's page with status 502", emulated.Fault(html=True, status=502)),
)
