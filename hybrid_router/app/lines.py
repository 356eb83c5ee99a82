"""What is logged of what happens: each function fits a place where something is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from msgspec import structs

from hybrid_router.api.answers import Ended, Refused
from hybrid_router.core.call import Call
from hybrid_router.dispatch.record import Record
from hybrid_router.engines.task import Opened
from hybrid_router.observe.bridge import PerSecond
from hybrid_router.observe.logs import Logs
from hybrid_router.workers.choice import Eviction
from hybrid_router.workers.life import Absent, Dead, Loading, Resident, State

_REFUSED_PER_SECOND = 10  # of each error; so a flood can neither fill the log nor hide another error in it
_ALARMING = frozenset({401, 403, 421})  # somebody knocks who may not come in, or was not let in by mistake


def child_line(logs: Logs, name: str, line: str) -> None:
    """A line of a child's standard error."""
    logs.logger.debug("worker says", model=name, line=line)


def state_line(logs: Logs, name: str, state: State) -> None:
    """A worker has become something else."""
    match state:
        case Loading():
            logs.logger.debug("model loading", model=name)
        case Resident(opened, load_s=load_s):
            logs.logger.info("model resident", model=name, load_s=round(load_s, 3), **_described(opened))
        case Absent(eviction):
            logs.logger.info("model evicted", model=name, **({} if eviction is None else _told(eviction)))
        case Dead(reason, until_s):
            logs.logger.error("worker died", model=name, reason=reason, restarts=until_s is not None)


def _described(opened: Opened) -> dict[str, Any]:
    """What an operator wants to know of a model; what an engine does not have is left out."""
    told = {
        "description": opened.description,
        "parallel": opened.parallel,
        "context": opened.context,
        "gpu_layers": opened.gpu_layers,
        "has_template": opened.has_template or None,
        "width": opened.width or None,
        "can": ", ".join(sorted(opened.can)) or None,
        "sandbox": "; ".join(opened.unguarded) or "whole",
    }
    return {name: value for name, value in told.items() if value is not None}


def _told(eviction: Eviction) -> dict[str, str | int]:
    """Why a model went, and for whom."""
    told: dict[str, str | int] = {"reason": eviction.reason}
    if eviction.beneficiary is not None:
        told["for"] = eviction.beneficiary
    told["ram_bytes"] = eviction.freed.ram_bytes
    if eviction.freed.vram_bytes:
        told["vram_bytes"] = eviction.freed.vram_bytes
    return told


def call_line(logs: Logs, call: Call, record: Record | None, ended: Ended) -> None:
    """A call has ended.  Fits `OnCall`."""
    logs.call_line(
        request_id=ended.request_id,
        method="POST",
        path=call.path,
        status=ended.status,
        duration_s=ended.duration_s,
        principal=call.principal,
        alias=call.alias,
        decision=None if record is None else record.id,
        error=ended.error,
    )


def refused_line(logs: Logs) -> Callable[[Refused], None]:
    """What writes that a request was turned away, a few of each error a second.  Fits `OnRefusal`."""
    per_second = PerSecond(_REFUSED_PER_SECOND)

    def write(refused: Refused) -> None:
        held_back_count = per_second.admit(refused.error)
        if held_back_count is None:
            return
        fields = {name: value for name, value in structs.asdict(refused).items() if value is not None}
        if held_back_count:
            fields["held_back_count"] = held_back_count
        log = logs.logger.warning if refused.status in _ALARMING else logs.logger.info
        log("refused", **fields)

    return write
