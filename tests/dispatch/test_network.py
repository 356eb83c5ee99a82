"""A cloud that cannot be reached is noticed by one attempt, and found again without anybody asking it."""

from __future__ import annotations

import asyncio
import errno
import itertools
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest

from hybrid_router.core import errors
from hybrid_router.dispatch.network import (
    FIRST_PAUSE_S,
    LONGEST_PAUSE_S,
    NO_CONNECTION,
    NO_NETWORK,
    PROBE_S,
    Cloud,
    Network,
    pauses_s,
    stands,
    wait_s,
)

ADDRESSES = {
    "one": ("192.0.2.1", 443),
    "two": ("cloud.test", 443),
    "here": ("127.0.0.1", 8788),
    "six": ("::1", 8788),
    "name": ("localhost", 8788),
}


class Cables:
    """What a network is asked, and what it answers."""

    def __init__(self) -> None:
        self.up: set[str] = set()
        self.asked: list[str] = []
        self.news = asyncio.Event()

    async def __call__(self, host: str, port: int) -> bool:
        self.asked.append(host)
        self.news.set()
        return host in self.up

    async def next(self) -> None:
        """Wait until it is asked once more."""
        self.news.clear()
        await self.news.wait()


class Trial:
    """A network whose cables can be pulled."""

    def __init__(self) -> None:
        self.cables = Cables()
        self.network = Network(ADDRESSES, self.cables)

    @property
    def lost(self) -> set[str]:
        return set(self.network.why_unreachable)

    async def found(self, name: str) -> None:
        """Wait until a cloud is back."""
        while name in self.lost:
            await self.cables.next()
            await asyncio.sleep(0)


@asynccontextmanager
async def trial() -> AsyncIterator[Trial]:
    """One that leaves no task behind."""
    before = asyncio.all_tasks()
    made = Trial()
    try:
        yield made
    finally:
        await made.network.close()
    assert asyncio.all_tasks() <= before


def unreachable(*, offline: bool = False) -> errors.BackendUnreachable:
    error = errors.BackendUnreachable("Workers AI cannot be reached: no route")
    error.offline = offline
    return error


@pytest.mark.parametrize(
    "error", [unreachable(), errors.ConnectTimeout("Workers AI gave no connection in time")]
)
async def test_one_failed_attempt_is_enough(error: errors.RouterError) -> None:
    """At once, with the reason; other clouds and this machine's own servers are not suspected."""
    async with trial() as t:
        t.network.note("one", error)

        assert t.lost == {"one"}
        assert t.network.why_unreachable["one"] == f"{error.message}; a connection is tried until one stands"


async def test_a_machine_without_a_network_reaches_no_cloud() -> None:
    """Every cloud but those on this machine is left out at once, and each is tried by itself."""
    async with trial() as t:
        t.network.note("one", unreachable(offline=True))
        assert t.lost == {"one", "two"}
        assert t.network.why_unreachable["two"] == NO_NETWORK

        t.cables.up = {"cloud.test"}
        await t.found("two")
        assert t.lost == {"one"}


async def test_a_server_of_this_machine_says_nothing_of_the_network() -> None:
    """An emulator that is not there benches nobody else."""
    async with trial() as t:
        t.network.note("here", unreachable(offline=True))

        assert t.lost == {"here"}


async def test_it_comes_back_by_itself() -> None:
    """As soon as a connection stands, with no call made; then nothing is tried any more."""
    async with trial() as t:
        t.network.note("one", unreachable())
        await t.cables.next()
        await t.cables.next()
        assert t.lost == {"one"}

        t.cables.up = {"192.0.2.1"}
        await t.found("one")
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert set(t.cables.asked) == {"192.0.2.1"}


@pytest.mark.parametrize(
    "error",
    [
        None,
        errors.CallRefused("no"),
        errors.BackendBusy("full"),
        errors.QuotaExhausted("spent"),
        errors.BackendError("no"),
    ],
)
async def test_an_answer_clears_it_at_once(error: errors.RouterError | None) -> None:
    """Any: who refuses a call has been reached."""
    async with trial() as t:
        t.network.note("one", unreachable())
        t.network.note("one", error)

        assert t.lost == set()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize(
    "kind",
    [
        errors.BackendUnavailable,
        errors.StreamBroken,
        errors.Benched,
        errors.Inexpressible,
    ],
)
async def test_what_says_nothing_of_the_network_changes_nothing(kind: type[errors.RouterError]) -> None:
    """A connection that broke, a call that was never sent."""
    async with trial() as t:
        t.network.note("one", kind("no"))
        assert t.lost == set()

        t.network.note("one", unreachable())
        t.network.note("one", kind("no"))
        assert t.lost == {"one"}


SILENCE = [
    errors.BackendTimeout("no token"),
    errors.StreamBroken("it fell silent", code=errors.BackendTimeout.code),
    errors.BackendError("it fell silent, and nothing of it was shown", code=errors.BackendTimeout.code),
]


