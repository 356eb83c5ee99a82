"""What the emulators of other clouds share: their addresses, who may ask, faults, and what was seen."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch
from hybrid_router.emulator import control
from hybrid_router.emulator.calls import SeenCall, without_secrets
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import NO_FAULT, Fault
from hybrid_router.emulator.port import FAULT_HEADER, SEEN, fault_of, listening, noted
from hybrid_router.emulator.settings import Account, Settings

_BAD = 8001
_NOT_ALLOWED = 10000
_NO_SUCH = 7000
_TOO_LARGE = 3006
_OVERLOADED = 529
_UNPROCESSABLE = 422
Count: TypeAlias = Annotated[int, Meta(ge=1)]


@dataclass(frozen=True, kw_only=True)
class RunningCloud:
    """An emulator that answers: what a router needs of it."""

    root: str
    token: str
    account: Account


def bearer(request: web.Request) -> str:
    """The token that a request shows; empty, if it shows none."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme.lower() == "bearer" else ""


class Stage:
    """One emulated cloud that is no Cloudflare.

    Args:
        failed: an error's document, as this cloud writes it.
        shown: the token that a request shows; None: the request needs none.
    """

    def __init__(
        self,
        settings: Settings,
        failed: Callable[[Refusal], Any],
        shown: Callable[[web.Request], str | None] = bearer,
    ) -> None:
        self.account = Account(settings)
        self._failed = failed
        self._shown = shown

    def asked(self, answer: Answering) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """An address that `answer` answers, noted from its first byte to its last."""

        async def answered(request: web.Request, seen: SeenCall) -> web.StreamResponse:
            try:
                seen.auth_ok = self._authorized(request)
                delivery = Delivery(request, self._fault(request), seen, self.account.settings, self._failed)
                return await delivery.instead() or await answer(self, request, delivery)
            except web.HTTPRequestEntityTooLarge:
                raise Refusal(_TOO_LARGE, "the request is too large") from None
            except RouterError as error:
                raise Refusal(_BAD, error.message, status=error.status) from error

        async def respond(request: web.Request) -> web.StreamResponse:
            try:
                return await noted(self.account, request, answered)
            except Refusal as refusal:
                return self.refused(refusal)

        return respond

    def _authorized(self, request: web.Request) -> bool:
        """Whether the token was shown; with an empty one anybody may ask.

        Raises:
            Refusal: another one was, or none.
        """
        shown, token = self._shown(request), self.account.settings.token
        if shown is None:
            return False
        if token and not secrets.compare_digest(shown.encode(), token.encode()):
            raise Refusal(_NOT_ALLOWED)
        return True

    def _fault(self, request: web.Request) -> Fault:
        """Planned faults wait for something to be asked, and not only looked at or cancelled."""
        asks = request.method == "POST" and not request.path.endswith("/cancel")
        return fault_of(request, self.account) if asks or FAULT_HEADER in request.headers else NO_FAULT

    def refused(self, refusal: Refusal) -> web.Response:
        """An error reply."""
        return web.json_response(self._failed(refusal), status=refusal.status, headers=refusal.headers)

    async def batches(self, call: Call) -> AsyncGenerator[Batch]:
        """The answer, a little at a time."""
        async with aclosing(self.account.played(call)) as batches:
            async for batch in batches:
                await asyncio.sleep(self.account.settings.token_delay_s)
                yield batch

    async def events(self, call: Call) -> Batch:
        """The whole answer."""
        async with aclosing(self.batches(call)) as batches:
            return [event async for batch in batches for event in batch]


Answering: TypeAlias = Callable[[Stage, web.Request, Delivery], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def on_stage(
    stage: Stage, routes: Iterable[tuple[str, Answering] | web.RouteDef]
) -> AsyncGenerator[RunningCloud]:
    """Serve these addresses until the block ends, by POST where only a path is given; then cut calls off.

    Raises:
        OSError: the port is taken.
    """
    settings = stage.account.settings
    app = web.Application(client_max_size=settings.body_limit_bytes)
    app.add_routes(
        each if isinstance(each, web.RouteDef) else web.post(each[0], stage.asked(each[1])) for each in routes
    )
    app.add_routes(control.routes(stage.account))

    async def unknown(request: web.Request) -> web.Response:
        return stage.refused(Refusal(_NO_SUCH, f"there is no {request.method} {request.path}", status=404))

    app.router.add_route("*", "/{rest:.*}", unknown)
    async with listening(app, stage.account) as root:
        yield RunningCloud(root=root, token=settings.token, account=stage.account)


async def read_object(request: web.Request) -> dict[str, Any]:
    """The request's JSON object, noted; an empty one of a request without a body.

    Raises:
        Refusal: it is none.
    """
    raw = await request.read()
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise invalid(f"the body is no JSON object: {error}") from None
    note(request, body)
    return body


def checked(given: Any, kind: Any, told: str) -> Any:
    """What a call gives, as what it must be.

    Args:
        told: the error's message, with `{path}`, such as `.width` or `[0]`, and `{why}`.

    Raises:
        Refusal: 422, it is something else.
    """
    try:
        return msgspec.convert(given, kind)
    except msgspec.ValidationError as error:
        why, _, path = str(error).partition(" - at `$")
        raise invalid(told.format(path=path.removesuffix("`"), why=why), _UNPROCESSABLE) from None


def note(request: web.Request, body: dict[str, Any]) -> None:
    """Let what is asked be seen, without its secrets."""
    seen = request[SEEN]
    seen.model, seen.stream, seen.body = body.get("model"), bool(body.get("stream")), without_secrets(body)


def invalid(message: str, status: int = 400) -> Refusal:
    """A call that is at fault."""
    return Refusal(_BAD, message, status=status)


def interrupted(fault: Fault) -> Refusal:
    """The error that a stream of named events is to end with."""
    return Refusal(_BAD, fault.message or "Overloaded", status=fault.status or _OVERLOADED)
