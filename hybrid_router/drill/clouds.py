"""An emulated cloud for each cloud step of a policy, each on a port of its own."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

from msgspec.structs import replace

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.catalogue.workers_ai import TEXT_GENERATION
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step
from hybrid_router.drill.faults import Cloud as Acting
from hybrid_router.drill.loop import NO_ANSWER, NO_ROUTE, Contact
from hybrid_router.drill.stand_ins import Speaker
from hybrid_router.emulator.server import BASE, Running, serve
from hybrid_router.emulator.settings import Settings

_FOREVER_S = 1e7
_SETTLED_S = 30.0


class Clouds:
    """Every cloud step, and where its address leads when it fails."""

    def __init__(self, emulators: Mapping[str, Running], closed: Mapping[str, int]) -> None:
        """`emulators` and `closed` are by step; nobody listens on the closed ports."""
        self._emulators = emulators
        self._closed = closed
        self._known = catalogue.load().by_id()
        self._numbers = {step: at for at, step in enumerate(emulators, 1)}

    def adapter(self, name: str, written: WorkersAIBackend, step: Step, acting: Acting) -> WorkersAI:
        """The real adapter, pointed at what stands in for `step`, with the emulator's own credentials.

        An AI Gateway on the way is left out: what fails is what is behind it.
        """
        emulator = self._emulators[step.name]
        faults = emulator.account.faults
        faults.clear()
        faults.add(acting.emulated(step), count=1_000_000)
        config = replace(written, base_url=self._address(step.name, acting), gateway=None)
        return WorkersAI(name, config, emulator.account_id, Secret(emulator.token), self._known)

    def _address(self, step: str, acting: Acting) -> str:
        number = self._numbers[step]
        match acting.where:
            case "closed":
                return f"http://127.0.0.1:{self._closed[step]}{BASE}"
            case "no_name":
                return f"http://{_name(number)}{BASE}"
            case "no_route":
                return f"http://{NO_ROUTE}.{number}{BASE}"
            case "no_answer":
                return f"http://{NO_ANSWER}.{number}{BASE}"
        return self._emulators[step].base_url

    def reached(self, contacts: Iterable[Contact]) -> tuple[str, ...]:
        """The steps that were contacted, each once; what is nobody's address stands as it is."""
        own: dict[tuple[str, int], str] = {}
        for step, number in self._numbers.items():
            port = int(self._emulators[step].base_url.removesuffix(BASE).rpartition(":")[2])
            own |= {("127.0.0.1", port): step, ("127.0.0.1", self._closed[step]): step}
            own |= dict.fromkeys([(_name(number), 0), (_name(number), 80)], step)
            own |= {(f"{network}.{number}", 80): step for network in (NO_ROUTE, NO_ANSWER)}
        return tuple(dict.fromkeys(own.get((host, port), f"{host}:{port}") for host, port in contacts))

    async def settled(self) -> None:
        """Wait until no emulator answers anybody any more."""
        for emulator in self._emulators.values():
            await emulator.account.calls.settled(_SETTLED_S)
            emulator.account.calls.clear()


def _name(number: int) -> str:
    return f"cloud-{number}.drill.invalid"


@asynccontextmanager
async def clouds(steps: Mapping[str, str]) -> AsyncIterator[Clouds]:
    """Serve an emulator for each step; `steps` is `backend/model` → its letter."""
    async with AsyncExitStack() as stack:
        emulators, closed = {}, {}
        for step, letter in steps.items():
            settings = Settings(
                paid=True,
                rate_limits=False,
                hang_limit_s=_FOREVER_S,
                plain_limit_s=_FOREVER_S,
                source=Speaker(letter),
                source_model=step,
            )
            emulator = emulators[step] = await stack.enter_async_context(serve(settings))
            _acquaint(emulator, step.partition("/")[2])
            silent = stack.enter_context(socket.socket())  # bound, so that nobody else listens there
            silent.bind(("127.0.0.1", 0))
            closed[step] = int(silent.getsockname()[1])
        yield Clouds(emulators, closed)


def _acquaint(emulator: Running, model: str) -> None:
    """A model that the catalogue does not know is played as some text model is."""
    account = emulator.account
    if model not in account.models:
        stranger = catalogue.Model(
            id=model, task=TEXT_GENERATION, status="listed", native_result="chat.completion", streaming=True
        )
        account.models = {**account.models, model: stranger}
