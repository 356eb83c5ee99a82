"""Malformed and odd HTTP, and what becomes of secrets in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator

import msgspec
import pytest
from scripted_answers import (
    CHAT,
    ScriptedAnswers,
    Told,
    connected,
    exchange,
    get,
    listening,
    parsed,
    request_bytes,
)

from hybrid_router.api.connection import Connection
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Text
from hybrid_router.dispatch.record import Record

CANARY = "hr-canary-secret"
BODY = msgspec.json.encode(CHAT)
_POST = (
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer "
    + CANARY.encode()
    + b"\r\n"
)
_JSON = b"Content-Type: application/json\r\n"

MALFORMED = {
    "noise": CANARY.encode() + b"\x00\xff\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00" + CANARY.encode() + b"\r\n\r\n",
    "http/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "http/3.0": b"GET / HTTP/3.0\r\nHost: localhost\r\n\r\n",
    "no colon": _POST + b"broken " + CANARY.encode() + b"\r\n\r\n",
    "space before colon": _POST + b"X-Key : " + CANARY.encode() + b"\r\n\r\n",
    "obs-fold": _POST + b"X: a\r\n " + CANARY.encode() + b"\r\n\r\n",
    "bare lf": b"GET /health HTTP/1.1\nHost: localhost\nX: " + CANARY.encode() + b"\n\n",
    "nul": _POST + b"X: \x00" + CANARY.encode() + b"\r\n\r\n",
    "length and chunks": _POST + _JSON + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": _POST + _JSON + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "negative length": _POST + _JSON + b"Content-Length: -1\r\n\r\n",
    "signed length": _POST + _JSON + b"Content-Length: +2\r\n\r\n{}",
    "unknown coding": _POST + _JSON + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "long line": b"GET /" + b"a" * 20_000 + CANARY.encode() + b" HTTP/1.1\r\n\r\n",
    "long header": _POST + b"X: " + b"a" * 20_000 + CANARY.encode() + b"\r\n\r\n",
    "many headers": _POST + b"".join(b"X-%d: a\r\n" % i for i in range(1000)) + b"\r\n",
    "bad method": b"G\x7fT / HTTP/1.1\r\nHost: localhost\r\nX: " + CANARY.encode() + b"\r\n\r\n",
    "space in target": b"GET / " + CANARY.encode() + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
    "broken ipv6 target": b"GET http://[::1/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "not a port": b"GET http://localhost:x/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    "odd host": b"GET / HTTP/1.1\r\nHost: \xff" + CANARY.encode() + b"\r\nConnection: close\r\n\r\n",
    "odd target": b"GET /\xff\xfe HTTP/1.1\r\nHost: \xff\r\nConnection: close\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\nX: " + CANARY.encode() + b"\r\n\r\n",
}


@pytest.mark.parametrize("kind", MALFORMED)
async def test_malformed_http_is_refused_discreetly(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """F36, A14: one 400 as an error object, then the end; neither it nor any log repeats the request."""
    caplog.set_level(logging.DEBUG)
    answers = ScriptedAnswers()
    async with listening(answers) as listener, connected(listener.port) as (reader, writer):
        writer.write(MALFORMED[kind])
        raw = await reader.read()
        assert (await get(listener.port, "/health")).status == 200

    assert raw.count(b"HTTP/1.") == 1
    reply = parsed(raw)
    assert reply.status in {400, 421}
    assert reply.error["type"] in {"invalid_request_error", "permission_error"}
    assert CANARY not in raw.decode("latin-1")
    assert CANARY not in caplog.text
    assert "Traceback" not in caplog.text
    assert answers.calls == []


async def test_http_0_9_is_refused() -> None:
    """A36: a request without a version is not answered with content."""
    async with listening(ScriptedAnswers()) as listener:
        assert (await exchange(listener.port, b"GET /health\r\n\r\n")).status in {400, 421}


async def test_an_upgrade_is_declined() -> None:
    """A36: nothing here speaks another protocol; the request is answered as if it had not asked."""
    headers = {"Upgrade": "websocket", "Sec-WebSocket-Key": "AA==", "Sec-WebSocket-Version": "13"}
    raw = request_bytes("GET", "/health", b"", headers).replace(b"Connection: close", b"Connection: Upgrade")
    async with listening(ScriptedAnswers()) as listener, connected(listener.port) as (reader, writer):
        writer.write(raw)
        head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 200 ")


async def test_pipelined_requests_are_answered_in_order() -> None:
    """F36: one response per request, in their order."""
    keep = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    raw = keep + keep.replace(b"/health", b"/nowhere") + request_bytes("GET", "/")
    async with listening(ScriptedAnswers()) as listener, connected(listener.port) as (reader, writer):
        writer.write(raw)
        heads = [line for line in (await reader.read()).split(b"\r\n") if b"HTTP/1.1 " in line]

    assert [head[head.index(b"HTTP/1.1 ") :][9:12] for head in heads] == [b"200", b"404", b"200"]


async def test_an_unknown_expectation_is_an_error_object() -> None:
    """Even what aiohttp answers by itself arrives as an error object without a banner or an echo."""
    async with listening(ScriptedAnswers()) as listener:
        reply = await exchange(listener.port, request_bytes("GET", "/nowhere", b"", {"Expect": CANARY}))

    assert reply.status == 417
    assert CANARY not in reply.error["message"]
    assert "server" not in reply.headers


class Faulty(ScriptedAnswers):
    """Has a bug."""

    def decide(self, call: Call) -> Record:
        """Raise what nobody expects, quoting the prompt."""
        raise ZeroDivisionError(CANARY)


async def test_a_bug_is_a_500_that_tells_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected exception: an error object to the client; type and place, but no text, to the log."""
    told = Told()
    async with listening(Faulty(), on_call=told) as listener:
        reply = await exchange(listener.port, request_bytes("POST", "/v1/chat/completions", BODY))

    assert (reply.status, reply.error["code"]) == (500, "server_error")
    assert CANARY not in reply.error["message"]
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text
    assert [(ended.status, ended.error) for ended in told.ended] == [(500, "server_error")]


class FaultyLater(ScriptedAnswers):
    """Has a bug in the middle of its answer."""

    async def run(self, call: Call, record: Record) -> AsyncGenerator[Batch]:
        """Say one word, then raise what nobody expects."""
        yield [Text("a")]
        raise ZeroDivisionError(CANARY)


async def test_a_bug_in_a_stream_ends_it(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that looks like an end is sent: the connection is cut inside the body."""
    async with listening(FaultyLater()) as listener, connected(listener.port) as (reader, writer):
        writer.write(
            request_bytes("POST", "/v1/chat/completions", msgspec.json.encode({**CHAT, "stream": True}))
        )
        raw = await reader.read()

    assert b'"content":"a"' in raw
    assert b"[DONE]" not in raw
    assert not raw.endswith(b"0\r\n\r\n")
    assert "ZeroDivisionError" in caplog.text
    assert CANARY not in caplog.text


async def test_connections_leave_nothing_behind() -> None:
    """I6: after many connections of every kind, no task of theirs is left."""
    async with listening(ScriptedAnswers()) as listener:
        for raw in (*MALFORMED.values(), request_bytes("GET", "/health")) * 3:
            async with connected(listener.port) as (reader, writer):
                writer.write(raw)
                await reader.read()
        tasks = [connection.task for connection in listener.connections]
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        assert [c for c in listener.connections if isinstance(c, Connection) and not c.idle] == []
