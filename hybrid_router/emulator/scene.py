"""A stage for clouds whose tokens, streams and addresses are not like OpenAI's."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core.errors import RouterError
from hybrid_router.emulator.calls import SeenCall, without_secrets
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import NO_FAULT, Fault, FaultInvalid, from_header
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import SEEN, Answering, Stage

_BAD = 8001


class Scene(Stage):
    """See `Stage`.

    Args:
        shown: the token that a request shows; None: the request needs none.
    """

    def __init__(
        self,
        settings: Settings,
        failed: Callable[[Refusal], Any],
        shown: Callable[[web.Request], str | None],
    ) -> None:
        super().__init__(settings, failed)
        self._shown = shown

    async def _answered(self, request: web.Request, seen: SeenCall, answer: Answering) -> web.StreamResponse:
        try:
            shown = self._shown(request)
            if shown is not None:
                self._check(shown)
            seen.auth_ok = shown is not None
            fault = self._fault(request)
            delivery = Delivery(request, fault, seen, self.account.settings, self._failed)
            return await delivery.instead() or await answer(self, request, delivery)
        except Refusal as refusal:
            return self.refused(refusal)
        except RouterError as error:
            return self.refused(Refusal(_BAD, error.message, status=error.status))

    def _check(self, shown: str) -> None:
        if not secrets.compare_digest(shown.encode(), self.account.settings.token.encode()):
            raise Refusal(_BAD, "the token is not known", status=401)

    def _fault(self, request: web.Request) -> Fault:
        """What shall go wrong: the header's wish, or what is planned for the next thing that is asked."""
        spec = request.headers.get("x-emulate")
        if spec is None:
            return self.account.faults.take() if self._is_ask(request) else NO_FAULT
        try:
            return from_header(spec)
        except FaultInvalid as error:
            raise Refusal(_BAD, f"x-emulate: {error}", status=400) from error

    def _is_ask(self, request: web.Request) -> bool:
        """Whether an answer is asked for, and not only looked at or cancelled."""
        return request.method == "POST" and not request.path.endswith("/cancel")


class NamedDelivery(Delivery):
    """A delivery of events that are written already.

    Args:
        frame: the event that tells an error.
    """

    def __init__(self, plain: Delivery, fault: Fault, frame: Callable[[Refusal], bytes]) -> None:
        super().__init__(plain._request, fault, plain._seen, plain._settings, plain._failed)  # noqa: SLF001
        self._frame = frame

    async def frames(self, frames: AsyncIterator[bytes]) -> web.StreamResponse:
        """Send events, each as it is written."""
        await self._open("text/event-stream", {"cache-control": "no-cache"})
        if self._fault.pings:
            await self._ping()
            return self._response
        async for frame in frames:
            if self._seen.events_sent == self._fault.error_after:
                status, message = self._fault.status or 529, self._fault.message or "Overloaded"
                await self._write(self._frame(Refusal(_BAD, message, status=status)))
                break
            if not await self._event(frame):
                return self._response
        await self._response.write_eof()
        return self._response


async def read_object(request: web.Request) -> dict[str, Any]:
    """The request's JSON object, noted; an empty one of a request without a body.

    Raises:
        Refusal: it is none, or too large.
    """
    try:
        raw = await request.read()
        body = msgspec.json.decode(raw, type=dict[str, Any]) if raw else {}
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(_BAD, "the request is too large", status=413) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refusal(_BAD, f"the body is no JSON object: {error}", status=400) from None
    seen = request[SEEN]
    seen.model, seen.stream, seen.body = body.get("model"), bool(body.get("stream")), without_secrets(body)
    return body


def invalid(message: str, status: int = 400) -> Refusal:
    """A call that is at fault."""
    return Refusal(_BAD, message, status=status)
