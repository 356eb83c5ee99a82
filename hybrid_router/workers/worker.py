"""A worker: keeps one model resident, whatever happens to its children.

One task owns the state.  Others read it, wait for it to change, and ask for a load.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Literal

from msgspec import Struct

from hybrid_router.core.backend import Load
from hybrid_router.engines import needs
from hybrid_router.engines.settings import AnySettings
from hybrid_router.engines.task import MOST_PARALLEL
from hybrid_router.workers import life
from hybrid_router.workers.answer import WorkerGone
from hybrid_router.workers.child import PROGRAM, Child, OnLine, spawn
from hybrid_router.workers.house import House, Place
from hybrid_router.workers.life import Absent, Dead, Ending, Loading, Resident, State
from hybrid_router.workers.protocol import Pong
from hybrid_router.workers.tenant import Terms

_GRACE_S = 2.0
_OUT_OF_MEMORY = (
    "the kernel killed the worker for memory (out of memory); the model is too big for what was free"
)


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
        house: House | None = None,
        terms: Terms | None = None,
        name: str = "",
    ) -> None:
        """`program`: see `child.spawn`.  `unfit`: why the model's files may not be opened now, None if they
        may; asked in a thread before each start.  `house`: who shares memory with it; `terms`: how it stays
        there.  `name`: of the model, for people."""
        self._settings = settings
        self._program = program
        self._unfit = unfit
        self._heartbeat = heartbeat or Heartbeat()
        self._on_state = on_state
        self._on_line = on_line
        self._house = house or House()
        self._terms = terms or Terms()
        self._name = name
        self._place: Place | None = None
        self._evicted = asyncio.Event()
        self._child: Child | None = None
        self._pid: int | None = None
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
        self._place = self._house.enter(self._name, self, self._terms, wish=load)
        self._owner = asyncio.create_task(self._keep(self._place))

    def follow(self, terms: Terms) -> None:
        """Other terms hold from now on."""
        self._terms = terms
        if self._place is not None:
            self._place.follow(terms)

    def want(self) -> None:
        """Load the model when its turn comes; calls for it are answered elsewhere until then."""
        if self._place is not None and self.why_down() is None:
            self._place.want()

    def why_down(self) -> str | None:
        """Why calls cannot be served now; None while resident, loading or ready to load."""
        why = life.why_down(self.state, asyncio.get_running_loop().time())
        return why if why is not None or self._place is None else self._place.why_not()

    # Lodger

    @property
    def pid(self) -> int | None:
        """The child's process, if there is one."""
        return self._pid

    def running_count(self) -> int:
        """Calls that the child has."""
        return 0 if self._child is None else self._child.in_flight_count

    def evict(self) -> None:
        """End the child; the next call loads the model again."""
        self._evicted.set()

    def stir(self) -> None:
        """Let everybody look again who waits for something here."""
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def _parallel(self) -> int | None:
        """Calls that are answered together; None: that shows once the model is open."""
        return self.state.opened.parallel if isinstance(self.state, Resident) else self._settings.parallel

    @property
    def _count(self) -> int:
        """Calls that are here: those that wait for the model, and those that it has."""
        return self._expecting_count + self.running_count()

    def load(self) -> Load:
        """How many calls run and wait here, and whether the model has to be loaded first."""
        count, parallel = self._count, self._parallel
        places = count if parallel is None else parallel
        return Load(
            running_count=min(count, places),
            waiting_count=max(0, count - places),
            parallel=parallel,
            loading=self._child is None or (self._place is not None and self._place.tenant.closed),
        )

    async def child(self, queue_count: int | None = None) -> Child:
        """The child, once its model is open and this call's turn has come; asks for a load if there is none.
        The caller sets the limit, and begins its task before it waits for anything else: until then nothing
        counts it.

        Args:
            queue_count: so many calls may wait for a place; None: as many as come.

        Raises:
            WorkerFull: so many wait already.
            WorkerDown: it died and is not being started right now, or there is no room for it.
        """
        self._check_room(queue_count, self._count)
        if self._place is None:
            raise WorkerDown(_why(self.state), None)
        place, ticket = self._place, self._place.ask()
        self._expecting_count += 1
        try:
            child = await self._opened_child(place, ticket)
        finally:
            self._expecting_count -= 1
            place.withdraw(ticket)
        # How many go together may have shown only now.  They come in the order in which they came first, so
        # those that are still expecting do not count.
        self._check_room(queue_count, child.in_flight_count)
        return child

    def _check_room(self, queue_count: int | None, count: int) -> None:
        if queue_count is not None and count >= queue_count + (self._parallel or MOST_PARALLEL):
            raise WorkerFull(count)

    async def _opened_child(self, place: Place, ticket: int) -> Child:
        while True:
            if self._child is not None and not self._child.ended.done() and place.granted(ticket):
                return self._child
            if (reason := self.why_down()) is not None:
                raise WorkerDown(reason, life.wait_s(self.state, asyncio.get_running_loop().time()))
            await self._changed.wait()

    async def settled(self) -> State:
        """The state once nothing is being loaded: resident, dead, or absent if nobody wants it or there is
        no room that it would be given."""
        while isinstance(self.state, Loading) or (isinstance(self.state, Absent) and self._pending):
            await self._changed.wait()
        return self.state

    @property
    def _pending(self) -> bool:
        return self._place is not None and self._place.pending and self.why_down() is None

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
        if self._place is not None:
            self._place.leave()
            self._place = None

    def _become(self, state: State) -> None:
        self.state = state
        self.stir()
        self._on_state(state)

    async def _keep(self, place: Place) -> None:
        """Own the state: one generation after the other."""
        loop = asyncio.get_running_loop()
        failure_count = killed_count = 0
        if place.limited:
            place.expect(await asyncio.to_thread(needs.needed, self._settings, **self._house.given()))
            self.stir()
        while True:
            self._evicted.clear()
            await place.turn()
            started_s = loop.time()
            ending = await self._generation(place, started_s)
            if ending.evicted:
                place.gone()
                failure_count = killed_count = 0
                self._become(Absent(place.eviction))
                continue
            failure_count = life.failures_after(failure_count, loop.time() - started_s)
            killed_count = killed_count + 1 if ending.loading else 0
            why = life.given_up(ending, killed_count, self._terms.less)
            place.gone(again=why is None and not ending.burst)
            if why is not None:
                self._become(Dead(why, None))
                return
            pause_s = life.pause_s(failure_count)
            self._become(Dead(ending.reason, loop.time() + pause_s))
            await asyncio.sleep(pause_s)

    async def _generation(self, place: Place, started_s: float) -> Ending:
        """One child's life."""
        self._become(Loading(started_s))
        if self._unfit is not None and (why := await asyncio.to_thread(self._unfit)) is not None:
            return Ending(why, loading=True, hopeless=True)
        try:
            child = await _born(spawn(self._settings, self._on_line, self._program))
        except OSError as error:
            return Ending(f"the worker could not be started ({error.strerror})")
        evicted = asyncio.ensure_future(self._evicted.wait())
        try:
            self._pid = child.pid
            place.born(child.pid)
            await asyncio.wait((child.opened, child.ended, evicted), return_when=asyncio.FIRST_COMPLETED)
            if child.opened.done() and not child.opened.cancelled():
                self._open(place, child, started_s)
            why = await _watched(child, self._heartbeat, evicted, place.weigh)
            if not child.ended.done():
                return Ending("evicted", evicted=True)
            return self._ending(place, child, why)
        finally:
            evicted.cancel()
            self._child = None  # the state follows at once, or this task is being closed
            await _end(child)
            self._pid = None

    def _open(self, place: Place, child: Child, started_s: float) -> None:
        """The model is there."""
        now_s = asyncio.get_running_loop().time()
        child.on_idle = place.rested
        self._child = child
        place.opened(child.pid, now_s - started_s)
        self._become(Resident(child.opened.result(), now_s, now_s - started_s))

    def _ending(self, place: Place, child: Child, why: str | None) -> Ending:
        """How a child ended that nobody evicted."""
        loading = self._child is None
        if child.struck and place.burst():
            return Ending(_OUT_OF_MEMORY, loading, burst=True)
        return Ending(why or child.ended.result(), loading, child.hopeless)


def _why(state: State) -> str:
    return state.reason if isinstance(state, Dead) else "the worker was not started"


async def _watched(
    child: Child, heartbeat: Heartbeat, evicted: asyncio.Future[Literal[True]], weigh: Callable[[int], None]
) -> str | None:
    """Wait for the child's end, or until it is evicted; one that is silent or stuck is killed.

    Returns why, if that was it.
    """
    work = _Work()
    while not child.ended.done() and not evicted.done():
        await asyncio.wait(
            (child.ended, evicted), timeout=heartbeat.every_s, return_when=asyncio.FIRST_COMPLETED
        )
        if child.opened.done() and not child.ended.done() and not evicted.done():
            weigh(child.pid)
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
