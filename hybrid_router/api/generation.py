"""One configuration as requests meet it; a reload puts another in its place between two of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeAlias

from aiohttp import web
from msgspec import Struct, field

from hybrid_router.api.answers import Answers
from hybrid_router.api.exchange import Exchange
from hybrid_router.config.front_schema import Dialects, FrontGateway
from hybrid_router.config.schema import Server

Admit: TypeAlias = Callable[[web.Request, Exchange], None]


class Fronts(Struct, frozen=True, kw_only=True):
    """What else than OpenAI's API is spoken: `dialects` and `gateways` of router.yaml."""

    dialects: Dialects = Dialects()
    gateways: Mapping[str, FrontGateway] = field(default_factory=dict)


class Generation:
    """Who answers by one configuration, within which limits, and how many calls that has in flight.

    Attributes:
        answers: who answers calls.
        server: the `server` section of router.yaml.
        fronts: its `dialects` and `gateways`.
        admit: lets a request pass, or raises why not.
        in_flight_count: calls that were decided here and have not ended.
    """

    __slots__ = ("_emptied", "admit", "answers", "fronts", "in_flight_count", "server")

    def __init__(self, answers: Answers, server: Server, admit: Admit, fronts: Fronts | None = None) -> None:
        self.answers = answers
        self.server = server
        self.fronts = fronts or Fronts()
        self.admit = admit
        self.in_flight_count = 0
        self._emptied: asyncio.Event | None = None

    def enter(self) -> None:
        """A call begins."""
        self.in_flight_count += 1

    def leave(self) -> None:
        """A call has ended, its last event sent and its backend let go."""
        self.in_flight_count -= 1
        if self._emptied is not None and not self.in_flight_count:
            self._emptied.set()

    async def emptied(self) -> None:
        """Wait for the last call in flight.  Of use once no other can begin here."""
        if self._emptied is None:
            self._emptied = asyncio.Event()
        if self.in_flight_count:
            await self._emptied.wait()


class Current:
    """The generation that new requests belong to."""

    __slots__ = ("generation",)

    def __init__(self, generation: Generation) -> None:
        self.generation = generation


CURRENT = web.AppKey("current", Current)
