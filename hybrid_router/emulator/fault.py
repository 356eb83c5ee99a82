"""What shall go wrong with a call, and the list of calls it shall go wrong with.

Written as a JSON object, or as `name=value, name, …` in the header `x-emulate`:

    status=429, code=3040, retry-after=2        hang=after_headers
    cut_after=3                                 pings
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.workers_ai.refusal import TABLE

Seconds = Annotated[float, Meta(ge=0, le=600)]
Events = Annotated[int, Meta(ge=0)]

INSTEAD = ("status", "redirect", "html", "hang")
ENDINGS = ("stall_after", "cut_after", "close_after", "error_after", "pings")


class FaultInvalid(ValueError):
    """A fault that nobody can act out; the text says why."""


class Fault(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One way to go wrong.  An event is one `data:` line of a stream, `[DONE]` included.

    A plain reply, JSON or a file, has no events: there the kinds named `…_after` act in the middle of the
    body, and `error_after` makes it a failed envelope with status 200.

    Attributes:
        status, code, message, retry_after: refuse so; status and message default to the code's own.
        redirect: answer 302 to this location.
        html: answer with a page, as a proxy in between would; `status` is its status (200).
        hang: never answer, `before_headers` or `after_headers`.
        delay_headers_s, delay_first_s: wait before the headers, and between them and the first byte.
        stall_after: say nothing more after this many events.
        cut_after: reset the connection.
        close_after: end the reply cleanly, without `[DONE]`.
        malformed_after: send one line that is no JSON, then go on.
        error_after: send a failed envelope as an event, then end.
        pings: nothing but SSE comments, for ever.
        plain: answer in plain JSON although a stream was asked for.
        numeric: send text that reads as a number as a JSON number.
        doubled_done: say `[DONE]` twice.
        bytewise: one byte a write.
        drip_s: wait so long after each of these bytes.
    """

    status: Annotated[int, Meta(ge=200, le=599)] | None = None
    code: int | None = None
    message: str | None = None
    retry_after: str | None = None
    redirect: str | None = None
    html: bool = False
    hang: Literal["before_headers", "after_headers"] | None = None
    delay_headers_s: Seconds = 0.0
    delay_first_s: Seconds = 0.0
    stall_after: Events | None = None
    cut_after: Events | None = None
    close_after: Events | None = None
    malformed_after: Events | None = None
    error_after: Events | None = None
    pings: bool = False
    plain: bool = False
    numeric: bool = False
    doubled_done: bool = False
    bytewise: bool = False
    drip_s: Seconds = 0.0

    @property
    def refuses(self) -> bool:
        """Whether it asks for a failed reply; with `error_after` the code is told inside the stream."""
        if self.error_after is not None:
            return False
        return self.code is not None or (self.status is not None and not self.html)


class Planned(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fault for the next `count` calls."""

    fault: Fault
    count: Annotated[int, Meta(ge=1)] = 1


NO_FAULT = Fault()


def from_header(spec: str) -> Fault:
    """Read the header `x-emulate`.

    Raises:
        FaultInvalid: it is not a fault; the text names the key.
    """
    if spec.lstrip().startswith("{"):
        return _fault(_object(spec.encode()), strict=True)
    fields: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in spec.replace(";", ",").split(","))):
        name, given, value = item.partition("=")
        fields[name.strip().replace("-", "_")] = value.strip() if given else True
    return _fault(fields, strict=False)


def from_json(body: bytes) -> Planned:
    """Read `{"count": 2, "status": 500, …}`.

    Raises:
        FaultInvalid: it is not a fault; the text names the key.
    """
    fields = _object(body)
    count = fields.pop("count", 1)
    try:
        return Planned(
            fault=_fault(fields, strict=True), count=msgspec.convert(count, Annotated[int, Meta(ge=1)])
        )
    except msgspec.ValidationError as error:
        raise FaultInvalid(f"count: {error}") from error


def _object(body: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.DecodeError as error:
        raise FaultInvalid(f"a fault is a JSON object: {error}") from error


def _fault(fields: dict[str, Any], *, strict: bool) -> Fault:
    """Convert, then refuse combinations that contradict each other."""
    try:
        fault = msgspec.convert(fields, Fault, strict=strict)
    except msgspec.ValidationError as error:
        raise FaultInvalid(str(error)) from error
    instead = [name for name in INSTEAD if getattr(fault, name)]
    if fault.html and fault.status:
        instead.remove("status")
    endings = [name for name in ENDINGS if getattr(fault, name) not in (None, False)]
    for names in (instead, endings):
        if len(names) > 1:
            raise FaultInvalid(f"choose one of {' and '.join(names)}: a call ends only once")
    _check_companions(fault)
    return fault


def _check_companions(fault: Fault) -> None:
    """Some words say how another one is acted out, and nothing by themselves."""
    if fault.message and not (fault.refuses or fault.error_after is not None):
        raise FaultInvalid("message needs a status, a code or error_after beside it")
    if fault.retry_after and not fault.refuses:
        raise FaultInvalid("retry_after needs a status or a code beside it")
    if fault.drip_s and not fault.bytewise:
        raise FaultInvalid("drip_s needs bytewise beside it")
    if fault.refuses and fault.status is None and fault.code not in TABLE:
        raise FaultInvalid(f"code {fault.code} is not in the error table: give a status with it")


class FaultQueue:
    """Faults in the order in which calls will meet them."""

    def __init__(self) -> None:
        self._planned: list[Planned] = []

    @property
    def planned(self) -> tuple[Planned, ...]:
        """What is still to come."""
        return tuple(self._planned)

    def add(self, fault: Fault, count: int = 1) -> None:
        """The next `count` calls (after those already planned) go wrong so."""
        self._planned.append(Planned(fault=fault, count=count))

    def clear(self) -> None:
        """Let everything go well again."""
        self._planned.clear()

    def take(self) -> Fault:
        """The fault of the call that is being made now."""
        if not self._planned:
            return NO_FAULT
        first = self._planned.pop(0)
        if first.count > 1:
            self._planned.insert(0, Planned(fault=first.fault, count=first.count - 1))
        return first.fault
