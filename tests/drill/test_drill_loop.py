"""The drill's loop: waits cost nothing, and nothing leaves this machine."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest

from hybrid_router.drill.loop import NO_ANSWER, NO_ROUTE, ClosedLoop, Contact

T = TypeVar("T")


def ran(work: Callable[[ClosedLoop], Coroutine[Any, Any, T]]) -> tuple[T, list[Contact]]:
    """What `work` gives in a loop of its own, and who was contacted."""
    with asyncio.Runner(loop_factory=ClosedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, ClosedLoop)
        return runner.run(work(loop)), loop.contacts


def test_a_wait_is_skipped_and_counted() -> None:
    """An hour takes no time, and the clock says that it has passed."""

    async def work(loop: ClosedLoop) -> float:
        began_s = loop.time()
        await asyncio.sleep(3600)
        return loop.time() - began_s

    began_s = time.monotonic()
    waited_s, _ = ran(work)

    assert 3600 <= waited_s < 3605
    assert time.monotonic() - began_s < 60


def test_timers_go_off_in_order() -> None:
    """However far apart, the earlier one is first."""

    async def work(loop: ClosedLoop) -> list[int]:
        order: list[int] = []
        for delay in (300, 2, 40):
            loop.call_later(delay, order.append, delay)
        await asyncio.sleep(400)
        return order

    assert ran(work)[0] == [2, 40, 300]


def test_a_thread_is_waited_for() -> None:
    """The clock stands while one works: a timeout does not overtake it."""

    def slow() -> str:
        time.sleep(0.05)
        return "done"

    async def work(loop: ClosedLoop) -> str:
        async with asyncio.timeout(30):
            return await asyncio.to_thread(slow)

    assert ran(work)[0] == "done"


def test_loopback_works_as_everywhere() -> None:
    """What is sent arrives before the clock jumps; the contact is noted."""

    async def work(loop: ClosedLoop) -> tuple[bytes, int]:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(await reader.readline())
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        async with server, asyncio.timeout(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"hello\n")
            heard = await reader.readline()
            writer.close()
        return heard, port

    (heard, port), contacts = ran(work)

    assert heard == b"hello\n"
    assert contacts == [Contact("127.0.0.1", port)]


@pytest.mark.parametrize("host", [f"{NO_ROUTE}.1", "10.1.2.3", "2001:db8::1"])
def test_nobody_off_this_machine_is_reached(host: str) -> None:
    """There is no route, and the attempt is noted."""

    async def work(loop: ClosedLoop) -> int | None:
        with pytest.raises(OSError) as told:  # noqa: PT011 - its number is looked at
            await asyncio.open_connection(host, 443)
        return told.value.errno

    number, contacts = ran(work)

    assert number == errno.ENETUNREACH
    assert contacts == [Contact(host, 443)]


def test_a_thread_reaches_nobody_either() -> None:
    """Names do not resolve and datagrams do not leave, whoever asks; both are noted."""

    def ask() -> None:
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("example.org", 443)
        with socket.socket(type=socket.SOCK_DGRAM) as sender, pytest.raises(OSError, match="unreachable"):
            sender.sendto(b"x", ("9.9.9.9", 53))

    async def work(loop: ClosedLoop) -> None:
        await asyncio.to_thread(ask)

    assert ran(work)[1] == [Contact("example.org", 0), Contact("9.9.9.9", 53)]


def test_somebody_who_never_answers_is_waited_for() -> None:
    """The connection neither stands nor fails; the attempt is noted once."""

    async def work(loop: ClosedLoop) -> float:
        began_s = loop.time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(75):
                await asyncio.open_connection(f"{NO_ANSWER}.1", 80)
        return loop.time() - began_s

    waited_s, contacts = ran(work)

    assert waited_s >= 75
    assert contacts == [Contact(f"{NO_ANSWER}.1", 80)]


def test_a_loop_that_is_closed_minds_nobody() -> None:
    """After a drill, names and addresses work again."""

    async def work(loop: ClosedLoop) -> None:
        return None

    ran(work)
    with socket.socket(type=socket.SOCK_DGRAM) as sender:
        sender.setblocking(False)
        sender.sendto(b"", ("127.0.0.1", 9))
    assert socket.getaddrinfo("localhost", 80)
