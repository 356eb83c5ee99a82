"""Reading bodies: type, size, time.  On real sockets."""

from __future__ import annotations

import msgspec
import pytest
from scripted_answers import (
    CHAT,
    ScriptedAnswers,
    connected,
    exchange,
    get,
    listening,
    parsed,
    post,
    request_bytes,
)

from hybrid_router.config.schema import Server

PATH = "/v1/chat/completions"
SMALL = Server(listen="127.0.0.1:0", body_limit=4096, body_timeout=0.2)
BODY = msgspec.json.encode(CHAT)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;Charset=UTF-8",
        "application/json ; a=b",
    ],
)
async def test_json_is_taken(content_type: str) -> None:
    """application/json in UTF-8, however it is spelled."""
    async with listening(ScriptedAnswers()) as listener:
        raw = request_bytes("POST", PATH, BODY, content_type=content_type)
        assert (await exchange(listener.port, raw)).status == 200


@pytest.mark.parametrize(
    "content_type",
    [
        None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/json; charset=latin-1", "application/jsonp", "text/plain; application/json",
    ],
)  # fmt: skip
async def test_other_types_are_refused(content_type: str | None) -> None:
    """A05: what a web page can send without asking first is refused, with a sentence that shows curl."""
    answers = ScriptedAnswers()
    async with listening(answers) as listener:
        reply = await exchange(listener.port, request_bytes("POST", PATH, BODY, content_type=content_type))

    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")
    assert "curl" in reply.error["message"]
    assert answers.calls == []


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, identity"])
async def test_compressed_bodies_are_refused(coding: str) -> None:
    """F33: a body is never unpacked, so it cannot grow."""
    async with listening(ScriptedAnswers()) as listener:
        reply = await post(listener.port, PATH, b"\x1f\x8b\x08\x00", {"Content-Encoding": coding})

    assert (reply.status, reply.error["code"]) == (415, "unsupported_media_type")


async def test_a_body_at_the_limit_is_read_and_one_over_it_is_not() -> None:
    """F33: the limit holds to the byte, announced or not."""
    async with listening(ScriptedAnswers(), SMALL) as listener:
        for size, status in ((4096, 200), (4097, 413)):
            body = BODY.ljust(size)
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, body)
            for raw in (
                request_bytes("POST", PATH, body),
                request_bytes("POST", PATH, chunked, {"Transfer-Encoding": "chunked"}),
            ):
                reply = await exchange(listener.port, raw)
                assert reply.status == status
                assert status == 200 or reply.error["code"] == "request_too_large"


async def test_an_endless_body_is_cut() -> None:
    """F33: chunks without end get a 413 and the connection's end, not memory."""
    async with listening(ScriptedAnswers(), SMALL) as listener, connected(listener.port) as (reader, writer):
        writer.write(
            request_bytes("POST", PATH, b"", {"Transfer-Encoding": "chunked"}, host="localhost").replace(
                b"Connection: close", b"Content-Type: application/json"
            )
        )
        for _ in range(8):
            writer.write(b"400\r\n" + b" " * 1024 + b"\r\n")
        head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 413 ")


async def test_a_large_announcement_is_refused_unseen() -> None:
    """A Content-Length over the limit is refused before a byte of the body is sent."""
    async with listening(ScriptedAnswers(), SMALL) as listener:
        raw = request_bytes("POST", PATH, b" ", {"Content-Length": "999999999999", "Expect": "100-continue"})
        async with connected(listener.port) as (reader, writer):
            writer.write(raw)
            head = await reader.readuntil(b"\r\n\r\n")

    assert head.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("sent", [b"", b'{"model"'])
async def test_a_slow_body_is_given_up(sent: bytes) -> None:
    """F30: a body that does not arrive gets a 408, then the connection's end."""
    async with listening(ScriptedAnswers(), SMALL) as listener:
        headers = {"Content-Length": "100", "Content-Type": "application/json"}
        reply = await exchange(listener.port, request_bytes("POST", PATH, sent, headers, content_type=None))

    assert (reply.status, reply.error["code"]) == (408, "request_timeout")


async def test_a_client_that_asks_first_is_invited() -> None:
    """`Expect: 100-continue`: the body is asked for once the guard has agreed, and only then."""
    async with listening(ScriptedAnswers()) as listener, connected(listener.port) as (reader, writer):
        headers = {
            "Content-Length": str(len(BODY)),
            "Expect": "100-continue",
            "Content-Type": "application/json",
        }
        writer.write(request_bytes("POST", PATH, b"", headers))
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(BODY)
        reply = parsed(await reader.read())
        refused = await exchange(
            listener.port, request_bytes("POST", PATH, b"", headers, host="attacker.test")
        )

    assert reply.status == 200
    assert refused.status == 421


@pytest.mark.parametrize("body", [b"zz\r\n", b"-1\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n"])
async def test_malformed_chunks_are_refused(body: bytes) -> None:
    """Chunks that do not add up get a 400 and no call."""
    answers = ScriptedAnswers()
    async with listening(answers) as listener:
        reply = await exchange(
            listener.port, request_bytes("POST", PATH, body, {"Transfer-Encoding": "chunked"})
        )

    assert reply.status == 400
    assert answers.calls == []


async def test_an_empty_body_is_named() -> None:
    """A POST without a body says what is missing."""
    async with listening(ScriptedAnswers()) as listener:
        reply = await get(listener.port, PATH, {"Content-Type": "application/json"}, method="POST")

    assert reply.status == 400
    assert "empty" in reply.error["message"]


async def test_a_refusal_points_at_the_field_over_the_wire() -> None:
    """`param` and code arrive with the 400."""
    async with listening(ScriptedAnswers()) as listener:
        reply = await post(listener.port, PATH, {**CHAT, "temperature": 9})

    assert reply.error == {
        "message": "temperature: Expected `float` <= 2.0",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_request_error",
    }


async def test_chunks_that_go_wrong_later_are_refused_once() -> None:
    """F36: a body that turns out malformed while it is read gets one 400, then the connection's end."""
    answers = ScriptedAnswers()
    head = request_bytes("POST", PATH, b"", {"Transfer-Encoding": "chunked", "Expect": "100-continue"})
    head = head.replace(b"Connection: close", b"Content-Type: application/json")
    async with listening(answers) as listener, connected(listener.port) as (reader, writer):
        writer.write(head)
        await reader.readuntil(b"100 Continue\r\n\r\n")
        writer.write(b"2\r\n{}\r\nnonsense\r\n")
        raw = await reader.read()

    assert raw.count(b"HTTP/1.") == 1
    assert parsed(raw).status == 400
    assert answers.calls == []
