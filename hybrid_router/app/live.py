"""The configuration at work, and those before it whose last calls still run."""

from __future__ import annotations

import asyncio
import time

from msgspec import Struct, field

from hybrid_router.api.generation import Current, Fronts, Generation
from hybrid_router.api.server import generation
from hybrid_router.app.backends import Backends, close
from hybrid_router.config.schema import Loaded
from hybrid_router.dispatch.service import Service
from hybrid_router.observe.logs import Logs

_RETIREMENT_S = 5.0  # longer than a worker takes to end


class Live(Struct, kw_only=True, eq=False):
    """One configuration at work.  Numbers count from 1."""

    number: int
    loaded: Loaded
    backends: Backends
    service: Service
    generation: Generation
    since_s: float = field(default_factory=time.time)

    @classmethod
    def of(cls, number: int, loaded: Loaded, backends: Backends, service: Service) -> Live:
        """Put a configuration to work."""
        return cls(
            number=number,
            loaded=loaded,
            backends=backends,
            service=service,
            generation=generation(
                service,
                loaded.config.server,
                Fronts(dialects=loaded.config.dialects, gateways=loaded.config.gateways),
            ),
        )


class Succession:
    """One configuration after the other, each let go of once its calls are over.

    Attributes:
        live: what new calls are answered by.
    """

    def __init__(self, first: Live, current: Current, logs: Logs) -> None:
        """`current` is what requests read."""
        self.live = first
        self._current = current
        self._logs = logs
        self._retiring: list[Live] = []
        self._retirements: dict[asyncio.Task[None], Live] = {}

    def swap(self, live: Live) -> None:
        """From here on every new call is the new configuration's."""
        old, self.live = self.live, live
        self._current.generation = live.generation
        self._retiring.append(old)
        retirement = asyncio.create_task(self._retire(old))
        self._retirements[retirement] = old
        retirement.add_done_callback(self._retirements.pop)

    def needed(self) -> list[Backends]:
        """The backends of every configuration whose calls may still ask them."""
        return [live.backends for live in (self.live, *self._retiring)]

    async def _retire(self, old: Live) -> None:
        """Let go of what only `old` needs, once its calls are over, or have had `drain` to end."""
        try:
            async with asyncio.timeout(self.live.loaded.config.server.drain):
                await old.generation.emptied()
        except TimeoutError:
            self._logs.logger.warning(
                "retired calls are cut off", generation=old.number, count=old.generation.in_flight_count
            )
        self._retiring.remove(old)
        parts = old.backends.without(self.needed())
        await close(parts)
        # A call that is still there may have gone on to a backend that opened itself again.
        await old.generation.emptied()
        await close(parts)

    @property
    def retiring_count(self) -> int:
        """Calls in flight under configurations of before."""
        return sum(old.generation.in_flight_count for old in self._retirements.values())

    @property
    def in_flight_count(self) -> int:
        """Calls in flight under whichever configuration."""
        return self.live.generation.in_flight_count + self.retiring_count

    async def close(self) -> None:
        """Let go of everything.  Called once nothing is in flight any more, so what retires soon ends."""
        if retirements := list(self._retirements):
            _, late = await asyncio.wait(retirements, timeout=_RETIREMENT_S)
            for task in late:
                task.cancel()
        everything = {id(part): part for held in self.needed() for part in held.parts.values()}
        await close(everything.values())
