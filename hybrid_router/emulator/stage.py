"""What the emulators of other clouds share: their life on a port, who may ask, faults, and what was seen."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

from aiohttp import web
from msgspec.structs import replace

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.backends.tally import added
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import RouterError
from hybrid_router.core.event import Batch, Usage
from hybrid_router.emulator import control
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import FaultInvalid, from_header
from hybrid_router.emulator.settings import Account, Settings

SEEN = web.RequestKey("seen", SeenCall)
_SHUTDOWN_S = 0.05
_NOT_ALLOWED = 10000
_NO_SUCH = 7000


@dataclass(frozen=True, kw_only=True)
class RunningCloud:
    """An emulator that answers: what a router needs of it."""

    root: str
    token: str
    account: Account


class Stage:
    """One emulated cloud that is no Cloudflare.

    Args:
        failed: an error's document, as this cloud writes it.
    """

    def __init__(self, settings: Settings, failed: Callable[[Refusal], Any]) -> None:
        self.account = Account(settings)
        self._failed = failed

    def asked(self, answer: Answering) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """An address that `answer` answers, noted from its first byte to its last."""

        async def respond(request: web.Request) -> web.StreamResponse:
            calls = self.account.calls
            seen = request[SEEN] = calls.open(request.path, request.headers)
            try:
                response = await self._answered(request, seen, answer)
            except asyncio.CancelledError:
                calls.close(seen, "stopped" if self.account.stopping else "client_left")
                raise
            except ConnectionError:
                calls.close(seen, "cut" if seen.outcome == "cut" else "client_left")
                return web.Response()
            except BaseException:
                calls.close(seen, "cut")
                raise
            seen.status = response.status
            calls.close(seen, "cut" if seen.outcome == "cut" else "answered")
            return response

        return respond

    async def _answered(self, request: web.Request, seen: SeenCall, answer: Answering) -> web.StreamResponse:
        try:
            self._authorize(request)
            seen.auth_ok = True
            spec = request.headers.get("x-emulate")
            fault = self.account.faults.take() if spec is None else from_header(spec)
            delivery = Delivery(request, fault, seen, self.account.settings, self._failed)
            return await delivery.instead() or await answer(self, request, delivery)
        except Refusal as refusal:
            return self.refused(refusal)
        except FaultInvalid as error:
            return self.refused(Refusal(8001, f"x-emulate: {error}"))
        except RouterError as error:
            return self.refused(Refusal(8001, error.message, status=error.status))

    def _authorize(self, request: web.Request) -> None:
        """Whoever shows the token may ask; with an empty one anybody may."""
        token = self.account.settings.token
        scheme, _, shown = request.headers.get("authorization", "").partition(" ")
        known = secrets.compare_digest(shown.encode(), token.encode())
        if token and (scheme.lower() != "bearer" or not known):
            raise Refusal(_NOT_ALLOWED)

    def refused(self, refusal: Refusal) -> web.Response:
        """An error reply."""
        return web.json_response(self._failed(refusal), status=refusal.status, headers=refusal.headers)

    async def batches(self, call: Call) -> AsyncGenerator[Batch]:
        """The answer, a little at a time."""
        if call.operation is not Operation.COMPLETE or len(call.prompts) == 1:
            async with aclosing(self._paced(call)) as batches:
                async for batch in batches:
                    yield batch
            return
        usage: Usage | None = None
        for place, prompt in enumerate(call.prompts):  # the script reads one
            async for batch in self._paced(replace(call, prompts=(prompt,))):
                for event in batch:
                    if isinstance(event, Usage):
                        usage = event if usage is None else added(usage, event)
                    else:
                        yield [replace(event, index=event.index + place * call.n)]
        if usage is not None:
            yield [usage]

    async def _paced(self, call: Call) -> AsyncGenerator[Batch]:
        async with aclosing(self.account.played(call)) as batches:
            async for batch in batches:
                await asyncio.sleep(self.account.settings.token_delay_s)
                yield batch

    async def events(self, call: Call) -> Batch:
        """The whole answer."""
        return [event async for batch in self.batches(call) for event in batch]


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

    async def stopping(app: web.Application) -> None:
        stage.account.stopping = True

    app.router.add_route("*", "/{rest:.*}", unknown)
    app.on_shutdown.append(stopping)
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S, access_log=None, keepalive_timeout=60.0
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.port).start()
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        yield RunningCloud(root=f"http://{shown}:{port}", token=settings.token, account=stage.account)
    finally:
        await runner.cleanup()
