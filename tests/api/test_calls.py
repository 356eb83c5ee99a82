"""Calls over HTTP: plain, streamed, failing early and late, with what is said about them in headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import msgspec
import pytest
from scripted_answers import (
    CHAT,
    HELLO,
    EngineAnswers,
    ScriptedAnswers,
    ScriptedBackend,
    Told,
    connected,
    exchange,
    get,
    listening,
    parsed,
    post,
    request_bytes,
)

from hybrid_router.core.errors import (
    BackendBusy,
    BackendUnavailable,
    CallRefused,
    NoBackend,
    PolicyRefused,
    QuotaExhausted,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Finish, Sound, Text

CHATS = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
STREAM = {**CHAT, "stream": True}


@pytest.fixture
def answers() -> ScriptedAnswers:
    """The usual script."""
    return ScriptedAnswers()


@pytest.fixture
def told() -> Told:
    """Who is told of calls."""
    return Told()


@pytest.fixture
async def port(answers: ScriptedAnswers, told: Told) -> AsyncGenerator[int]:
    """The port of a router that says the script."""
    async with listening(answers, on_call=told) as listener:
        yield listener.port


async def test_a_plain_answer_is_one_document(port: int, answers: ScriptedAnswers, told: Told) -> None:
    """The text is joined, usage counted, and the headers say who answered and why."""
    reply = await post(port, CHATS, {**CHAT, "user": "me", "a\nb": 1})

    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json["choices"][0]["message"]["content"] == "Hello wörld"
    assert reply.json["usage"]["total_tokens"] == 10
    assert reply.json["id"] == answers.calls[0].id
    assert reply.headers["x-router-backend"] == "scripted"
    assert reply.headers["x-router-model"] == "parrot"
    assert reply.headers["x-router-attempts"] == "1"
    assert reply.headers["x-router-decision"] == "dec_1"
    assert reply.headers["x-router-ignored"] == "a%0Ab,user"
    (ended,) = told.ended
    assert (ended.request_id, ended.status, ended.error) == (reply.headers["x-request-id"], 200, None)
    assert ended.duration_s > 0


async def test_rules_see_the_headers_but_no_secret(port: int, answers: ScriptedAnswers) -> None:
    """Names in lower case, repeated values joined, bytes that are no text replaced, keys left out."""
    pairs = [
        ("X-Privacy", "yes"),
        ("x-privacy", "no"),
        ("X-Odd", "a\udcff"),
        ("X-Name", "wörld"),
        ("Authorization", "Bearer hr-canary"),
        ("api-key", "hr-canary"),
        ("X-Api-Key", "hr-canary"),
        ("Cookie", "hr-canary"),
    ]
    reply = await exchange(port, request_bytes("POST", CHATS, msgspec.json.encode(CHAT), pairs))

    assert reply.status == 200
    headers = answers.calls[0].headers
    assert headers["x-privacy"] == "yes, no"
    assert headers["x-odd"] == "a\N{REPLACEMENT CHARACTER}"
    assert headers["x-name"] == "wörld"
    assert "canary" not in str(headers)


async def test_an_older_client_gets_an_older_answer(port: int) -> None:
    """HTTP/1.0 knows no chunks: a stream goes out as it comes and ends with the connection."""
    raw = request_bytes("POST", CHATS, msgspec.json.encode(STREAM)).replace(b"HTTP/1.1", b"HTTP/1.0")
    reply = await exchange(port, raw)

    assert "transfer-encoding" not in reply.headers
    assert reply.events[-1] == "[DONE]"


async def test_nothing_ignored_means_no_header(port: int) -> None:
    """`x-router-ignored` is there only if it has something to say."""
    assert "x-router-ignored" not in (await post(port, CHATS, CHAT)).headers


async def test_many_ignored_fields_fit_a_header(port: int) -> None:
    """However many and long the unknown names are, the header stays short enough for any client."""
    reply = await post(port, CHATS, {**CHAT, **{"é" * 60 + str(i): i for i in range(60)}})

    assert reply.status == 200
    assert len(reply.headers["x-router-ignored"]) < 1100


async def test_a_stream_is_events_and_done(port: int, told: Told) -> None:
    """Role, text, finish reason, usage on request, `[DONE]`; one id throughout."""
    reply = await post(port, CHATS, {**STREAM, "stream_options": {"include_usage": True}})

    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert reply.headers["x-accel-buffering"] == "no"
    assert reply.headers["x-router-backend"] == "scripted"
    *chunks, done = reply.events
    assert done == "[DONE]"
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert "".join(c["choices"][0]["delta"].get("content", "") for c in chunks[:-1]) == "Hello wörld"
    assert chunks[-1]["usage"]["prompt_tokens"] == 7
    assert [ended.error for ended in told.ended] == [None]


async def test_usage_that_nobody_counted_is_not_invented(answers: ScriptedAnswers, port: int) -> None:
    """Without a count there is no `usage`, neither in a reply nor as a chunk."""
    answers.script = [[Text("a"), Finish("length")]]
    plain = await post(port, CHATS, CHAT)
    streamed = await post(port, CHATS, {**STREAM, "stream_options": {"include_usage": True}})

    assert "usage" not in plain.json
    assert all(chunk["choices"] for chunk in streamed.events[:-1])
    assert streamed.events[-1] == "[DONE]"


async def test_completions_answer_every_prompt(answers: ScriptedAnswers, port: int) -> None:
    """Two prompts are two choices; with echo each begins with its own."""
    answers.script = [[Text(" one", 0), Text(" two", 1), Finish("stop", 0), Finish("length", 1)]]
    asked = {"model": "fast", "prompt": ["A", "B"], "echo": True}
    plain = await post(port, COMPLETIONS, asked)
    streamed = await post(port, COMPLETIONS, {**asked, "stream": True})

    assert [(c["text"], c["finish_reason"]) for c in plain.json["choices"]] == [
        ("A one", "stop"),
        ("B two", "length"),
    ]
    said = ["", ""]
    for chunk in streamed.events[:-1]:
        for choice in chunk["choices"]:
            said[choice["index"]] += choice["text"]
    assert said == ["A one", "B two"]


@pytest.mark.parametrize(
    "failure", [PolicyRefused("not at night"), NoBackend("nobody left"), CallRefused("too odd", param="n")]
)
@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_a_refused_plan_has_its_own_status(
    answers: ScriptedAnswers, port: int, told: Told, body: object, failure: RouterError
) -> None:
    """What planning refuses is an error object with its status, streamed or not, and no step was tried."""
    answers.refusal = failure
    reply = await post(port, CHATS, body)

    assert (reply.status, reply.error["message"]) == (failure.status, failure.message)
    assert (reply.error["code"], reply.error["param"]) == (failure.code, failure.param)
    assert "x-router-decision" not in reply.headers
    assert [(ended.status, ended.error) for ended in told.ended] == [(failure.status, failure.code)]


async def test_an_unknown_model_is_404(port: int) -> None:
    """A name that no alias has: 404, `model_not_found`, pointing at `model`."""
    reply = await post(port, CHATS, {**CHAT, "model": "gpt-x"})

    assert (reply.status, reply.error["code"], reply.error["param"]) == (404, "model_not_found", "model")


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_a_failure_before_the_first_event_has_its_own_status(
    answers: ScriptedAnswers, port: int, body: object
) -> None:
    """A stream that never began is answered like any failed call: status, object, when to ask again."""
    answers.script = [BackendBusy("full", retry_after_s=1.5)]
    reply = await post(port, CHATS, body)

    assert (reply.status, reply.error["type"]) == (429, "rate_limit_error")
    assert reply.headers["content-type"] == "application/json"
    assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("2", "1500")
    assert (reply.headers["x-router-attempts"], reply.headers["x-router-decision"]) == ("1", "dec_1")


async def test_a_spent_allowance_is_said_not_to_retry(answers: ScriptedAnswers, port: int) -> None:
    """Official clients retry 429 by themselves; here they are told that it is pointless."""
    answers.script = [QuotaExhausted("spent")]
    reply = await post(port, CHATS, CHAT)

    assert reply.headers["x-should-retry"] == "false"
    assert reply.error["code"] == "insufficient_quota"


@pytest.mark.parametrize(
    "script",
    [[[Text("half")], StreamBroken("cut")], [[Text("half")]]],
    ids=["broken", "ended early"],
)
async def test_a_broken_stream_ends_in_band(
    answers: ScriptedAnswers, port: int, told: Told, script: list[object]
) -> None:
    """After the first event: one error event, no finish reason, no `[DONE]`, then the connection ends."""
    answers.script = script
    async with connected(port) as (reader, writer):
        raw = request_bytes("POST", CHATS, msgspec.json.encode(STREAM))
        writer.write(raw.replace(b"Connection: close\r\n", b""))
        reply = parsed(await reader.read())

    assert reply.status == 200
    *chunks, last = reply.events
    assert last["error"]["code"] == "stream_broken"
    assert set(last["error"]) == {"message", "type", "param", "code"}
    assert all(c["finish_reason"] is None for chunk in chunks for c in chunk["choices"])
    assert [(ended.status, ended.error) for ended in told.ended] == [(200, "stream_broken")]


async def test_a_plain_answer_that_is_not_whole_is_an_error(answers: ScriptedAnswers, port: int) -> None:
    """Half an answer without a finish reason is a 502, not a reply with an invented one."""
    answers.script = [[Text("half")]]
    reply = await post(port, CHATS, CHAT)

    assert (reply.status, reply.error["code"]) == (502, "stream_broken")


async def test_one_batch_is_one_write(answers: ScriptedAnswers, port: int) -> None:
    """All events of a batch travel in one chunk of the body, the first with the head."""
    gate = asyncio.Event()
    answers.script = [[Text("a"), Text("b")], gate, [Finish("stop")]]
    raw = request_bytes(
        "POST", CHATS, b'{"model":"fast","stream":true,"messages":[{"role":"user","content":"x"}]}'
    )
    async with connected(port) as (reader, writer):
        writer.write(raw)
        await reader.readuntil(b"\r\n\r\n")
        size = int(await reader.readline(), 16)
        first = await reader.readexactly(size)
        gate.set()
        await reader.read()

        assert first.count(b"data: ") == 3  # role, a, b


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_the_next_step_answers_unnoticed(body: dict[str, object]) -> None:
    """A backend that fails before its first event is replaced; the client sees one answer."""
    backends = {
        "down": ScriptedBackend([BackendUnavailable("refused")]),
        "up": ScriptedBackend([[Text("fine")], [Finish("stop")]]),
    }
    async with listening(EngineAnswers(backends)) as listener:
        reply = await post(listener.port, CHATS, {**body, "user": "me", "store": True})

    assert reply.status == 200
    assert b"fine" in reply.body
    assert (reply.headers["x-router-backend"], reply.headers["x-router-attempts"]) == ("up", "2")
    assert reply.headers["x-router-ignored"] == "store"


@pytest.mark.parametrize("body", [CHAT, STREAM], ids=["plain", "stream"])
async def test_when_every_step_fails_all_are_named(body: dict[str, object]) -> None:
    """The last failure's status, every step's reason, and how many were tried."""
    backends = {
        "one": ScriptedBackend([BackendUnavailable("no route")]),
        "two": ScriptedBackend([BackendBusy("too many")]),
    }
    async with listening(EngineAnswers(backends)) as listener:
        reply = await post(listener.port, CHATS, body)

    assert reply.status == 429
    assert "no route" in reply.error["message"]
    assert "too many" in reply.error["message"]
    assert reply.headers["x-router-attempts"] == "2"


async def test_a_plain_call_survives_a_break_that_a_stream_cannot() -> None:
    """Nothing of a plain answer was shown, so the next step may give a whole one that says something else."""
    backends = {
        "breaks": ScriptedBackend([[Text("half")], StreamBroken("cut")]),
        "whole": ScriptedBackend([[Text("whole"), Finish("stop")]]),
    }
    async with listening(EngineAnswers(backends)) as listener:
        plain = await post(listener.port, CHATS, CHAT)
        streamed = await post(listener.port, CHATS, STREAM)

    assert plain.json["choices"][0]["message"]["content"] == "whole"
    assert streamed.events[-1]["error"]["code"] == "stream_broken"


async def test_models_are_the_aliases(port: int) -> None:
    """The list, and each by name, slashes written or escaped; an unknown one is a 404."""
    listed = await get(port, "/v1/models")
    assert [model["id"] for model in listed.json["data"]] == ["fast", "org/model"]
    for path in ("/v1/models/fast", "/v1/models/org/model", "/v1/models/org%2Fmodel"):
        assert (await get(port, path)).json in listed.json["data"]
    for path in (
        "/v1/models/none",
        "/v1/models/../fast",
        "/v1/models/..%2f..%2fetc%2fpasswd",
        "/v1/models/fast%00",
    ):
        reply = await get(port, path)
        assert (reply.status, reply.error["code"]) in {
            (404, "model_not_found"),
            (404, "not_found"),
            (400, "invalid_request_error"),
        }


async def test_health_is_about_the_process(answers: ScriptedAnswers, port: int) -> None:
    """Health does not depend on backends."""
    answers.why = dict.fromkeys(answers.aliases, "down")

    assert (await get(port, "/health")).json == {"status": "ok"}


async def test_ready_is_about_serving(answers: ScriptedAnswers, port: int) -> None:
    """200 while any alias can be served, with each one's state; 503 with the reasons when none can."""
    answers.why = {"fast": "local/a: loading"}
    some = await get(port, "/ready")
    answers.why = dict.fromkeys(answers.aliases, "offline")
    none = await get(port, "/ready")

    assert (some.status, some.json["status"]) == (200, "ready")
    assert some.json["models"] == {
        "fast": {"state": "unavailable", "because": "local/a: loading"},
        "org/model": {"state": "ready"},
    }
    assert (none.status, none.json["status"]) == (503, "unavailable")
    assert none.json["models"]["fast"]["because"] == "offline"


