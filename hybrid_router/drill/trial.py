"""One call of a drill: a fresh router, some of whose steps fail, and what its client sees."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import Mapping
from typing import TypeAlias

import aiohttp
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router import __version__
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import WorkersAIBackend, is_local
from hybrid_router.config.local_schema import LlamaModel
from hybrid_router.config.schema import Config, Key, Server
from hybrid_router.core.backend import Backend
from hybrid_router.core.step import Step
from hybrid_router.drill.client import Ending, heard
from hybrid_router.drill.clouds import Clouds
from hybrid_router.drill.faults import DEAD, REFUSING, Cloud, Fault
from hybrid_router.drill.fresh import Fresh
from hybrid_router.drill.loop import ClosedLoop, Contact
from hybrid_router.drill.routes import Route, principal
from hybrid_router.drill.sketch import CHAT
from hybrid_router.drill.stand_ins import ByModel, Speaker
from hybrid_router.drill.voice import Part, parts
from hybrid_router.routing.policy import compile_policy

_HERE = "127.0.0.1"
_WELL = Cloud()
Failing: TypeAlias = Mapping[str, Fault]
"""Step → how it fails; the others do well."""


class Seen(Struct, frozen=True, kw_only=True):
    """What a client saw, and what happened behind it.

    Attributes:
        ending, status, code, message, first_s, ended_s: see `client.Heard`.
        parts: who wrote the text, in order.
        runs: the steps that were run, in order, as often as they were.
        reached: the cloud steps to which a connection was made, or at least looked for.
    """

    ending: Ending
    status: int | None
    code: str | None
    message: str
    first_s: float | None
    ended_s: float
    parts: tuple[Part, ...] = ()
    runs: tuple[str, ...] = ()
    reached: tuple[str, ...] = ()


class Trials:
    """Makes calls, one at a time, each to a router of its own: no breaker of one colours the next.

    Args:
        letters: step → its letter.
    """

    def __init__(
        self,
        loop: ClosedLoop,
        clouds: Clouds,
        letters: Mapping[str, str],
        fresh: Fresh,
        http: aiohttp.ClientSession,
    ) -> None:
        self._loop = loop
        self._fresh = fresh
        self._clouds = clouds
        self._letters = letters
        self._steps = {letter: step for step, letter in letters.items()}
        self._http = http
        self._secret = secrets.token_urlsafe(32)

    async def seen(self, route: Route, failing: Failing) -> Seen:
        """Make the route's call while some steps fail."""
        runs: list[str] = []
        before_count = len(self._loop.contacts)
        stand_ins = self._stand_ins(route, failing, runs)
        service = self._fresh.service(route.config, stand_ins)
        application = create_application(service, self._server(route.config), __version__)
        try:
            async with Listener(application) as listener:
                ours = Contact(_HERE, listener.port)
                told = await heard(
                    self._http,
                    listener.url + (route.sketch.path or CHAT),
                    route.sketch.body(),
                    self._headers(route),
                    route.plan.total_s,
                )
        finally:
            await asyncio.gather(*(backend.close() for backend in stand_ins.values()))
            await asyncio.gather(service.knowledge.network.close(), service.knowledge.meter.close())
        await self._clouds.settled()
        others = [contact for contact in self._loop.contacts[before_count:] if contact != ours]
        return Seen(
            ending=told.ending,
            status=told.status,
            code=told.code,
            message=told.message,
            first_s=told.first_s,
            ended_s=told.ended_s,
            parts=parts(told.text, self._steps),
            runs=tuple(runs),
            reached=self._clouds.reached(others),
        )

    def _stand_ins(self, route: Route, failing: Failing, runs: list[str]) -> dict[str, Backend]:
        """Backend → what stands in for it, with a model for each step that any alias has of it."""
        models: dict[str, dict[str, Backend]] = {}
        for way in compile_policy(route.config).aliases.values():
            for step in way.steps:
                known = models.setdefault(step.backend, {})
                if step.model not in known or step in route.plan.steps:
                    known[step.model] = self._stand_in(route.config, step, failing.get(step.name))
        return {name: ByModel(known, runs) for name, known in models.items()}

    def _stand_in(self, config: Config, step: Step, fault: Fault | None) -> Backend:
        written = config.backends[step.backend]
        if isinstance(written, LocalBackend):
            failure = None if fault is None else fault.local or DEAD
            model = written.models[step.model]
            context = model.context if isinstance(model, LlamaModel) else None
            return Speaker(self._letters[step.name], failure, context)
        if not isinstance(written, WorkersAIBackend):
            failure = None if fault is None else DEAD
            context = written.models[step.model].context
            return Speaker(self._letters[step.name], failure, context, local=is_local(written))
        acting = _WELL if fault is None else fault.cloud or REFUSING
        return self._clouds.adapter(step.backend, written, step, acting)

    def _server(self, config: Config) -> Server:
        """The listening side, on a free port, with a key of the drill's own for each name."""
        keys = tuple(
            Key(name=key.name, sha256=hashlib.sha256(self._key(key.name).encode()).hexdigest())
            for key in config.server.keys
        )
        return replace(Server(), listen=f"{_HERE}:0", keys=keys, body_limit=config.server.body_limit)

    def _key(self, name: str) -> str:
        return f"{name}-{self._secret}"

    def _headers(self, route: Route) -> dict[str, str]:
        headers = {"content-type": "application/json", **dict(route.sketch.headers)}
        if route.config.server.keys:
            headers["authorization"] = f"Bearer {self._key(principal(route.sketch, route.config))}"
        return headers
