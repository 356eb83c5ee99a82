"""A router with gateways in front of scripted aliases: what the tests of this room share."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from scripted_answers import HELLO, Reply, ScriptedAnswers, exchange, get, listening, post, request_bytes

from hybrid_router.api.generation import Fronts
from hybrid_router.config.front_schema import Dialects, FrontGateway, WorkersAIDialect
from hybrid_router.config.schema import Key, Server
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendUnavailable, RouterError
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Plan, Step, Timeouts
from hybrid_router.dispatch.record import Record

ACCOUNT = "e" * 32
KEYS = {"alice": "hr-alice", "bob": "hr-bob"}
SAID = [{"role": "user", "content": "hi"}]
LLAMA = "@cf/meta/llama-3.2-1b-instruct"
GOOD: list[Any] = [[Text("good")], [Finish("stop"), Usage(7, 3)]]
BAD: list[Any] = [BackendUnavailable("nobody there")]
CACHING = {"cf_aig_cache_ttl": "60"}
_TIMES = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=10)


class Aliased(ScriptedAnswers):
    """Says each alias's next script; its last one again and again.  `private` aliases leave no trace."""

    aliases = ("fast", "slow", "org/model", "private", "home")

    def __init__(self, scripts: Mapping[str, list[list[Any]]] | None = None) -> None:
        super().__init__()
        self.scripts = {name: list(each) for name, each in (scripts or {}).items()}

    def decide(self, call: Call) -> Record:
        """As always, but private where the alias is."""
        record = super().decide(call)
        private = call.alias == "private"
        step = Step(backend="b", model="m", timeouts=_TIMES, because="only", private=private)
        record.plan = Plan(steps=(step,), total_s=10.0, local_only=call.alias in ("private", "home"))
        return record

    async def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Say the next script of the alias."""
        left = self.scripts.get(call.alias, [HELLO])
        self.script = left.pop(0) if len(left) > 1 else left[0]
        try:
            async for batch in super().run(call, record):
                record.attempts[-1].note(batch, 0.0)
                yield batch
        except RouterError:
            record.attempts[-1].outcome = "failed"
            raise


class Door:
    """A running router, knocked at by one principal after the other."""

    def __init__(self, port: int) -> None:
        self.port = port

    async def post(self, path: str, body: Any, who: str = "alice", **headers: str) -> Reply:
        """POST below a gateway's address; header names with `_` for `-`."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        return await post(self.port, f"/v1/{ACCOUNT}/{path}", body, {**self._key(who), **told})

    async def chat(
        self, who: str = "alice", model: str = "fast", gateway: str = "site", **headers: str
    ) -> Reply:
        """A chat in OpenAI's form."""
        body = {"model": model, "messages": SAID}
        return await self.post(f"{gateway}/openai/chat/completions", body, who, **headers)

    async def logs(self, path: str = "", who: str = "alice", gateway: str = "site") -> Any:
        """The result of a look at the log."""
        base = f"/client/v4/accounts/any/ai-gateway/gateways/{gateway}/logs"
        return (await get(self.port, base + path, _own(who))).json

    async def send(
        self, method: str, path: str, body: bytes, who: str = "alice", content_type: str = "application/json"
    ) -> Reply:
        """Any request."""
        asked = request_bytes(method, path, body, _own(who), content_type=content_type)
        return await exchange(self.port, asked)

    def _key(self, who: str) -> dict[str, str]:
        return {
            "cf-aig-authorization": f"Bearer {KEYS[who]}",
            "authorization": "Bearer sk-canary-of-a-provider",
        }


def _own(who: str) -> dict[str, str]:
    """The key where no provider's is expected."""
    return {"authorization": f"Bearer {KEYS[who]}"}


@asynccontextmanager
async def door(
    answers: ScriptedAnswers, gateways: Mapping[str, FrontGateway] | None = None, **told: Any
) -> AsyncGenerator[Door]:
    """A router with keys for alice and bob."""
    keys = tuple(
        Key(name=name, sha256=hashlib.sha256(key.encode()).hexdigest()) for name, key in KEYS.items()
    )
    fronts = Fronts(
        dialects=Dialects(workers_ai=WorkersAIDialect(tasks={"Text Generation": "fast"})),
        gateways={"site": FrontGateway()} if gateways is None else gateways,
    )
    server = Server(listen="127.0.0.1:0", keys=keys)
    async with listening(answers, server, fronts=fronts, **told) as listener:
        yield Door(listener.port)


def step(provider: str = "openai", model: str = "fast", **more: Any) -> dict[str, Any]:
    """A step of a universal call."""
    return {
        "provider": provider,
        "endpoint": "chat/completions",
        "headers": {"Authorization": "Bearer sk-canary-of-a-step"},
        "query": {"model": model, "messages": SAID},
        **more,
    }


def text(reply: Any) -> str:
    """What a chat says."""
    said: str = reply.json["choices"][0]["message"]["content"]
    return said
