"""Clients that leave, stall or dawdle, and our own end.  Raw sockets, the real runner, no sleeps."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
import pytest
from scripted_answers import (
    CHAT,
    ScriptedAnswers,
    Told,
    connected,
    get,
    listening,
    parsed,
    request_bytes,
    reset,
)

from hybrid_router.api.exchange import LIFECYCLE
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.config.schema import Server
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Finish, Text
from hybrid_router.dispatch.record import Record

CHATS = "/v1/chat/completions"
STREAM = request_bytes("POST", CHATS, msgspec.json.encode({**CHAT, "stream": True}))
PLAIN = request_bytes("POST", CHATS, msgspec.json.encode(CHAT))
QUICK = Server(listen="127.0.0.1:0", header_timeout=0.2, client_stall=0.3, drain=0.2)


class Phases(ScriptedAnswers):
    """Waits for ever where the test wants it."""

    def __init__(self, phase: str) -> None:
        never = asyncio.Event()
        scripts: dict[str, list[Batch | asyncio.Event]] = {
            "queued": [never],
            "streaming": [[Text("a")], never],
            "after the last token": [[Text("a")], [Finish("stop")], never],
        }
        super().__init__(scripts[phase])


@pytest.mark.parametrize("leave", ["reset", "close"])
@pytest.mark.parametrize("phase", ["queued", "streaming", "after the last token"])
async def test_a_client_that_leaves_frees_its_backend(phase: str, leave: str) -> None:
    """F27: at every phase the backend's generator is closed, and the log says that the client was gone."""
    answers, told = Phases(phase), Told()
    async with listening(answers, on_call=told) as listener, connected(listener.port) as (reader, writer):
        writer.write(STREAM)
        await answers.running.wait()
        if phase != "queued":
            await reader.readuntil(b'"content":"a"')
        if leave == "reset":
            reset(writer)
        else:
            writer.close()
        await asyncio.wait_for(answers.closed.wait(), 5)
        await asyncio.wait_for(told.heard.wait(), 5)

    (ended,) = told.ended
    assert (ended.status, ended.error) == (499 if phase == "queued" else 200, "client_gone")


async def test_a_client_that_leaves_a_plain_call_frees_its_backend() -> None:
    """F27: a plain call is cancelled too, though nothing of it was written yet."""
    answers, told = Phases("streaming"), Told()
    async with listening(answers, on_call=told) as listener, connected(listener.port) as (_, writer):
        writer.write(PLAIN)
        await answers.running.wait()
        reset(writer)
        await asyncio.wait_for(answers.closed.wait(), 5)
        await asyncio.wait_for(told.heard.wait(), 5)

    assert [(ended.status, ended.error) for ended in told.ended] == [(499, "client_gone")]


async def test_a_client_that_leaves_before_its_body_makes_no_call() -> None:
    """A connection that ends inside a body leaves nothing behind."""
    answers, told = ScriptedAnswers(), Told()
    async with listening(answers, on_call=told) as listener, connected(listener.port) as (_, writer):
        writer.write(STREAM[:-5])
        await writer.drain()
        reset(writer)
        assert (await get(listener.port, "/health")).status == 200

    assert answers.calls == []
    assert told.ended == []


class Endless(ScriptedAnswers):
    """Says more than any buffer holds, and counts what it was asked for."""

    async def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """A hundred thousand long batches."""
        try:
            for _ in range(100_000):
                self.steps_done += 1
                yield [Text("x" * 4096)]
            yield [Finish("stop")]
        finally:
            self.closed.set()


def _deaf_socket(port: int) -> socket.socket:
    """A client with a small receive buffer that never reads."""
    deaf = socket.socket()
    deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    deaf.connect(("127.0.0.1", port))
    return deaf


async def test_a_client_that_never_reads_is_cut() -> None:
    """F29: it holds back the backend after some buffers' worth, then loses the call."""
    answers, told = Endless(), Told()
    async with listening(answers, QUICK, told) as listener:
        with _deaf_socket(listener.port) as deaf:
            deaf.sendall(STREAM)
            await asyncio.wait_for(answers.closed.wait(), 10)
            await told.heard.wait()
            assert (await get(listener.port, "/health")).status == 200

    assert [(ended.status, ended.error) for ended in told.ended] == [(200, "client_stall")]
    assert answers.steps_done < 5000  # 20 MB of 400: bounded by socket buffers, not by the answer


async def test_a_large_plain_answer_does_not_wait_for_ever() -> None:
    """F29: the rest of a plain reply is dropped with the connection; its backend was free before."""
    answers = ScriptedAnswers([[Text("x" * 30_000_000)], [Finish("stop")]])
    async with listening(answers, QUICK) as listener:
        with _deaf_socket(listener.port) as deaf:
            deaf.setblocking(False)
            loop = asyncio.get_running_loop()
            await loop.sock_sendall(deaf, PLAIN)
            await asyncio.wait_for(answers.closed.wait(), 5)
            connection = listener.connections[0]
            assert connection.task is not None
            await asyncio.wait_for(asyncio.wait({connection.task}), 5)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "])
async def test_a_head_that_does_not_come_ends_the_connection(sent: bytes) -> None:
    """F30: silence or half a head is closed without a word after `header_timeout`."""
    async with listening(ScriptedAnswers(), QUICK) as listener, connected(listener.port) as (reader, writer):
        writer.write(sent)
        assert await asyncio.wait_for(reader.read(), 5) == b""


