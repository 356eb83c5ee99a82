"""A worker: keeps one model resident, whatever happens to its children.

One task owns the state.  Others read it, wait for it to change, and ask for a load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from msgspec import Struct

from hybrid_router.core.backend import Load
from hybrid_router.engines.settings import AnySettings
from hybrid_router.engines.task import MOST_PARALLEL
from hybrid_router.workers import life
from hybrid_router.workers.answer import WorkerGone
from hybrid_router.workers.child import PROGRAM, Child, OnLine, spawn
from hybrid_router.workers.life import Absent, Dead, Ending, Loading, Resident, State
from hybrid_router.workers.protocol import Pong

_GRACE_S = 2.0


class Heartbeat(Struct, frozen=True):
    """How often a child is asked whether it is there, and how long it may take to say so.

    A thread of its own answers, also while the engine computes; the limit is for a machine under load.
    What answers may still be stuck in its work: one step of it, the slowest machine's included, takes less
    than `step_s`.
    """

    every_s: float = 5.0
    limit_s: float = 15.0
    step_s: float = 300.0


OnState = Callable[[State], None]
Unfit = Callable[[], str | None]


def ignore(told: object) -> None:
    """Tell nobody."""


class WorkerDown(Exception):
    """No child is there to take a call; the text says why.

    `wait_s`: seconds until one is started; None: none will be.
    """

    def __init__(self, why: str, wait_s: float | None) -> None:
        super().__init__(why)
        self.wait_s = wait_s


class WorkerFull(Exception):
    """Every place is taken, and as many calls wait as may; `count`: all of these."""

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} calls are there already")
        self.count = count


class Worker:
    """Starts children for one model, one at a time, and starts the next when one dies."""

    def __init__(
        self,
        settings: AnySettings,
        *,
        on_state: OnState = ignore,
        on_line: OnLine = ignore,
        heartbeat: Heartbeat | None = None,
        program: Sequence[str] = PROGRAM,
        unfit: Unfit | None = None,
    ) -> None:
        """`program`: see `child.spawn`.  `unfit`: why the model's files should not be opened now, None if they
        may; asked in a thread before each start."""
        self._settings = settings
        self._program = program
        self._unfit = unfit
        self._heartbeat = heartbeat or Heartbeat()
        self._on_state = on_state
        self._on_line = on_line
        self._wanted = asyncio.Event()
        self._child: Child | None = None
        self._expecting_count = 0
        self._changed: asyncio.Event = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self.state: State = Absent()

    @property
    def settings(self) -> AnySettings:
        """How its model is opened."""
        return self._settings

    def start(self, *, load: bool) -> None:
        """Begin keeping the model; `load`: at once, otherwise at the first call."""
        if load:
            self._wanted.set()
        self._owner = asyncio.create_task(self._keep())

    def why_down(self) -> str | None:
        """Why calls cannot be served now; None while resident, loading or ready to load."""
        return life.why_down(self.state, asyncio.get_running_loop().time())

    @property
    def _parallel(self) -> int | None:
        """Calls that are answered together; None: that shows once the model is open."""
        return self.state.opened.parallel if isinstance(self.state, Resident) else self._settings.parallel

    @property
    def _count(self) -> int:
        """Calls that are here: those that wait for the model, and those that it has."""
        return self._expecting_count + (0 if self._child is None else self._child.in_flight_count)

    def load(self) -> Load:
        """How many calls run and wait here, and whether the model has to be loaded first."""
        count, parallel = self._count, self._parallel
        places = count if parallel is None else parallel
        return Load(
            running_count=min(count, places),
            waiting_count=max(0, count - places),
            parallel=parallel,
            loading=self._child is None,
        )

    async def child(self, queue_count: int | None = None) -> Child:
        """The child, once its model is open; asks for a load if there is none.  The caller sets the limit,
        and begins its task before it waits for anything else: until then nothing counts it.

        Args:
            queue_count: so many calls may wait for a place; None: as many as come.

        Raises:
            WorkerFull: so many wait already.
            WorkerDown: it died and is not being started right now.
        """
        self._wanted.set()
        self._check_room(queue_count, self._count)
        self._expecting_count += 1
        try:
            child = await self._opened_child()
        finally:
            self._expecting_count -= 1
        # How many go together may have shown only now.  They come in the order in which they came first, so
        # those that are still expecting do not count.
        self._check_room(queue_count, child.in_flight_count)
        return child

    def _check_room(self, queue_count: int | None, count: int) -> None:
        if queue_count is not None and count >= queue_count + (self._parallel or MOST_PARALLEL):
            raise WorkerFull(count)

    async def _opened_child(self) -> Child:
        while True:
            if self._child is not None and not self._child.ended.done():
                return self._child
            if (reason := self.why_down()) is not None:
                raise WorkerDown(reason, life.wait_s(self.state, asyncio.get_running_loop().time()))
            await self._changed.wait()

    async def settled(self) -> State:
        """The state once nothing is being loaded: resident, dead, or absent if nobody wants it."""
        while isinstance(self.state, Loading) or (isinstance(self.state, Absent) and self._wanted.is_set()):
            await self._changed.wait()
        return self.state

    async def close(self) -> None:
        """End the child: politely for two seconds, then SIGKILL.  Returns when it is gone.

        Calls that wait for a child, or come later, are told so; `on_state` is not: nothing went wrong.
        """
        self.state = Dead("the worker was closed", None)
        self._changed.set()
        if self._owner is not None:
            self._owner.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._owner

    def _become(self, state: State) -> None:
        self.state = state
        self._changed.set()
        self._changed = asyncio.Event()
        self._on_state(state)

    async def _keep(self) -> None:
        """Own the state: one generation after the other."""
        loop = asyncio.get_running_loop()
        failure_count = killed_count = 0
        await self._wanted.wait()
        while True:
            started_s = loop.time()
            ending = await self._generation(started_s)
            failure_count = life.failures_after(failure_count, loop.time() - started_s)
            killed_count = killed_count + 1 if ending.loading else 0
            if why := life.given_up(ending, killed_count):
                self._become(Dead(why, None))
                return
            pause_s = life.pause_s(failure_count)
            self._become(Dead(ending.reason, loop.time() + pause_s))
            await asyncio.sleep(pause_s)

    async def _generation(self, started_s: float) -> Ending:
        """One child's life."""
        self._become(Loading(started_s))
        if self._unfit is not None and (why := await asyncio.to_thread(self._unfit)) is not None:
            return Ending(why, loading=True, hopeless=True)
        try:
            child = await _born(spawn(self._settings, self._on_line, self._program))
        except OSError as error:
            return Ending(f"the worker could not be started ({error.strerror})")
        try:
            await asyncio.wait((child.opened, child.ended), return_when=asyncio.FIRST_COMPLETED)
            if child.opened.done() and not child.opened.cancelled():
                self._child = child
                self._become(Resident(child.opened.result(), asyncio.get_running_loop().time()))
            why = await _watched(child, self._heartbeat)
            return Ending(why or child.ended.result(), self._child is None, child.hopeless)
        finally:
            self._child = None  # the state follows at once, or this task is being closed
            await _end(child)


