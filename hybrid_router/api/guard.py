"""Who may ask at all: host, origin, key.  One middleware; each check is a look-up or two."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

from aiohttp import web
from aiohttp.typedefs import Middleware

from hybrid_router.api import lost, responses
from hybrid_router.api.address import host_name
from hybrid_router.api.exchange import EXCHANGE, ON_REFUSAL, Exchange
from hybrid_router.api.failures import document_of, is_gateway
from hybrid_router.api.generation import Current
from hybrid_router.api.keyring import Keyring
from hybrid_router.api.refused import printable, refused
from hybrid_router.config.listen import parse_listen
from hybrid_router.config.schema import Server
from hybrid_router.core import ids
from hybrid_router.core.errors import (
    CallRefused,
    MethodNotAllowed,
    MisdirectedHost,
    NotAuthenticated,
    NotFound,
    NotPermitted,
    RouterError,
)

Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]
_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_WILDCARDS = frozenset({"0.0.0.0", "::", ""})  # noqa: S104 -- names that are never a Host
# No name server decides where these lead, so no page can have its own name point at them.
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})


class Guard:
    """The listening side's rules, ready to be asked."""

    def __init__(self, server: Server, public: frozenset[Respond]) -> None:
        listening = frozenset({parse_listen(server.listen)[0].lower()}) - _WILDCARDS
        self._hosts = frozenset(host.lower() for host in server.allowed_hosts) | listening | _THIS_MACHINE
        self._origins = frozenset(server.allowed_origins)
        self._keyring = Keyring(server.keys)
        self._public = public

    def admit(self, request: web.Request, exchange: Exchange) -> None:
        """Let the request pass.

        Raises:
            RouterError: it may not; the same for every wrong key, and before any word about what is
                behind the door.
        """
        self._check_host(request)
        self._check_origin(request, exchange)
        if (
            self._keyring
            and request.match_info.handler not in self._public
            and not _is_preflight(request, exchange)
        ):
            gateway = is_gateway(request.path)
            principal = self._keyring.principal(request.headers, gateway=gateway)
            if principal is None:
                header = "cf-aig-authorization" if gateway else "Authorization"  # what always counts there
                raise NotAuthenticated(f"a valid key is needed: send {header}: Bearer KEY")
            exchange.principal = principal

    def _check_host(self, request: web.Request) -> None:
        """DNS rebinding: a page whose name was made to point at us sends its own name as Host."""
        hosts = request.headers.getall("Host", ())
        if len(hosts) != 1 or host_name(hosts[0]) not in self._hosts:
            raise _misdirected(hosts[0] if len(hosts) == 1 else "")
        if request.raw_path[:1] != "/":
            self._check_target(request)

    def _check_target(self, request: web.Request) -> None:
        """A target in absolute form names a host of its own; other forms are for proxies."""
        if request.raw_path == "*":
            return
        if "://" not in request.raw_path:
            raise CallRefused("the request's target is not a path")
        if (request.url.raw_host or "").lower() not in self._hosts:
            raise _misdirected(request.url.raw_host or "")

    def _check_origin(self, request: web.Request, exchange: Exchange) -> None:
        """Web pages may call only if their origin is listed."""
        origins = request.headers.getall("Origin", ())
        if origins:
            if len(origins) != 1 or origins[0] not in self._origins:
                raise NotPermitted(
                    "web pages of this origin may not call; allowed_origins in router.yaml lists who may",
                    detail=printable(", ".join(origins)),
                )
            exchange.origin = origins[0]
        elif request.headers.get("Sec-Fetch-Site") == "cross-site":
            raise NotPermitted("web pages of other sites may not call; see allowed_origins in router.yaml")


def middleware(current: Current) -> Middleware:
    """The current generation's guard as aiohttp's middleware: it also turns errors into responses."""

    supply = ids.Supply()

    @web.middleware
    async def guarded(request: web.Request, handler: Respond) -> web.StreamResponse:
        exchange = request[EXCHANGE] = Exchange(
            supply.new("req_"), asyncio.get_running_loop().time(), document_of(request.path)
        )
        try:
            current.generation.admit(request, exchange)
            if _is_preflight(request, exchange):
                return responses.preflight()
            missed = request.match_info.http_exception
            if missed is None:
                return await handler(request)
            raise _missed(missed, request)
        except RouterError as error:
            if not exchange.told:
                request.app[ON_REFUSAL](refused(request, error))
            response = responses.failure(error, exchange)
            if isinstance(error, MethodNotAllowed):
                response.headers["allow"] = error.detail
            return response

    return guarded


def _misdirected(seen: str) -> MisdirectedHost:
    """The host that was asked for is named: whoever runs the client may not know what it sends.

    What is no host at all is not repeated: a slip may have put anything there.
    """
    if not _HOST.fullmatch(seen):
        return MisdirectedHost("the request names no host, or several: send one Host header, as in name:port")
    seen = printable(seen)
    return MisdirectedHost(
        f"the host {seen!r} is not in server.allowed_hosts of router.yaml: add it there if it is yours",
        detail=seen,
    )


def _is_preflight(request: web.Request, exchange: Exchange) -> bool:
    """Whether a browser asks on behalf of an allowed page if it may call.  It cannot send a key."""
    return (
        request.method == "OPTIONS"
        and exchange.origin is not None
        and "Access-Control-Request-Method" in request.headers
    )


def _missed(missed: web.HTTPException, request: web.Request) -> RouterError:
    """No such path, or not by this method."""
    if not isinstance(missed, web.HTTPMethodNotAllowed):
        known = {resource.canonical for resource in request.app.router.resources()}
        return NotFound(lost.advice(request.path, printable(request.host), known))
    allowed = ", ".join(sorted(missed.allowed_methods))
    return MethodNotAllowed(f"this address takes {allowed}", detail=allowed)
