"""The emulator's HTTP side: addresses, credentials, and its life on a port."""

from __future__ import annotations

import re
import secrets
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

from hybrid_router.api.workers_ai import listing
from hybrid_router.api.workers_ai.refusal import Refusal, refused, wrapped
from hybrid_router.emulator import account_routes, control, realtime
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.gateway import host as gateway
from hybrid_router.emulator.port import fault_of, listening, noted
from hybrid_router.emulator.reception import answer
from hybrid_router.emulator.settings import Account, Settings

BASE = "/client/v4"
ACCOUNT = web.AppKey("account", Account)
REQUEST_ID_HEADER = "cf-ai-req-id"
_EMAIL, _KEY = "x-auth-email", "x-auth-key"

_ACCOUNT_ID = re.compile(r"[0-9a-f]{32}")
Reply = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, kw_only=True)
class Running:
    """An emulator that answers.  `base_url` and the rest is what a router needs."""

    base_url: str
    account_id: str
    token: str
    account: Account

    @property
    def control_url(self) -> str:
        """Where faults and calls are: `…/emulator`."""
        return self.base_url.removesuffix(BASE) + "/emulator"


def create_app(settings: Settings) -> web.Application:
    """The application, with one account behind it."""
    account = Account(settings)
    app = web.Application(middlewares=[envelopes], client_max_size=settings.body_limit_bytes)
    app[ACCOUNT] = account
    app.on_response_prepare.append(_stamp)
    app.cleanup_ctx.append(account.webhooks.connected)
    accounts = BASE + "/accounts/{account_id}"
    app.add_routes(
        [
            web.post(accounts + "/ai/run/{model:.+}", run_model),
            web.get(accounts + "/ai/run/{model:.+}", run_live, allow_head=False),
            web.post(accounts + "/ai/run", run_model),
            web.post(accounts + "/ai/v1/chat/completions", run_model),
            web.post(accounts + "/ai/v1/embeddings", run_model),
            web.post(accounts + "/ai/v1/responses", run_model),
            web.get(accounts + "/ai/models/search", search_models),
            web.get(accounts + "/ai/models/schema", show_schema),
            web.get(accounts + "/tokens/verify", verify_account_token),
            web.get(BASE + "/user/tokens/verify", verify_user_token),
            web.get(accounts + "/ai/v1/models", no_openai_models),
            *account_routes.routes(accounts + "/ai", authorize),
            *control.routes(account),
        ]
    )
    gateway.mount(app, account, authorize)
    return app


@asynccontextmanager
async def serve(settings: Settings) -> AsyncGenerator[Running]:
    """Serve on `settings.host` and `port` until the block ends.  Calls in flight are then cut off.

    Raises:
        OSError: the port is taken.
    """
    app = create_app(settings)
    async with listening(app, app[ACCOUNT]) as root:
        yield Running(
            base_url=root + BASE,
            account_id=settings.account_id,
            token=settings.token,
            account=app[ACCOUNT],
        )


@web.middleware
async def envelopes(request: web.Request, handler: Reply) -> web.StreamResponse:
    """Tell every error in the API's envelope."""
    try:
        return await handler(request)
    except Refusal as refusal:
        return refused(refusal)
    except web.HTTPMethodNotAllowed:
        return refused(Refusal(7001, f"{request.method} not supported for requested URI."))
    except web.HTTPNotFound:
        return refused(Refusal(7000))


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Give each inference reply its id."""
    if "/ai/run" in request.path or "/ai/v1/" in request.path:
        response.headers[REQUEST_ID_HEADER] = str(uuid.uuid4())


def authorize(request: web.Request) -> Account:
    """The account, if the path names it and the token, or the legacy pair of e-mail and key, opens it.

    With an empty token of its own it is open to anybody.

    Raises:
        Refusal: 7003 no account id, 401/10000 no or other credentials, 403/10000 another account.
    """
    account = request.app[ACCOUNT]
    named = request.match_info.get("account_id")
    if named is not None and not _ACCOUNT_ID.fullmatch(named):
        message = f"Could not route to {request.path}, perhaps your object identifier is invalid?"
        raise Refusal(7003, message)
    known = _known_token if "authorization" in request.headers else _known_pair
    if account.settings.token and not known(request, account.settings):
        raise Refusal(10000)
    if named is not None and named != account.settings.account_id:
        raise Refusal(10000, status=403)
    return account


def _known_token(request: web.Request, settings: Settings) -> bool:
    scheme, _, token = request.headers["authorization"].partition(" ")
    return secrets.compare_digest(token.strip().encode(), settings.token.encode()) and (
        scheme.lower() == "bearer"
    )


def _known_pair(request: web.Request, settings: Settings) -> bool:
    """The global key of old; both are compared always, so that time tells nothing."""
    email, key = (request.headers.get(name, "").strip().encode() for name in (_EMAIL, _KEY))
    same_email = secrets.compare_digest(email, settings.auth_email.encode())
    same_key = secrets.compare_digest(key, settings.auth_key.encode())
    return bool(settings.auth_email and settings.auth_key) and same_email and same_key


async def run_model(request: web.Request) -> web.StreamResponse:
    """An inference call."""
    return await noted(request.app[ACCOUNT], request, _run)


async def run_live(request: web.Request) -> web.StreamResponse:
    """A conversation with a realtime model; nothing else is to be had by GET.

    Raises:
        Refusal: 7001, no WebSocket is asked for.
    """
    if not realtime.upgrades(request):
        raise Refusal(7001)
    return await noted(request.app[ACCOUNT], request, _converse)


async def _run(request: web.Request, seen: SeenCall) -> web.StreamResponse:
    account = authorize(request)
    seen.auth_ok = True
    return await answer(account, request, seen, request.match_info.get("model"), fault_of(request, account))


async def _converse(request: web.Request, seen: SeenCall) -> web.StreamResponse:
    account = authorize(request)
    seen.auth_ok = True
    return await realtime.converse(account, request, seen, fault_of(request, account))


async def search_models(request: web.Request) -> web.Response:
    """`GET /ai/models/search`."""
    account = authorize(request)
    today = account.settings.now().date()
    return web.json_response(listing.search(account.catalogue, request.query, today))


async def show_schema(request: web.Request) -> web.Response:
    """`GET /ai/models/schema?model=`."""
    account = authorize(request)
    model = account.models.get(request.query.get("model", ""))
    return web.json_response(listing.schemas(account.catalogue, model))


async def verify_account_token(request: web.Request) -> web.Response:
    """`GET /accounts/{id}/tokens/verify`."""
    return _verified(authorize(request))


async def verify_user_token(request: web.Request) -> web.Response:
    """`GET /user/tokens/verify`, which does not know account tokens."""
    account = authorize(request)
    if account.settings.token.startswith("cfat_"):
        raise Refusal(1000)
    return _verified(account)


def _verified(account: Account) -> web.Response:
    token_id = uuid.uuid5(uuid.NAMESPACE_URL, account.settings.account_id).hex
    answer_ = wrapped({"id": token_id, "status": "active"})
    answer_["messages"] = [{"code": 10000, "message": "This API Token is valid and active", "type": None}]
    return web.json_response(answer_)


async def no_openai_models(request: web.Request) -> web.Response:
    """`GET /ai/v1/models` does not exist, which clients of OpenAI do not expect."""
    raise Refusal(7001)
