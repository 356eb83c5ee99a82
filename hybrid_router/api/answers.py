"""What the HTTP side needs of the rest, and what it tells."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Protocol, TypeAlias

from msgspec import Struct

from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Plan
from hybrid_router.dispatch.record import Record


class Answers(Protocol):
    """Something that answers calls; `dispatch.service.Service` is the real one."""

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names a client may use as `model`."""
        ...

    def decide(self, call: Call) -> Record:
        """Plan `call`, or raise a `RouterError`."""
        ...

    def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Run a decided call."""
        ...

    def explain(self, call: Call) -> Plan:
        """The plan that `call` would get now; nothing is run, reserved or asked for it.

        Raises:
            ModelNotFound: no such alias.
        """
        ...

    async def decision(self, decision_id: str, principal: str) -> bytes | None:
        """A principal's decision record as JSON, without the call's text; None: there is none."""
        ...

    def unservable(self) -> dict[str, str]:
        """Alias → why nothing could serve it now."""
        ...


UNTOLD = 500  # what stays if nothing better was said: an exception that nobody expected


class Ended(Struct, kw_only=True):
    """How a call ended, as its client saw it.

    Attributes:
        request_id: the `x-request-id` header.
        status: HTTP status; 499 if the call was cut off before one was sent.
        error: code of the error that the client was told, in-band ones included; `client_gone` or
            `client_stall` if it could not be told, `cancelled` if we stopped; None after a whole answer.
        duration_s: from the request's head to the end.
    """

    request_id: str
    status: int = UNTOLD
    error: str | None = "server_error"
    duration_s: float = 0.0


class Refused(Struct, frozen=True, kw_only=True):
    """A request that got an error before it was a call.

    What the client chose is cut short and printable, and none of it is a header that carries a key.

    Attributes:
        request: the `x-request-id` header.
        error: the error's code.
        method, path: None if what came was no HTTP; the path is the route's pattern, or without its query
            what was asked for where there is no route.
        client: the address that the connection comes from.
        host: the name that is not allowed.
        origin: the web page that may not call.
    """

    request: str
    status: int
    error: str
    method: str | None = None
    path: str | None = None
    client: str | None = None
    host: str | None = None
    origin: str | None = None


OnCall: TypeAlias = Callable[[Call, Record | None, Ended], None]
OnRefusal: TypeAlias = Callable[[Refused], None]


def tell_nobody(call: Call, record: Record | None, ended: Ended) -> None:
    """The default `OnCall`."""


def pass_over(refused: Refused) -> None:
    """The default `OnRefusal`."""
