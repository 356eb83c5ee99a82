"""The API's addresses about gateways: make, show, change, delete them, and their logs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.core.errors import CallRefused
from hybrid_router.emulator.gateway.gateways import PlayedGateway, PlayedGateways
from hybrid_router.emulator.settings import Account
from hybrid_router.gateway import log_filter, logbook
from hybrid_router.gateway.logbook import MOST_REMOVED, Entry

T = TypeVar("T")
_MISSING, _INVALID = 7002, 7400
_PAGE, _MOST_PAGE = 20, 1000
Authorize = Callable[[web.Request], Account]
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]


def routes(base: str, gateways: PlayedGateways, authorize: Authorize) -> list[web.RouteDef]:
    """What is below `…/ai-gateway/gateways`; the account's token opens all of it."""
    desk = _Desk(gateways)

    def opened(respond: Respond) -> Respond:
        async def answered(request: web.Request) -> web.StreamResponse:
            authorize(request)
            try:
                return await respond(request)
            except CallRefused as refused:
                raise Refusal(_INVALID, refused.message, status=400) from None

        return answered

    one, logs = base + "/{gateway}", base + "/{gateway}/logs"
    table: list[tuple[str, str, Respond]] = [
        ("POST", base, desk.create),
        ("GET", base, desk.listing),
        ("GET", one, desk.show),
        ("PUT", one, desk.update),
        ("DELETE", one, desk.delete),
        ("GET", one + "/url/{provider}", desk.address),
        ("GET", logs, desk.logs),
        ("DELETE", logs, desk.remove),
        ("GET", logs + "/{id}", desk.entry),
        ("PATCH", logs + "/{id}", desk.say),
        ("GET", logs + "/{id}/{side:request|response}", desk.payload),
    ]
    return [web.route(method, path, opened(respond)) for method, path, respond in table]


class _Desk:
    def __init__(self, gateways: PlayedGateways) -> None:
        self._gateways = gateways

    async def create(self, request: web.Request) -> web.Response:
        """Make a gateway."""
        return _told(msgspec.to_builtins(self._gateways.create(await _body(request))))

    async def listing(self, request: web.Request) -> web.Response:
        """All gateways, by page."""
        page = logbook.count(request.query, "page", 1, 10**6)
        per_page = logbook.count(request.query, "per_page", _PAGE, _MOST_PAGE)
        search = request.query.get("search", "")
        found = [each for each in self._gateways.all() if search in each.id]
        rows = found[(page - 1) * per_page : page * per_page]
        told = {"count": len(rows), "page": page, "per_page": per_page, "total_count": len(found)}
        return _told(msgspec.to_builtins(rows), result_info=told)

    async def show(self, request: web.Request) -> web.Response:
        """One gateway."""
        return _told(msgspec.to_builtins(self._gateway(request).settings))

    async def update(self, request: web.Request) -> web.Response:
        """Give a gateway other settings."""
        updated = self._gateways.update(request.match_info["gateway"], await _body(request))
        return _told(msgspec.to_builtins(updated))

    async def delete(self, request: web.Request) -> web.Response:
        """Forget a gateway."""
        return _told(msgspec.to_builtins(self._gateways.delete(request.match_info["gateway"])))

    async def address(self, request: web.Request) -> web.Response:
        """A provider's base URL at the host."""
        self._gateway(request)
        named = request.match_info
        path = f"/v1/{named['account_id']}/{named['gateway']}/{named['provider']}"
        return _told(f"{request.url.origin()}{path}")

    async def logs(self, request: web.Request) -> web.Response:
        """A page of the log."""
        wanted = logbook.wanted(request.query, log_filter.filters(list(request.query.items())))
        entries, told = self._gateway(request).log.listing("", wanted)
        return _told([entry.document() for entry in entries], result_info=told)

    async def remove(self, request: web.Request) -> web.Response:
        """Forget entries."""
        filters = log_filter.filters(list(request.query.items()))
        limit = logbook.count(request.query, "limit", MOST_REMOVED, MOST_REMOVED, least=0)
        self._gateway(request).log.remove("", filters, limit)
        return _told({})

    async def entry(self, request: web.Request) -> web.Response:
        """One entry, with the beginnings of what was asked and answered."""
        found = self._entry(request)
        asked, answered = self._gateway(request).payloads.get(found.id, (b"", b""))
        told = found.details()
        for side, content in (("request", asked), ("response", answered)):
            told[f"{side}_size"] = len(content)
            told[f"{side}_head"] = content.decode("utf-8", "replace")
            told[f"{side}_head_complete"] = True
        return _told(told)

    async def say(self, request: web.Request) -> web.Response:
        """Feedback, a score, metadata."""
        patch = logbook.patch(await request.read())
        changed = self._gateway(request).log.patch(request.match_info["id"], "", patch)
        return _told(_there(changed).document())

    async def payload(self, request: web.Request) -> web.Response:
        """What was asked or answered, as it was."""
        sides = self._gateway(request).payloads.get(self._entry(request).id, (b"", b""))
        content = sides[request.match_info["side"] == "response"]
        is_json = content[:1] in (b"{", b"[")
        return web.Response(body=content, content_type="application/json" if is_json else "text/plain")

    def _gateway(self, request: web.Request) -> PlayedGateway:
        return self._gateways.get(request.match_info["gateway"])

    def _entry(self, request: web.Request) -> Entry:
        return _there(self._gateway(request).log.find(request.match_info["id"], ""))


def _there(entry: T | None) -> T:
    if entry is None:
        raise Refusal(_MISSING, "not found", status=404)
    return entry


async def _body(request: web.Request) -> dict[str, Any]:
    try:
        return msgspec.json.decode(await request.read(), type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refusal(_INVALID, "the body is no JSON object", status=400) from None


def _told(result: Any, **more: Any) -> web.Response:
    return web.json_response(wrapped(result, **more))