async def _watched(child: Child, heartbeat: Heartbeat) -> str | None:
    """Wait for the child's end; one that is silent or stuck is killed.  Returns why, if that was it."""
    work = _Work()
    while not child.ended.done():
        await asyncio.wait((child.ended,), timeout=heartbeat.every_s)
        if child.opened.done() and not child.ended.done():
            why = await _why_hung(child, work, heartbeat)
            if why is not None:
                child.kill()
                await asyncio.wait((child.ended,))
                return f"worker {why} and was killed"
    return None


class _Work:
    """How long the engine has been at the same step, as far as pongs tell."""

    def __init__(self) -> None:
        self._step_count = -1
        self._since_s = 0.0

    def stuck_s(self, pong: Pong, now_s: float) -> float:
        """Seconds since the pongs began to say the same; 0 of an engine without work."""
        if pong.step_count != self._step_count or not pong.computing:
            self._step_count, self._since_s = pong.step_count, now_s
        return now_s - self._since_s


async def _why_hung(child: Child, work: _Work, heartbeat: Heartbeat) -> str | None:
    """What a child hangs at; None: its thread answers in time and its engine gets on, or it has ended."""
    try:
        async with asyncio.timeout(heartbeat.limit_s):
            pong = await child.ping()
    except TimeoutError:
        return f"did not answer for {heartbeat.limit_s:g} s"
    except WorkerGone:
        return None
    if work.stuck_s(pong, asyncio.get_running_loop().time()) > heartbeat.step_s:
        return f"was at one step for {heartbeat.step_s:g} s"
    return None


async def _born(birth: Coroutine[Any, Any, Child]) -> Child:
    """Spawn; cancelled in the middle, the child is seen off before the cancellation goes on."""
    spawning = asyncio.create_task(birth)
    try:
        return await asyncio.shield(spawning)
    except asyncio.CancelledError:
        await asyncio.wait((spawning,))
        if spawning.exception() is None:
            await _end(spawning.result())
        raise


async def _end(child: Child) -> None:
    """See a child off.  Cancellation does not hurry it: an orphan would keep the memory."""
    if child.ended.done():
        return
    child.hang_up()
    kill_later = asyncio.get_running_loop().call_later(_GRACE_S, child.kill)
    try:
        await asyncio.wait((child.ended,))
    finally:
        kill_later.cancel()
        child.kill()
