"""Noticing that a cloud cannot be reached, and that it can again.

Nothing is asked while all is well: the calls themselves tell.  One attempt that gets no connection is enough
to leave a cloud out of every plan; from then on it is tried whether a connection stands, until one does.
Silence on a connection that is kept from earlier may mean the same: then a new one is tried, once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

from msgspec import Struct

from hybrid_router.backends.resolver import Resolver
from hybrid_router.core.errors import (
    BackendTimeout,
    BackendUnavailable,
    BackendUnreachable,
    Benched,
    Inexpressible,
    RouterError,
    StreamBroken,
)

PROBE_S = 1.5
FIRST_PAUSE_S = 0.25
LONGEST_PAUSE_S = 2.0  # with PROBE_S: what it takes to notice the end of a black hole, 3.5 s
MOST_LOSSES = 5
LONGEST_WAIT_S = 60.0
NO_NETWORK = "this machine has no network; a connection is tried until one stands"
_OF_EACH_FAMILY = 2  # addresses tried at once
Connects: TypeAlias = Callable[[str, int], Awaitable[bool]]
NO_CONNECTION = "it fell silent, and no new connection stands; one is tried until it does"
_NO_SIGN = (BackendUnavailable, Benched, Inexpressible, StreamBroken)


class Cloud(Struct):
    """One cloud, and how its network was last.

    Attributes:
        lost_count: how often it was lost since a call of it was last answered.
    """

    host: str
    port: int
    lost_count: int = 0

    @property
    def is_here(self) -> bool:
        """Whether it is on this machine and so needs no network: an emulator, a tunnel."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost" or self.host.endswith(".localhost")


class Network:
    """Which clouds cannot be reached.

    Args:
        addresses: of the clouds alone: backend → host and port that its calls go to.
        connects: whether a connection to a host and port stands.  Bounded.

    Attributes:
        why_unreachable: backend → why, in words that go on from "cannot be reached:".  Always current.
    """

    def __init__(self, addresses: Mapping[str, tuple[str, int]], connects: Connects | None = None) -> None:
        self._connects = connects or stands
        self._clouds: dict[str, Cloud] = {}
        self._why: dict[str, str] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}
        self._doubted: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()  # with those that were told to end
        self._closed = False
        self.why_unreachable: Mapping[str, str] = MappingProxyType(self._why)
        self.follow(addresses)

    def follow(self, addresses: Mapping[str, tuple[str, int]]) -> None:
        """Look after these clouds from now on.  What is known of one that stays where it is stays known."""
        before, self._clouds = self._clouds, {}
        for name, (host, port) in addresses.items():
            cloud = before.get(name)
            if cloud is None or (cloud.host, cloud.port) != (host, port):
                cloud = Cloud(host, port)
            self._clouds[name] = cloud
        for name, cloud in before.items():
            if self._clouds.get(name) is not cloud:
                self._found(name)

    def note(self, backend: str, error: RouterError | None) -> None:
        """Learn from an attempt's end, unless it was given up or not made.

        Args:
            error: what it raised; None: it answered.
        """
        cloud = self._clouds.get(backend)
        if cloud is None:
            return
        if isinstance(error, BackendUnreachable):
            self._lost(backend, error)
        elif error is not None and error.code == BackendTimeout.code:
            self._doubt(backend, cloud)
        elif not isinstance(error, _NO_SIGN):  # it answered, if only to refuse
            cloud.lost_count = 0
            self._found(backend)

    async def close(self) -> None:
        """Try no more.  Returns when every trial has ended."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _lost(self, backend: str, error: BackendUnreachable) -> None:
        cloud = self._clouds[backend]
        if backend not in self._why:
            self._watch(backend, f"{error.message}; a connection is tried until one stands", wait_s(cloud))
            cloud.lost_count += 1
        if error.offline and not cloud.is_here:
            for name, other in self._clouds.items():
                if name not in self._why and not other.is_here:
                    self._watch(name, NO_NETWORK, 0.0)  # it is only suspected: find out now

    def _doubt(self, backend: str, cloud: Cloud) -> None:
        """It was silent: slow, or gone."""
        if backend not in self._why and backend not in self._doubted and not self._closed:
            self._doubted.add(backend)
            self._own(self._check(backend, cloud), f"doubt {backend}")

    async def _check(self, backend: str, cloud: Cloud) -> None:
        stands = False
        try:
            stands = await self._connects(cloud.host, cloud.port)
        finally:
            self._doubted.discard(backend)
        if not stands and backend not in self._why and self._clouds.get(backend) is cloud:
            self._watch(backend, NO_CONNECTION, FIRST_PAUSE_S)

    def _found(self, backend: str) -> None:
        if self._why.pop(backend, None) is not None:
            self._watches.pop(backend).cancel()

    def _watch(self, backend: str, why: str, pause_s: float) -> None:
        if self._closed:
            return
        self._why[backend] = why
        task = self._own(self._find(self._clouds[backend], pause_s), f"watch {backend}")
        self._watches[backend] = task
        task.add_done_callback(partial(self._over, backend))

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _find(self, cloud: Cloud, first_s: float) -> None:
        """Try for a connection until one stands."""
        await asyncio.sleep(first_s)
        pauses = pauses_s()
        while not await self._connects(cloud.host, cloud.port):  # noqa: ASYNC110 - no network says it is back
            await asyncio.sleep(next(pauses))

    def _over(self, backend: str, task: asyncio.Task[None]) -> None:
        """However a watch ended, its cloud may be asked again, unless another watch has begun meanwhile."""
        if self._watches.get(backend) is task:
            del self._why[backend], self._watches[backend]


def pauses_s() -> Iterator[float]:
    """How long to wait after each trial."""
    pause_s = FIRST_PAUSE_S
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def wait_s(cloud: Cloud) -> float:
    """How long to wait before the first trial.

    A connection may stand when tried and none for any call, as where a TLS handshake hangs.  A cloud that was
    lost so again and again is left alone longer each time.
    """
    excess_count = cloud.lost_count - MOST_LOSSES
    return FIRST_PAUSE_S if excess_count < 0 else min(5.0 * 2 ** min(excess_count, 10), LONGEST_WAIT_S)


async def stands(host: str, port: int, within_s: float = PROBE_S) -> bool:
    """Whether a TCP connection stands in time, its name's look-up included.  Nothing is sent."""
    try:
        async with asyncio.timeout(within_s):
            found = await Resolver().resolve(host, port)
            return await _any_stands([(one["family"], one["host"], one["port"]) for one in found])
    except OSError:  # no such name, or nobody says so in time
        return False


async def _any_stands(addresses: list[tuple[int, str, int]]) -> bool:
    """Whether one of these addresses takes a connection; all are tried at once."""
    trials = [asyncio.create_task(_is_taken(*address)) for address in _mixed(addresses)]
    try:
        for trial in asyncio.as_completed(trials):
            if await trial:
                return True
        return False
    finally:
        for trial in trials:
            trial.cancel()
        await asyncio.gather(*trials, return_exceptions=True)


def _mixed(addresses: list[tuple[int, str, int]]) -> list[tuple[int, str, int]]:
    """A few of them, of both families: one of the two may be broken."""
    four = [address for address in addresses if address[0] == socket.AF_INET]
    six = [address for address in addresses if address[0] != socket.AF_INET]
    return four[:_OF_EACH_FAMILY] + six[:_OF_EACH_FAMILY]


async def _is_taken(family: int, host: str, port: int) -> bool:
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(probe, (host, port))
        except OSError:
            return False
    return True
