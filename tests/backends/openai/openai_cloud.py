"""A server that sends what it is told to and remembers what it was asked, and the adapters in front of it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from asking import MODEL

from hybrid_router.backends.openai import OpenAI
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import CloudModel, OpenAIBackend
from hybrid_router.core.secret import Secret

TOKEN = "sk-canary-77"


@dataclass
class Reply:
    """What is answered to every request; a body that is no bytes goes out as JSON."""

    body: Any = b""
    kind: str = "application/json"
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Heard:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        """Its body as JSON."""
        told: dict[str, Any] = json.loads(self.body)
        return told


class Server:
    """The server."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        self.root = ""
        self.heard: list[Heard] = []

    async def respond(self, request: web.Request) -> web.StreamResponse:
        """Remember and answer."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.heard.append(Heard(request.path, headers, await request.read()))
        reply = self.reply
        body = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        headers = {"content-type": reply.kind, **reply.headers}
        return web.Response(body=body, status=reply.status, headers=headers)


@asynccontextmanager
async def server(reply: Reply | Any) -> AsyncIterator[Server]:
    """A server on a free port; what is no `Reply` is sent as JSON."""
    made = Server(reply if isinstance(reply, Reply) else Reply(reply))
    app = web.Application(client_max_size=2**26)
    app.router.add_route("*", "/{rest:.*}", made.respond)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        made.root = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield made
    finally:
        await runner.cleanup()


def make(root: str, model: CloudModel | None = None, *, token: str | None = TOKEN, **config: Any) -> OpenAI:
    """A backend for a server."""
    settings = OpenAIBackend(
        models={MODEL: model or CloudModel()}, base_url=f"{root}/v1", token=SecretSource(), **config
    )
    return OpenAI("box", settings, None if token is None else Secret(token))
