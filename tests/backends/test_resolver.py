"""Names to addresses: nobody waits for a silent resolver longer than he wants to."""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from aiohttp.abc import ResolveResult

from hybrid_router.backends.resolver import Outcome, Resolver, addresses


class Dns:
    """A resolver that is silent until it is let speak; counts who asks."""

    def __init__(self, silent_count: int, then: Outcome) -> None:
        self._then = then
        self._silent_count = silent_count
        self.asked_count = 0
        self.speak = threading.Event()

    def __call__(self, host: str, port: int, family: socket.AddressFamily) -> Outcome:
        self.asked_count += 1
        if self.asked_count <= self._silent_count:
            self.speak.wait()
            return socket.gaierror(socket.EAI_AGAIN, "nobody answered")
        return self._then


@contextmanager
def dns(silent_count: int, then: Outcome | None = None) -> Iterator[Dns]:
    """One whose threads are let go at the end."""
    made = Dns(silent_count, found() if then is None else then)
    try:
        yield made
    finally:
        made.speak.set()


def found() -> list[ResolveResult]:
    told = addresses("127.0.0.1", 80, socket.AF_INET)
    assert isinstance(told, list)
    return told


async def test_a_name_of_this_machine_is_found() -> None:
    """In figures, with the port that was asked for."""
    (first, *_) = await Resolver().resolve("localhost", 80)

    assert (first["hostname"], first["port"]) == ("localhost", 80)
    assert first["host"] in {"127.0.0.1", "::1"}


@pytest.mark.parametrize("name", ["cloud.invalid", "a..b", "x" * 64 + ".invalid"])
async def test_a_name_that_nobody_has_is_an_error(name: str) -> None:
    """Of the one kind that aiohttp understands."""
    told = await asyncio.to_thread(addresses, name, 80, socket.AF_UNSPEC)

    assert isinstance(told, socket.gaierror)


async def test_a_silent_resolver_is_asked_again() -> None:
    """A lost question costs one short wait, not the system's five seconds."""
    with dns(silent_count=2) as silent:
        told = await Resolver(silent, again_s=0.01).resolve("cloud.test", 80)

    assert told == found()
    assert silent.asked_count >= 3


async def test_an_old_failure_does_not_end_a_newer_question() -> None:
    """A network that has come back answers what was asked last."""
    asked = [threading.Event() for _ in range(9)]
    order = itertools.count()

    def first_fails(host: str, port: int, family: socket.AddressFamily) -> Outcome:
        place = next(order)
        asked[place].set()
        asked[min(place + 1, 2)].wait()
        return found() if place else socket.gaierror(socket.EAI_AGAIN, "nobody answered")

    assert await Resolver(first_fails, again_s=0.05).resolve("cloud.test", 80) == found()


async def test_a_failure_with_no_other_question_is_told() -> None:
    """At once: a name that does not exist is not asked for again."""
    with dns(silent_count=1) as silent:
        silent.speak.set()
        with pytest.raises(socket.gaierror):
            await Resolver(silent).resolve("cloud.test", 80)

    assert silent.asked_count == 1


async def test_silence_ends_by_itself() -> None:
    """Also where nobody sets a limit."""
    with dns(silent_count=1000) as silent, pytest.raises(TimeoutError):
        await Resolver(silent, longest_s=0.05).resolve("cloud.test", 80)


async def test_threads_of_a_dead_network_do_not_pile_up() -> None:
    """Past a limit nobody more is asked; who has no question running is told at once."""
    with dns(silent_count=1000) as silent:
        resolver = Resolver(silent, again_s=0.0001, longest_s=1.0)
        with pytest.raises(TimeoutError):
            await resolver.resolve("cloud.test", 80)
        most_count = silent.asked_count
        with pytest.raises(socket.gaierror, match="too many"):
            await resolver.resolve("cloud.test", 80)

    assert silent.asked_count == most_count < 100


async def test_a_resolver_that_hangs_holds_up_nobody_else() -> None:
    """The loop's own threads, which read files, stay free; leaving takes the question's answer along."""
    with dns(silent_count=1000) as silent:
        resolver = Resolver(silent)
        asking = [asyncio.create_task(resolver.resolve("cloud.test", 80)) for _ in range(20)]
        while silent.asked_count < 20:  # noqa: ASYNC110 - a thread announces nothing to a loop
            await asyncio.sleep(0)
        assert await asyncio.to_thread(silent.speak.is_set) is False
        for one in asking:
            one.cancel()
        await asyncio.wait(asking)

    assert all(one.cancelled() for one in asking)


def test_a_loop_does_not_wait_for_a_silent_resolver_at_its_end() -> None:
    """`asyncio.run` returns although the question is still open, and a late answer harms nobody."""
    with dns(silent_count=1) as silent:

        async def ask() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(Resolver(silent).resolve("cloud.test", 80), 0.01)

        asyncio.run(ask())
        assert not silent.speak.is_set()
