"""The gateway host's addresses, and the API's where a header names a gateway."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable

import aiohttp
import msgspec
from aiohttp import web
from aiohttp.typedefs import Middleware
from msgspec.structs import replace

from hybrid_router.api.ai_gateway.names import WORKERS_AI, listing
from hybrid_router.api.failures import ACCOUNT as ACCOUNT_ID
from hybrid_router.core.errors import CallRefused
from hybrid_router.emulator.gateway import management, realtime
from hybrid_router.emulator.gateway.gateways import PlayedGateway, PlayedGateways
from hybrid_router.emulator.gateway.passing import Passing, Sent
from hybrid_router.emulator.gateway.providers import Providers
from hybrid_router.emulator.gateway.refused import GatewayRefusal
from hybrid_router.emulator.settings import Account
from hybrid_router.gateway import steps
from hybrid_router.gateway.controls import from_headers
from hybrid_router.gateway.steps import GatewayStep

_BASE = f"/v1/{{account_id:{ACCOUNT_ID}}}/{{gateway}}"
_API = "/client/v4"
_NAMED = "cf-aig-gateway-id"
_MOST_CONNECTIONS = 100
Authorize = Callable[[web.Request], Account]
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def mount(app: web.Application, account: Account, authorize: Authorize) -> None:
    """Add the host, its management, and what `cf-aig-gateway-id` does elsewhere, to an application."""
    gateways = PlayedGateways(account.settings.now)
    host = _Host(account, gateways)
    app.cleanup_ctx.append(host.connected)
    app.middlewares.append(host.by_header)
    app.add_routes(
        [
            web.post(_BASE, _told(host.universal)),
            web.post(_BASE + "/", _told(host.universal)),
            web.get(_BASE, _told(host.socket), allow_head=False),
            web.get(_BASE + "/", _told(host.socket), allow_head=False),
            web.get(_BASE + "/compat/models", _told(host.models)),
            web.post(_BASE + "/{provider}/{endpoint:.+}", _told(host.provider)),
            *management.routes(_API + "/accounts/{account_id}/ai-gateway/gateways", gateways, authorize),
        ]
    )


class _Host:
    def __init__(self, account: Account, gateways: PlayedGateways) -> None:
        self._account = account
        self._gateways = gateways
        self._http: aiohttp.ClientSession | None = None

    async def connected(self, app: web.Application) -> AsyncGenerator[None]:
        """Have a client of providers as long as the application runs."""
        connector = aiohttp.TCPConnector(limit=_MOST_CONNECTIONS)
        timeout = aiohttp.ClientTimeout(total=None)  # a gateway waits as long as its caller
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as http:
            self._http = http
            yield

    @property
    def by_header(self) -> Middleware:
        """Send inference calls of the API that name a gateway through it."""

        through = _told(self._through, GatewayRefusal.in_the_envelope)

        @web.middleware
        async def by_header(request: web.Request, handler: Respond) -> web.StreamResponse:
            is_named = _NAMED in request.headers and request.method == "POST" and "/ai/" in request.path
            return await (through if is_named else handler)(request)

        return by_header

    async def universal(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/{account}/{gateway}: a list of steps."""
        gateway = self._opened(request)
        asked = steps.read(await request.read(), keeps_headers=True)
        wishes = from_headers(request.headers)
        return await self._passing(request, gateway).run(request, asked, wishes)

    async def socket(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/{account}/{gateway} with an upgrade."""
        if not web.WebSocketResponse().can_prepare(request).ok:
            raise web.HTTPMethodNotAllowed(request.method, ["POST"])
        self._opened(request)
        return await realtime.converse(request, self._client, _own_url(request) + request.path)

    async def provider(self, request: web.Request) -> web.StreamResponse:
        """POST /v1/{account}/{gateway}/{provider}/…"""
        gateway = self._opened(request)
        endpoint = request.match_info["endpoint"].strip("/")
        step = GatewayStep(provider=request.match_info["provider"].lower(), endpoint=endpoint)
        return await self._one(request, gateway, step)

    async def _through(self, request: web.Request) -> web.StreamResponse:
        """The same from an address of the API: its path says what is asked of Workers AI."""
        if (gateway := self._gateways.find(request.headers[_NAMED])) is None:
            raise GatewayRefusal(2001)
        step = GatewayStep(provider=WORKERS_AI, endpoint=request.path.partition("/ai/")[2])
        return await self._one(request, gateway, step)

    async def _one(
        self, request: web.Request, gateway: PlayedGateway, step: GatewayStep
    ) -> web.StreamResponse:
        content = await request.read()
        if (query := _object(content)) is not None:
            step = replace(step, query=query)
        sent = Sent(content=content, headers=request.headers, parameters=list(request.query.items()))
        wishes = from_headers(request.headers)
        passing = self._passing(request, gateway)
        return await passing.run(request, [step], wishes, sent)

    async def models(self, request: web.Request) -> web.Response:
        """GET /v1/{account}/{gateway}/compat/models."""
        self._opened(request)
        names = [f"{WORKERS_AI}/{name}" for name in self._account.models]
        return web.json_response(listing(names, 0, WORKERS_AI))

    def _opened(self, request: web.Request) -> PlayedGateway:
        """The gateway that the path names, if the caller may use it.

        Raises:
            GatewayRefusal: 2001 there is none, 2009 it wants its own token.
        """
        gateway = self._gateways.find(request.match_info["gateway"])
        if gateway is None or request.match_info["account_id"] != self._account.settings.account_id:
            raise GatewayRefusal(2001)
        scheme, _, token = realtime.credential(request).partition(" ")
        known = secrets.compare_digest(token.strip().encode(), self._account.settings.gateway_token.encode())
        if gateway.settings.authentication and not (known and scheme.lower() == "bearer"):
            raise GatewayRefusal(2009)
        return gateway

    @property
    def _client(self) -> aiohttp.ClientSession:
        if self._http is None:
            raise RuntimeError("the application does not run")
        return self._http

    def _passing(self, request: web.Request, gateway: PlayedGateway) -> Passing:
        settings = self._account.settings
        own = f"{_own_url(request)}{_API}/accounts/{settings.account_id}/ai"
        return Passing(self._account, gateway, Providers(own, settings.upstreams), self._client)


def _told(
    respond: Respond, write: Callable[[GatewayRefusal], web.Response] = GatewayRefusal.on_the_host
) -> Respond:
    """An answer, or the gateway's own error."""

    async def answered(request: web.Request) -> web.StreamResponse:
        try:
            return await respond(request)
        except GatewayRefusal as refused:
            return write(refused)
        except CallRefused as refused:
            return write(GatewayRefusal(2005, refused.message, status=400))

    return answered


def _own_url(request: web.Request) -> str:
    """Where this very emulator listens, whatever name its caller has for it."""
    if request.transport is None:
        raise ConnectionResetError("the caller has left")
    host, port = request.transport.get_extra_info("sockname")[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _object(content: bytes) -> object | None:
    """A JSON body; None: it is none, and goes on as it is."""
    if content.lstrip()[:1] != b"{":
        return None
    try:
        found: object = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return found
