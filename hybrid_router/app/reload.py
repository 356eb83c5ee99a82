"""Taking up a changed router.yaml while calls run: build beside the old, swap, retire.

Nothing is given up before its successor stands.  The swap itself is one synchronous step, so every call
belongs to one configuration, from its decision to its end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeAlias

from hybrid_router.api.control import Outcome, Status
from hybrid_router.app.backends import Backends, close, open_backends
from hybrid_router.app.live import Live, Succession
from hybrid_router.app.rooms import budget
from hybrid_router.app.watch import Watch
from hybrid_router.config import restart
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.config.schema import DEFAULT_TIMEOUTS, Loaded
from hybrid_router.dispatch.service import Service
from hybrid_router.observe.logs import Logs
from hybrid_router.observe.notify import Notifier
from hybrid_router.workers.life import Absent, Dead, Loading, State
from hybrid_router.workers.worker import Worker

Build: TypeAlias = Callable[[Loaded, Backends], Service]
OnOutcome: TypeAlias = Callable[[Outcome], None]
STOPPING = "the router is stopping"


class NotTakenUp(Exception):
    """A valid configuration cannot be put to work; each text says why and what to do."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__(errors)
        self.errors = errors


class Reloader:
    """Takes up router.yaml anew when asked to, one time after the other.

    Attributes:
        last: what became of the last reload.
    """

    def __init__(
        self,
        succession: Succession,
        logs: Logs,
        build: Build,
        *,
        environ: Mapping[str, str],
        notifier: Notifier,
        on_outcome: OnOutcome = lambda outcome: None,
    ) -> None:
        self.last: Outcome | None = None
        self._succession = succession
        self._logs = logs
        self._build = build
        self._environ = environ
        self._notifier = notifier
        self._on_outcome = on_outcome
        self._wanted = asyncio.Event()
        self._asked: asyncio.Future[Outcome] | None = None
        self._watch = Watch(Path(succession.live.loaded.path), self.reload, self._unwatched)
        self._stopped = False

    async def reload(self) -> Outcome:
        """Read the file and take it up.  One at a time: who asks meanwhile gets the outcome of the next."""
        if self._stopped:
            return self._outcome(time.monotonic(), [STOPPING])
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self._wanted.set()
        return await asyncio.shield(self._asked)

    async def run(self) -> None:
        """Do what `reload` asks for, until cancelled."""
        asked = None
        self._watch.want(self._succession.live.loaded.config.watch)
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                asked, self._asked = self._asked, None
                outcome = await self._once()
                if asked is not None:
                    asked.set_result(outcome)
        finally:
            self._stopped = True
            self._watch.want(False)
            for waiting in (asked, self._asked):
                if waiting is not None and not waiting.done():
                    waiting.set_result(self._outcome(time.monotonic(), [STOPPING]))

    async def _once(self) -> Outcome:
        """One reload, whatever comes of it."""
        started_s = time.monotonic()
        self._notifier.reloading()
        errors: list[str] = []
        notes: list[str] = []
        try:
            notes = await self._take_up()
        except ConfigErrors as wrong:
            errors = str(wrong).splitlines()
        except NotTakenUp as why:
            errors = why.errors
        except Exception as error:  # the old configuration serves on, whatever it was
            self._logs.logger.exception("reload failed unexpectedly")
            errors = [f"something went wrong inside the router ({type(error).__name__}); its log has more"]
        self.last = outcome = self._outcome(started_s, errors, notes)
        self._tell(outcome)
        return outcome

    def _tell(self, outcome: Outcome) -> None:
        """The log, systemd and whoever counts hear of an outcome."""
        said = {"generation": outcome.generation, "duration_s": outcome.seconds}
        if outcome.errors:
            self._logs.logger.error("reload failed", **said, errors=outcome.errors)
            self._notifier.ready("serves on as before: the last reload failed")
        else:
            more = {"notes": outcome.notes, "off": self._succession.live.backends.off}
            self._logs.logger.info("reloaded", **said, **{name: told for name, told in more.items() if told})
            self._notifier.ready(f"serves configuration {outcome.generation}")
        self._on_outcome(outcome)

    def _outcome(self, started_s: float, errors: list[str], notes: list[str] | None = None) -> Outcome:
        return Outcome(
            ok=not errors,
            generation=self._succession.live.number,
            at_s=time.time(),
            seconds=round(time.monotonic() - started_s, 3),
            errors=errors,
            notes=notes or [],
        )

    async def _take_up(self) -> list[str]:
        """Read, check, build, swap.  Gives what a person should know of it.

        Raises:
            ConfigErrors: the file cannot be used.
            NotTakenUp: what it asks for cannot be had.
        """
        old = self._succession.live
        running = old.loaded.config
        written = await asyncio.to_thread(load, old.loaded.path, self._environ)
        if problem := restart.problem(running, written):
            raise ConfigErrors(old.loaded.path, [problem])
        loaded = restart.bound_to(running, written)
        backends = await open_backends(loaded, self._logs, old.backends, environ=self._environ)
        try:
            await _resident(backends.fresh_workers(old.backends), _patience_s(loaded))
            service = self._build(loaded, backends)
        except BaseException:
            await close(backends.without(self._succession.needed()))
            raise
        self._swap(Live.of(old.number + 1, loaded, backends, service))
        return [
            *restart.notes(running, written.config),
            *(f"{name} is off: {why}" for name, why in backends.off.items()),
            *(f"{model} cannot be used: {why}" for model, why in backends.unusable.items()),
        ]

    def _swap(self, live: Live) -> None:
        """Let the new configuration take over, in one step."""
        config = live.loaded.config
        secrets = live.loaded.secrets.values()
        self._logs.retune(level=config.log.level, calls=config.log.calls, secrets=secrets)
        self._watch.want(config.watch)
        house = live.backends.house
        house.follow(budget(config.residency, house.scales))
        self._succession.swap(live)

    def _unwatched(self, error: Exception) -> None:
        self._logs.logger.warning("router.yaml is not watched", exc_info=error)

    def status(self) -> Status:
        """How things are."""
        live = self._succession.live
        return Status(
            config=live.loaded.path,
            generation=live.number,
            since_s=live.since_s,
            last_reload=self.last,
            off=live.backends.off,
            workers={name: _said(worker.state) for name, worker in live.backends.workers.items()},
            in_flight_count=live.generation.in_flight_count,
            retiring_count=self._succession.retiring_count,
        )


def _patience_s(loaded: Loaded) -> float:
    """How long a model may load before its calls had better wait for it."""
    return loaded.config.timeouts.load or DEFAULT_TIMEOUTS.load or 0.0


async def _resident(workers: Mapping[str, Worker], within_s: float) -> None:
    """Wait until models that were started beside the old ones are resident, or have loaded for long.

    Raises:
        NotTakenUp: one died of it.
    """
    if not workers:
        return
    settling = {asyncio.create_task(worker.settled()): name for name, worker in workers.items()}
    try:
        done, _ = await asyncio.wait(settling, timeout=within_s)
    finally:
        for task in settling:
            task.cancel()
    states = {settling[task]: task.result() for task in done}
    dead = [
        f"{name} could not be loaded beside what runs: {state.reason}; if memory is short, restart instead"
        for name, state in sorted(states.items())
        if isinstance(state, Dead)
    ]
    if dead:
        raise NotTakenUp(dead)


def _said(state: State) -> str:
    """A worker's state in a word or a sentence."""
    match state:
        case Dead(reason):
            return f"dead: {reason}"
        case Absent():
            return "absent"
        case Loading():
            return "loading"
    return "resident"
