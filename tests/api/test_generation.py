"""Another configuration put in the place of the one that serves, on real sockets."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator

import pytest
from scripted_answers import CHAT, ScriptedAnswers, connected, exchange, post, request_bytes

from hybrid_router.api.generation import CURRENT, Current
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application, generation
from hybrid_router.config.schema import Key, Server
from hybrid_router.core.event import Finish, Text

OPEN = Server(listen="127.0.0.1:0")


def saying(text: str, *, once: asyncio.Event | None = None) -> ScriptedAnswers:
    """Answers with `text`, once the event is set if one is given."""
    held = [once] if once is not None else []
    return ScriptedAnswers([*held, [Text(text), Finish("stop")]])


class Router:
    """A listener and what its requests belong to."""

    def __init__(self, listener: Listener, current: Current) -> None:
        self.port = listener.port
        self.current = current


@pytest.fixture
def release() -> asyncio.Event:
    """Lets the first generation answer."""
    return asyncio.Event()


@pytest.fixture
async def old(release: asyncio.Event) -> ScriptedAnswers:
    """Who answers at first."""
    return saying("old", once=release)


@pytest.fixture
async def router(old: ScriptedAnswers) -> AsyncGenerator[Router]:
    """A router whose calls wait to be released."""
    application = create_application(old, OPEN, "1")
    async with Listener(application) as listener:
        yield Router(listener, application[CURRENT])


async def test_a_call_ends_where_it_began(
    router: Router, old: ScriptedAnswers, release: asyncio.Event
) -> None:
    """A call in flight is answered by its own generation; one that comes after the swap, by the next."""
    first = router.current.generation
    running = asyncio.create_task(post(router.port, "/v1/chat/completions", CHAT))
    await old.running.wait()
    router.current.generation = generation(saying("new"), OPEN)

    later = await post(router.port, "/v1/chat/completions", CHAT)
    assert later.json["choices"][0]["message"]["content"] == "new"
    assert first.in_flight_count == 1
    emptied = asyncio.create_task(first.emptied())
    release.set()
    assert (await running).json["choices"][0]["message"]["content"] == "old"
    await emptied
    assert first.in_flight_count == router.current.generation.in_flight_count == 0


async def test_an_idle_generation_is_empty_at_once(router: Router) -> None:
    """Nobody waits for calls that are not there."""
    await router.current.generation.emptied()


async def test_a_refused_call_is_not_in_flight(router: Router) -> None:
    """A call that could not be decided leaves no trace in the count."""
    reply = await post(router.port, "/v1/chat/completions", {**CHAT, "model": "nobody"})

    assert reply.status == 404
    assert router.current.generation.in_flight_count == 0


async def test_keys_and_names_hold_from_the_next_request_on(router: Router) -> None:
    """New keys lock out who has none, also on a connection that stands; a new host name is let in."""
    key = Key(name="laptop", sha256=hashlib.sha256(b"hr-new").hexdigest())
    asked = request_bytes("GET", "/v1/models").replace(b"Connection: close\r\n", b"")
    async with connected(router.port) as (reader, writer):
        writer.write(asked)
        assert b"200 OK" in await reader.readuntil(b"}]}")
        router.current.generation = generation(
            ScriptedAnswers(), Server(listen="127.0.0.1:0", keys=(key,), allowed_hosts=("router.lan",))
        )
        writer.write(asked)
        assert b"401 Unauthorized" in await reader.readuntil(b"\r\n\r\n")
    with_key = [("Authorization", "Bearer hr-new")]
    reply = await exchange(router.port, request_bytes("GET", "/v1/models", b"", with_key, host="router.lan"))
    assert reply.status == 200


async def test_limits_hold_from_the_next_request_on(router: Router) -> None:
    """A smaller body limit refuses what passed before."""
    router.current.generation = generation(ScriptedAnswers(), Server(listen="127.0.0.1:0", body_limit=1024))
    large = {**CHAT, "messages": [{"role": "user", "content": "x" * 2000}]}

    assert (await post(router.port, "/v1/chat/completions", large)).status == 413