async def test_a_head_in_drips_ends_the_connection() -> None:
    """F30: a byte now and then does not start the wait anew."""
    async with listening(ScriptedAnswers(), QUICK) as listener, connected(listener.port) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-Slow: ")
        ended = asyncio.ensure_future(reader.read())
        while not ended.done():
            writer.write(b"a")
            await asyncio.wait({ended}, timeout=0.02)
        with suppress(ConnectionError):  # a drip may have hit the closed door
            assert ended.result() == b""


async def test_the_next_head_is_waited_for_no_longer() -> None:
    """F30: on a kept connection the wait starts with the next head's first byte; idle time is free."""
    async with listening(ScriptedAnswers(), QUICK) as listener, connected(listener.port) as (reader, writer):
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b'{"status":"ok"}')
        idle = asyncio.ensure_future(reader.read(1))
        done, _ = await asyncio.wait({idle}, timeout=0.5)
        assert not done
        writer.write(b"GET /hea")
        assert await asyncio.wait_for(idle, 5) == b""


async def test_a_slow_head_does_not_hurt_a_running_call() -> None:
    """The head's timer stops with the head: a call may run longer than `header_timeout`."""
    gate = asyncio.Event()
    answers = ScriptedAnswers([[Text("a")], gate, [Finish("stop")]])
    async with listening(answers, QUICK) as listener, connected(listener.port) as (reader, writer):
        writer.write(STREAM[:20])
        await writer.drain()
        writer.write(STREAM[20:])
        await reader.readuntil(b'"content":"a"')
        asyncio.get_running_loop().call_later(0.5, gate.set)
        assert (await reader.read()).endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


async def test_draining_lets_calls_finish() -> None:
    """Stopping: nothing new is accepted, idle connections close, the call in flight ends well."""
    gate = asyncio.Event()
    answers = ScriptedAnswers([[Text("a")], gate, [Finish("stop")]])
    application = create_application(answers, Server(listen="127.0.0.1:0", drain=10), "1")
    async with Listener(application) as listener:
        port = listener.port
        async with (
            connected(port) as (idle_reader, _),
            connected(port) as (kept_reader, kept),
            connected(port) as (reader, writer),
        ):
            kept.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await kept_reader.readuntil(b'{"status":"ok"}')
            writer.write(STREAM.replace(b"Connection: close\r\n", b""))
            await reader.readuntil(b'"content":"a"')
            stopping = asyncio.ensure_future(listener.stop())
            assert await idle_reader.read() == b""
            assert await kept_reader.read() == b""
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            assert not stopping.done()
            gate.set()
            assert b"data: [DONE]" in await reader.read()
            await stopping


async def test_draining_ends() -> None:
    """A call that outlives `drain` is cancelled, and its client told in-band: no hang, no `[DONE]`."""
    answers, told = Phases("streaming"), Told()
    async with listening(answers, QUICK, told) as listener, connected(listener.port) as (reader, writer):
        writer.write(STREAM)
        await reader.readuntil(b'"content":"a"')
        await asyncio.wait_for(listener.stop(), 5)
        rest = await reader.read()

    assert answers.closed.is_set()
    assert b'"code":"backend_unavailable"' in rest
    assert b"[DONE]" not in rest
    assert [ended.error for ended in told.ended] == ["cancelled"]


@pytest.mark.parametrize("sent", [PLAIN, STREAM], ids=["plain", "streamed"])
async def test_draining_tells_who_was_shown_nothing(sent: bytes) -> None:
    """A call that is cancelled before its first token, or that is not streamed, has a status and an error."""
    answers, told = Phases("queued"), Told()
    async with listening(answers, QUICK, told) as listener, connected(listener.port) as (reader, writer):
        writer.write(sent)
        await answers.running.wait()
        await asyncio.wait_for(listener.stop(), 5)
        reply = parsed(await reader.read())

    assert answers.closed.is_set()
    assert (reply.status, reply.json["error"]["code"]) == (503, "backend_unavailable")
    assert reply.headers["connection"] == "close"
    assert [(ended.status, ended.error) for ended in told.ended] == [(503, "cancelled")]


async def test_not_ready_while_draining() -> None:
    """From the moment of draining `/ready` says 503, and every response ends its connection."""
    application = create_application(ScriptedAnswers(), Server(listen="127.0.0.1:0"), "1")
    async with Listener(application) as listener:
        assert (await get(listener.port, "/ready")).status == 200
        application[LIFECYCLE].draining = True
        async with connected(listener.port) as (reader, writer):
            writer.write(b"GET /ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
            reply = parsed(await reader.read())

    assert (reply.status, reply.json["status"]) == (503, "draining")
    assert reply.headers["connection"] == "close"


async def test_draining_sends_a_large_answer_whole() -> None:
    """What is being sent when the stop comes is sent to its end."""
    text = "x" * 5_000_000
    answers = ScriptedAnswers([[Text(text), Finish("stop")]])
    application = create_application(answers, Server(listen="127.0.0.1:0", drain=10), "1")
    async with Listener(application) as listener, connected(listener.port) as (reader, writer):
        writer.write(PLAIN)
        await answers.closed.wait()
        stopping = asyncio.ensure_future(listener.stop())
        reply = parsed(await reader.read())
        await stopping

    assert reply.json["choices"][0]["message"]["content"] == text


async def test_stopping_twice_is_stopping() -> None:
    """A second stop does nothing."""
    async with listening(ScriptedAnswers()) as listener:
        await listener.stop()
        await listener.stop()


async def test_a_taken_port_is_an_error() -> None:
    """Listening on a port in use raises, and leaves nothing open."""
    async with listening(ScriptedAnswers()) as listener:
        taken = create_application(ScriptedAnswers(), Server(listen=f"127.0.0.1:{listener.port}"), "1")
        with pytest.raises(OSError, match="Address already in use"):
            await Listener(taken).start()
