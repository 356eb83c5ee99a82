"""What every emulated cloud does on its port: listen, note what is asked, and let it go wrong if it shall."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeAlias

from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.fault import Fault, FaultInvalid, from_header
from hybrid_router.emulator.settings import Account

SEEN = web.RequestKey("seen", SeenCall)
FAULT_HEADER = "x-emulate"
_SHUTDOWN_S = 0.05
Respond: TypeAlias = Callable[[web.Request, SeenCall], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def listening(app: web.Application, account: Account) -> AsyncGenerator[str]:
    """Serve on the account's `host` and `port` until the block ends; calls in flight are then cut off.

    Yields its origin, `http://host:port`.

    Raises:
        OSError: the port is taken.
    """

    async def stopping(app: web.Application) -> None:
        account.stopping = True

    app.on_shutdown.append(stopping)
    runner = web.AppRunner(
        app, handler_cancellation=True, shutdown_timeout=_SHUTDOWN_S, access_log=None, keepalive_timeout=60.0
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, account.settings.host, account.settings.port).start()
        host, port = runner.addresses[0][:2]
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{port}"
    finally:
        await runner.cleanup()


async def noted(account: Account, request: web.Request, respond: Respond) -> web.StreamResponse:
    """Answer a call, and note it from its first byte to its last.

    Raises:
        Refusal: the call ends in an error.
    """
    calls = account.calls
    seen = request[SEEN] = calls.open(request.path, request.headers)
    try:
        response = await respond(request, seen)
    except Refusal as refusal:
        seen.status = refusal.status
        calls.close(seen, "refused")
        raise
    except asyncio.CancelledError:
        # Once the emulator stops, a call that is cancelled was not left by its client.
        calls.close(seen, "stopped" if account.stopping else "client_left")
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


def fault_of(request: web.Request, account: Account) -> Fault:
    """What shall go wrong: the header's wish, or the next planned one.

    Raises:
        Refusal: 8001, the header is no fault.
    """
    spec = request.headers.get(FAULT_HEADER)
    if spec is None:
        return account.faults.take()
    try:
        return from_header(spec)
    except FaultInvalid as error:
        raise Refusal(8001, f"{FAULT_HEADER}: {error}") from error