async def test_the_root_is_a_signpost(port: int) -> None:
    """What this is, which version, and where to go."""
    reply = await get(port, "/")

    assert reply.json["name"] == "hybrid-router"
    assert reply.json["version"] == "1.2.3"
    assert reply.json["models"] == "/v1/models"


async def test_a_connection_serves_one_call_after_the_other(port: int) -> None:
    """Keep-alive: plain, stream and error share one connection."""
    async with connected(port) as (reader, writer):
        body = b'{"model":"fast","messages":[{"role":"user","content":"x"}]}'
        keep = request_bytes("POST", CHATS, body).replace(b"Connection: close\r\n", b"")
        for _ in range(3):
            writer.write(keep)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            assert b"Hello" in await reader.readexactly(length)
        writer.write(request_bytes("GET", "/nowhere"))
        assert (await reader.read()).startswith(b"HTTP/1.1 404 ")
        assert len(HELLO) == 3


@pytest.mark.parametrize("version", [b"HTTP/1.0", b"HTTP/1.1"])
async def test_a_file_that_broke_off_does_not_look_whole(
    port: int, answers: ScriptedAnswers, told: Told, version: bytes
) -> None:
    """A form without room for an error: the connection is reset, also where its end is the body's end."""
    hold = asyncio.Event()
    answers.script = [[Sound(b"half a file")], hold, StreamBroken("cut")]
    body = msgspec.json.encode({"model": "fast", "input": "hi", "voice": "amy", "response_format": "pcm"})
    raw = request_bytes("POST", "/v1/audio/speech", body).replace(b"HTTP/1.1", version, 1)
    async with connected(port) as (reader, writer):
        writer.write(raw)
        assert b" 200 " in await reader.readuntil(b"half a file")
        hold.set()
        with pytest.raises(ConnectionResetError):
            await reader.read()

    assert [ended.error for ended in told.ended] == ["stream_broken"]