@pytest.mark.parametrize("error", SILENCE, ids=lambda error: type(error).__name__)
async def test_silence_has_a_new_connection_tried_once(error: errors.RouterError) -> None:
    """The old one may lead nowhere: then the cloud is lost, without a call that finds it out."""
    async with trial() as t:
        for _ in range(50):
            t.network.note("one", error)
        t.network.note("two", error)
        assert t.lost == set()
        t.cables.up = {"cloud.test"}
        while len(t.cables.asked) < 2:
            await t.cables.next()
        await asyncio.sleep(0)

        assert t.lost == {"one"}
        assert t.network.why_unreachable["one"] == NO_CONNECTION
        assert t.cables.asked == ["192.0.2.1", "cloud.test"]
        t.network.note("one", error)
        t.cables.up = {"192.0.2.1"}
        await t.found("one")
        t.network.note("one", error)
        await t.cables.next()


async def test_a_doubt_that_is_overtaken_changes_nothing() -> None:
    """The cloud was lost meanwhile, or has moved elsewhere."""
    async with trial() as t:
        t.network.note("one", SILENCE[0])
        t.network.note("one", unreachable())
        t.network.note("two", SILENCE[0])
        t.network.follow(ADDRESSES | {"two": ("elsewhere.test", 443)})
        await t.cables.next()
        await asyncio.sleep(0)

        assert t.lost == {"one"}
        assert t.network.why_unreachable["one"] != NO_CONNECTION


async def test_nothing_is_tried_while_all_is_well() -> None:
    """No task, no connection; a backend of this machine is never tried."""
    async with trial() as t:
        t.network.note("one", None)
        t.network.note("local", errors.BackendUnavailable("the worker died"))
        t.network.note("local", unreachable(offline=True))
        await asyncio.sleep(0)

        assert (t.lost, t.cables.asked) == (set(), [])
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_many_failures_at_once_are_one_loss() -> None:
    """Calls that were in flight together start one trial together."""
    async with trial() as t:
        for _ in range(50):
            t.network.note("one", unreachable())

        assert len(asyncio.all_tasks()) == 2


async def test_lost_found_and_lost_again_in_one_breath() -> None:
    """The trial that was told to end does not take the newer one's news along."""
    async with trial() as t:
        t.network.note("one", unreachable())
        await asyncio.sleep(0)
        t.network.note("one", None)
        t.network.note("one", unreachable())
        for _ in range(5):
            await asyncio.sleep(0)
        assert t.lost == {"one"}

        t.cables.up = {"192.0.2.1"}
        await t.found("one")


async def test_a_closed_network_tries_nothing() -> None:
    """A call that ends while all is being closed starts no task."""
    async with trial() as t:
        await t.network.close()
        t.network.note("one", unreachable())
        t.network.note("one", errors.BackendTimeout("no token"))

        assert t.lost == set()


async def test_a_new_configuration_keeps_what_is_known() -> None:
    """Of clouds that stay where they are; one that moves or leaves is tried no more."""
    async with trial() as t:
        t.network.note("one", unreachable(offline=True))
        t.network.note("here", unreachable())
        t.network.follow(ADDRESSES | {"two": ("elsewhere.test", 443), "three": ("192.0.2.3", 443)})
        assert t.lost == {"one", "here"}

        t.network.note("three", unreachable())
        t.network.follow({"one": ADDRESSES["one"]})
        assert t.lost == {"one"}
        t.cables.up = {"192.0.2.1"}
        await t.found("one")


def test_the_end_of_a_black_hole_is_noticed_in_time() -> None:
    """One trial and one pause are less than 4 s, however long it lasted."""
    pauses = list(itertools.islice(pauses_s(), 20))

    assert pauses[:5] == [0.25, 0.5, 1.0, 2.0, 2.0]
    assert max(pauses) + PROBE_S == LONGEST_PAUSE_S + PROBE_S < 4.0


def test_a_cloud_that_only_seems_to_be_back_is_left_alone_longer() -> None:
    """Five losses with no answer in between: a connection stands, and calls get none."""
    waits = [wait_s(Cloud("cloud.test", 443, lost_count=count)) for count in (0, 4, 5, 6, 7, 8, 9, 10_000)]

    assert waits == [FIRST_PAUSE_S, FIRST_PAUSE_S, 5.0, 10.0, 20.0, 40.0, 60.0, 60.0]


async def test_an_answer_forgives_former_losses() -> None:
    """A network that flaps and works in between is found again quickly."""
    async with trial() as t:
        for _ in range(50):
            t.network.note("one", unreachable())
            t.network.note("one", None)
        t.network.note("one", unreachable())
        t.cables.up = {"192.0.2.1"}
        await t.found("one")  # after a minute, were they not forgiven


@contextmanager
def deaf() -> Iterator[int]:
    """A port whose backlog is full, so that no handshake ends."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        address = full.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            assert filler.connect_ex(address) in {0, errno.EINPROGRESS}
        yield address[1]
        for filler in fillers:
            filler.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_connection_that_stands_is_closed_and_says_nothing(host: str) -> None:
    """Who listens is told nothing: no byte, and the end at once."""
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.put_nowait(await reader.read())
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        assert await stands(host, server.sockets[0].getsockname()[1])
        assert await heard.get() == b""


async def test_nobody_and_no_name_and_silence_are_no_connection() -> None:
    """Each ends within its time."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        assert not await stands("127.0.0.1", free.getsockname()[1])
    assert not await stands("cloud.invalid", 443)
    with deaf() as port:
        assert not await stands("127.0.0.1", port, within_s=0.05)
