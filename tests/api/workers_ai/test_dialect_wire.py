"""Cloudflare's addresses on a real socket, in front of a scripted service."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
import pytest
from scripted_answers import (
    HELLO,
    HandSleep,
    Reply,
    ScriptedAnswers,
    Told,
    connected,
    exchange,
    get,
    listening,
    parsed,
    post,
    request_bytes,
)

from hybrid_router.api.generation import Fronts
from hybrid_router.config.front_schema import Dialects, WorkersAIDialect
from hybrid_router.config.schema import Key, Server
from hybrid_router.core.asks import Transcription
from hybrid_router.core.errors import (
    BackendBusy,
    BackendTimeout,
    CallRefused,
    ContextOverflow,
    Inexpressible,
    PolicyRefused,
    QuotaExhausted,
    RedactionImpossible,
    RouterError,
    RouterLoop,
    StreamBroken,
    UnsupportedMediaType,
)
from hybrid_router.core.event import Finish, Heard, Label, Picture, Progress, Segment, Text, Usage

BASE = "/client/v4/accounts/any"
RUN = f"{BASE}/ai/run/"
CLASSIC = "@cf/meta/llama-2-7b-chat-int8"
SAY = {"messages": [{"role": "user", "content": "hi"}]}
FRONTS = Fronts(dialects=Dialects(workers_ai=WorkersAIDialect(models={"@cf/*": "fast"})))
KEY = "hr-secret"
KEYED = Server(
    listen="127.0.0.1:0", keys=(Key(name="alice", sha256=hashlib.sha256(KEY.encode()).hexdigest()),)
)
PNG = b"\x89PNG\r\n\x1a\n" + bytes(40)


@pytest.fixture
def answers() -> ScriptedAnswers:
    return ScriptedAnswers()


@pytest.fixture
async def port(answers: ScriptedAnswers) -> AsyncGenerator[int]:
    """A router that has an alias for everything."""
    async with listening(answers, fronts=FRONTS) as listener:
        yield listener.port


def raw(path: str, body: bytes, content_type: str | None = None) -> bytes:
    return request_bytes("POST", path, body, content_type=content_type)


def code_of(reply: Reply) -> int:
    """The one code of a failed envelope."""
    assert reply.json["success"] is False
    assert reply.json["messages"] == []
    (error,) = reply.json["errors"]
    return int(error["code"])


async def test_a_retired_names_chat_is_answered_in_the_envelope(port: int, answers: ScriptedAnswers) -> None:
    """The name of a model that is gone, its input and its answer are what they were."""
    reply = await post(port, RUN + CLASSIC, SAY)

    assert reply.json == {
        "result": {
            "response": "Hello wörld",
            "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
        },
        "success": True,
        "errors": [],
        "messages": [],
    }
    assert len(reply.headers["cf-ai-req-id"]) == 36
    assert (answers.calls[0].alias, answers.calls[0].principal) == ("fast", "local")


async def test_a_classic_stream_has_lines_usage_and_an_end(port: int) -> None:
    """`response` pieces, padding that is ignored, one line of usage, `[DONE]`."""
    reply = await post(port, RUN + CLASSIC, SAY | {"stream": True})

    *lines, usage, done = reply.events
    assert "".join(line["response"] for line in lines) == "Hello wörld"
    assert (usage["usage"]["total_tokens"], done) == (10, "[DONE]")


async def test_the_model_may_be_named_in_the_body_or_escaped(port: int, answers: ScriptedAnswers) -> None:
    """`/ai/run` with `model` and `input`, and a name whose slashes are escaped, as clients send it."""
    inner = await post(port, f"{BASE}/ai/run", {"model": CLASSIC, "input": SAY})
    escaped = await post(port, RUN + CLASSIC.replace("/", "%2F"), SAY)

    assert inner.json["result"] == escaped.json["result"]
    assert (await post(port, f"{BASE}/ai/run", {"model": CLASSIC})).status == 400


async def test_openais_addresses_answer_as_openai_does(port: int) -> None:
    """No envelope around what OpenAI's clients read, and the model that was asked for is echoed."""
    chat = await post(port, f"{BASE}/ai/v1/chat/completions", SAY | {"model": "@cf/meta/x"})
    stream = await post(port, f"{BASE}/ai/v1/chat/completions", SAY | {"model": "@cf/meta/x", "stream": True})
    responses = await post(
        port, f"{BASE}/ai/v1/responses", {"model": "@cf/openai/gpt-oss-20b", "input": "hi"}
    )

    assert chat.json["choices"][0]["message"]["content"] == "Hello wörld"
    assert chat.json["model"] == "@cf/meta/x"
    assert stream.events[0]["object"] == "chat.completion.chunk"
    assert responses.json["output"][0]["content"][0]["text"] == "Hello wörld"


@pytest.mark.parametrize("content_type", [None, "application/octet-stream", "image/png"])
async def test_raw_bytes_are_a_file(port: int, answers: ScriptedAnswers, content_type: str | None) -> None:
    """`requests.post(url, data=bytes)` sends no type at all; the file is gone when the answer is out."""
    answers.script = [[Label("tabby, cat", 0.9), Finish("stop")]]

    reply = await exchange(port, raw(RUN + "@cf/microsoft/resnet-50", PNG, content_type))

    assert reply.json["result"] == [{"label": "TABBY", "score": 0.9}]
    (upload,) = answers.calls[0].uploads
    assert upload.size_bytes == len(PNG)
    with pytest.raises(OSError, match="Bad file descriptor"):
        upload.mapped()


@pytest.mark.parametrize("content_type", [None, "application/x-www-form-urlencoded", "text/plain"])
async def test_json_is_known_by_its_first_byte(port: int, content_type: str | None) -> None:
    """`curl -d` calls JSON a form; it is read as what it is."""
    reply = await exchange(port, raw(RUN + CLASSIC, b" \n" + msgspec.json.encode(SAY), content_type))

    assert reply.json["result"]["response"] == "Hello wörld"


async def test_a_file_inside_json_is_let_go_of(port: int, answers: ScriptedAnswers) -> None:
    """Bytes as integers become a file for the time of the call, and no longer."""
    answers.script = [[Heard("en", 1.0), Segment(" hi", 0.0, 1.0), Finish("stop")]]

    reply = await post(port, RUN + "@cf/openai/whisper", {"audio": [82, 73, 70, 70]})

    assert reply.json["result"]["text"] == "hi"
    assert isinstance(answers.calls[0].ask, Transcription)
    with pytest.raises(OSError, match="Bad file descriptor"):
        answers.calls[0].uploads[0].mapped()


async def test_a_picture_comes_as_the_file_itself(port: int, answers: ScriptedAnswers) -> None:
    """Its type is what its bytes say, whatever the model is known for."""
    answers.script = [[Progress(0.5)], [Picture(PNG), Finish("stop")]]

    reply = await post(port, RUN + "@cf/bytedance/stable-diffusion-xl-lightning", {"prompt": "a cat"})

    assert (reply.headers["content-type"], reply.body) == ("image/png", PNG)
    reply = await post(port, RUN + "@cf/black-forest-labs/flux-1-schnell", {"prompt": "a cat"})
    assert base64.b64decode(reply.json["result"]["image"]) == PNG


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (CallRefused("no"), 400, 5006),
        (ContextOverflow("long"), 400, 8007),
        (UnsupportedMediaType("packed"), 415, 5006),
        (PolicyRefused("no"), 403, 3023),
        (QuotaExhausted("spent"), 429, 4006),
        (BackendBusy("full"), 429, 3040),
        (BackendTimeout("slow"), 504, 3046),
        (StreamBroken("half"), 502, 8005),
        (Inexpressible("no word"), 400, 5006),
        (RouterLoop("round"), 502, 8005),
        (RedactionImpossible("a file"), 503, 8005),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_failures_have_cloudflares_codes(
    port: int, answers: ScriptedAnswers, error: RouterError, status: int, code: int
) -> None:
    """An app that reads the code in the envelope reads ours."""
    answers.script = [error]

    reply = await post(port, RUN + CLASSIC, SAY)

    assert (reply.status, code_of(reply)) == (status, code)
    assert "cf-ai-req-id" in reply.headers


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", RUN + "@hf/nobody/nothing", 400, 5007),
        ("POST", RUN + "@cf/cloudflare/clef", 400, 5007),
        ("POST", f"{BASE}/ai/nothing", 404, 7000),
        ("GET", f"{BASE}/ai/run/x", 405, 7001),
        ("POST", RUN + CLASSIC + "?queueRequest=true", 400, 5006),
        ("POST", f"{BASE}/ai/v1/chat/completions?queueRequest=1", 400, 5006),
        ("GET", f"{BASE}/ai/models/schema", 400, 5006),
    ],
)
async def test_what_is_not_there_is_told_in_the_envelope(
    port: int, method: str, path: str, status: int, code: int
) -> None:
    """No model, no address, no method, no queue: each has Cloudflare's code."""
    body = msgspec.json.encode(SAY) if method == "POST" else b""

    reply = await exchange(port, request_bytes(method, path, body))

    assert (reply.status, code_of(reply)) == (status, code)


@pytest.mark.parametrize("options", [{"background": True}, {"webhookUrl": "http://127.0.0.1:1/"}])
async def test_an_answer_that_comes_later_is_refused(
    port: int, answers: ScriptedAnswers, options: dict[str, Any]
) -> None:
    """No webhook is ever sent, so that no app may wait for one; options that ask for none are nothing."""
    later = {"options": options}
    replies = [
        await post(port, f"{BASE}/ai/run", {"model": CLASSIC, "input": SAY} | later),
        await post(port, RUN + CLASSIC, SAY | later),
        await post(port, f"{BASE}/ai/v1/chat/completions", SAY | {"model": CLASSIC} | later),
    ]

    assert {(reply.status, code_of(reply)) for reply in replies} == {(400, 5006)}
    assert all(f"/options/{next(iter(options))}" in str(reply.json["errors"]) for reply in replies)
    assert answers.calls == []
    usual = {"model": CLASSIC, "input": SAY, "options": {"background": False}}
    assert (await post(port, f"{BASE}/ai/run", usual)).status == 200


async def test_a_name_that_only_a_pattern_knows_ends_like_a_classic_one(
    port: int, answers: ScriptedAnswers
) -> None:
    """Who asks natively and names no `max_tokens` gets 256, whatever the model; OpenAI's form has no end."""
    await post(port, RUN + "@cf/nobody/own", {"prompt": "hi"})
    await post(port, RUN + "@cf/nobody/own", {"prompt": "hi", "raw": True})
    await post(port, RUN + "@cf/nobody/own", {"prompt": "hi", "max_tokens": 9})
    await post(port, f"{BASE}/ai/v1/chat/completions", SAY | {"model": "@cf/nobody/own"})

    assert [call.sampling.max_tokens for call in answers.calls] == [256, 256, 9, None]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'{"prompt": "x", "api_base": "http://elsewhere"}', b'{"a":' + b"[" * 999]
)
async def test_a_body_that_is_none_is_refused(port: int, answers: ScriptedAnswers, body: bytes) -> None:
    """Empty, cut, no object, nested beyond reason, or choosing where a call goes: nothing is decided."""
    reply = await post(port, RUN + CLASSIC, body)

    assert (reply.status, code_of(reply)) == (400, 5006)
    assert answers.calls == []


async def test_bodies_are_held_to_their_limits(answers: ScriptedAnswers) -> None:
    """JSON to `body_limit` however it is announced, files to `upload_limit`, both before they are decoded."""
    server = Server(listen="127.0.0.1:0", body_limit=1024, upload_limit=4096, uploads_memory=8192)
    document = b'{"prompt": "' + b"x" * 1024 + b'"}'
    in_pieces = b"500\r\n" + document.ljust(0x500) + b"\r\n0\r\n\r\n"
    async with listening(answers, server, fronts=FRONTS) as listener:
        for request in (
            raw(RUN + CLASSIC, document, "application/json"),
            raw(RUN + CLASSIC, document),
            request_bytes("POST", RUN + CLASSIC, in_pieces, {"Transfer-Encoding": "chunked"}),
            raw(RUN + "@cf/microsoft/resnet-50", b"x" * 4097),
            raw(RUN + "@cf/microsoft/resnet-50", b"x" * 4097, "image/png"),
        ):
            reply = await exchange(listener.port, request)
            assert (reply.status, code_of(reply)) == (413, 3006)
        answers.script = [[Finish("stop")]]
        for _ in range(3):  # what a call took is given back
            reply = await exchange(listener.port, raw(RUN + "@cf/microsoft/resnet-50", b"x" * 4096))
            assert reply.status == 200


async def test_every_address_wants_a_key_and_sends_it_nowhere(answers: ScriptedAnswers) -> None:
    """A wrong key gets code 10000; the right one says whose call it is, and is not in the call."""
    authorization = {"Authorization": f"Bearer {KEY}"}
    paths = [RUN + CLASSIC, f"{BASE}/ai/run", f"{BASE}/ai/models/search", "/client/v4/user/tokens/verify"]
    async with listening(answers, KEYED, fronts=FRONTS) as listener:
        for path in paths:
            reply = await get(listener.port, path, {"Authorization": "Bearer wrong"})
            assert (reply.status, code_of(reply), reply.json["result"]) == (401, 10000, None)
        reply = await post(listener.port, RUN + CLASSIC, SAY, authorization | {"cf-aig-authorization": KEY})
        verified = await get(listener.port, "/client/v4/user/tokens/verify", authorization)

    assert reply.status == 200
    assert (answers.calls[0].principal, KEY in repr(answers.calls[0])) == ("alice", False)
    assert verified.json["result"]["status"] == "active"


async def test_only_listed_pages_may_call(answers: ScriptedAnswers) -> None:
    """`allowed_origins` holds here too: a browser app that is listed gets CORS headers, another nothing."""
    server = Server(listen="127.0.0.1:0", allowed_origins=("https://app.example",))
    body = msgspec.json.encode(SAY)
    async with listening(answers, server, fronts=FRONTS) as listener:
        mine = await post(listener.port, RUN + CLASSIC, body, {"Origin": "https://app.example"})
        other = await post(listener.port, RUN + CLASSIC, body, {"Origin": "https://evil.example"})

    assert mine.headers["access-control-allow-origin"] == "https://app.example"
    assert "cf-ai-req-id" in mine.headers["access-control-expose-headers"]
    assert other.status == 403
    assert len(answers.calls) == 1


async def test_the_search_lists_what_is_answered_here(answers: ScriptedAnswers) -> None:
    """Models for which an alias answers, page by page until an empty one; schemas are Cloudflare's own."""
    dialect = WorkersAIDialect(tasks={"Translation": "fast"})
    async with listening(answers, fronts=Fronts(dialects=Dialects(workers_ai=dialect))) as listener:
        found = await get(listener.port, f"{BASE}/ai/models/search?per_page=1")
        beyond = await get(listener.port, f"{BASE}/ai/models/search?per_page=1&page=9")
        schema = await get(listener.port, f"{BASE}/ai/models/schema?model=@cf/meta/m2m100-1.2b")
        unknown = await get(listener.port, f"{BASE}/ai/models/schema?model=x")

    assert [row["task"]["name"] for row in found.json["result"]] == ["Translation"]
    assert found.json["result_info"]["total_count"] == 2
    assert beyond.json["result"] == []
    assert set(schema.json["result"]) == {"input", "output"}
    assert code_of(unknown) == 5007


async def test_the_search_lists_nothing_that_is_refused(answers: ScriptedAnswers) -> None:
    """Models that are spoken through a socket alone, or tell probabilities, are answered by no alias."""
    dialect = WorkersAIDialect(tasks={"Automatic Speech Recognition": "fast", "Text Generation": "fast"})
    async with listening(answers, fronts=Fronts(dialects=Dialects(workers_ai=dialect))) as listener:
        names = {row["name"] for row in (await get(listener.port, f"{BASE}/ai/models/search")).json["result"]}

    assert "@cf/openai/whisper" in names
    assert names.isdisjoint({"@cf/deepgram/flux", "@cf/cloudflare/clef", "@cf/meta/llama-guard-3-8b"})


async def _slow(answers: ScriptedAnswers, body: dict[str, Any], end: Any, model: str = CLASSIC) -> Reply:
    """The reply to a call during which twenty seconds go by before `end`."""
    gate, sleep, told = asyncio.Event(), HandSleep(), Told()
    answers.script = [gate, *end]
    async with (
        listening(answers, on_call=told, fronts=FRONTS, sleep=sleep) as listener,
        connected(listener.port) as (reader, writer),
    ):
        writer.write(request_bytes("POST", RUN + model, msgspec.json.encode(body)))
        await sleep.passes()
        await sleep.passes()
        await sleep.asked.get()  # both signs were given
        gate.set()
        reply = parsed(await reader.read())
        await told.heard.wait()
    assert told.ended[0].status == 200
    return reply


async def test_a_slow_document_begins_with_spaces(answers: ScriptedAnswers) -> None:
    """Every ten seconds one, and the document after them is what it would have been."""
    long = "wörld" * 40_000
    reply = await _slow(answers, SAY, [[Text(long)], [Finish("stop")]])

    assert reply.status == 200
    assert reply.body.startswith(b'  {"result"')
    assert reply.json["result"]["response"] == long
    assert reply.headers["content-type"] == "application/json"
    assert "cf-ai-req-id" in reply.headers


async def test_a_slow_failure_is_told_in_the_document(answers: ScriptedAnswers) -> None:
    """Its status is out by then: the envelope says that it failed."""
    reply = await _slow(answers, SAY, [BackendBusy("full")])

    assert (reply.status, code_of(reply)) == (200, 3040)


async def test_a_slow_stream_begins_with_comments(answers: ScriptedAnswers) -> None:
    """Readers of events pass over them; then comes the stream, or the error as its only event."""
    reply = await _slow(answers, SAY | {"stream": True}, HELLO)
    failed = await _slow(answers, SAY | {"stream": True}, [BackendBusy("full")])

    assert reply.body.startswith(b": ping\n\n: ping\n\ndata: ")
    assert reply.body.endswith(b"data: [DONE]\n\n")
    error = msgspec.json.decode(failed.body.removeprefix(b": ping\n\n" * 2).removeprefix(b"data: "))
    assert error["errors"][0]["code"] == 3040


async def test_a_file_has_no_room_for_signs(answers: ScriptedAnswers) -> None:
    """However long a picture takes, its first byte is its own."""
    gate, sleep = asyncio.Event(), HandSleep()
    answers.script = [gate, [Picture(PNG), Finish("stop")]]
    async with listening(answers, fronts=FRONTS, sleep=sleep) as listener:
        path = RUN + "@cf/stabilityai/stable-diffusion-xl-base-1.0"
        asked = asyncio.create_task(post(listener.port, path, {"prompt": "a cat"}))
        await answers.running.wait()
        assert sleep.asked.empty()
        gate.set()
        reply = await asked

    assert reply.body == PNG


async def test_a_client_that_leaves_while_it_waits_frees_the_backend(answers: ScriptedAnswers) -> None:
    """Signs keep nobody's call alive: once the client is gone, so is the call."""
    sleep, told = HandSleep(), Told()
    answers.script = [asyncio.Event()]
    async with listening(answers, on_call=told, fronts=FRONTS, sleep=sleep) as listener:
        async with connected(listener.port) as (reader, writer):
            writer.write(request_bytes("POST", RUN + CLASSIC, msgspec.json.encode(SAY)))
            await sleep.passes()
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        await told.heard.wait()

    assert answers.closed.is_set()
    assert told.ended[0].error == "client_gone"


async def test_an_end_of_ours_after_signs_is_no_end_of_the_answer(answers: ScriptedAnswers) -> None:
    """When the router stops, a client that has had signs sees that its document is not whole."""
    sleep, server = HandSleep(), Server(listen="127.0.0.1:0", drain=0.05)
    answers.script = [asyncio.Event()]
    async with listening(answers, server, fronts=FRONTS, sleep=sleep) as listener:
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        writer.write(request_bytes("POST", RUN + CLASSIC, msgspec.json.encode(SAY)))
        await sleep.passes()
        head = await reader.readuntil(b"\r\n\r\n")
    rest = await reader.read()
    writer.close()

    assert b"transfer-encoding: chunked" in head.lower()
    assert rest == b"1\r\n \r\n"


async def test_a_body_that_stops_coming_is_not_waited_for(answers: ScriptedAnswers) -> None:
    """After `upload_timeout` the call is refused, and what came of the file is let go of."""
    server = Server(listen="127.0.0.1:0", upload_timeout=0.05)
    async with listening(answers, server, fronts=FRONTS) as listener:
        request = request_bytes("POST", RUN + "@cf/microsoft/resnet-50", PNG, {"Content-Length": "99"})
        reply = await exchange(listener.port, request.replace(b"application/json", b"image/png"))

    assert (reply.status, code_of(reply)) == (408, 3008)


async def test_a_stream_that_breaks_says_so_and_does_not_end(port: int, answers: ScriptedAnswers) -> None:
    """After its first event an error is an event of its own, and no `[DONE]` follows."""
    answers.script = [[Text("half")], StreamBroken("cut")]

    reply = await post(port, RUN + CLASSIC, SAY | {"stream": True})

    assert reply.events[0]["response"] == "half"
    assert reply.events[-1]["errors"][0]["code"] == 8005


async def test_usage_that_nobody_counted_is_not_made_up(port: int, answers: ScriptedAnswers) -> None:
    """Neither in a document nor in a stream."""
    answers.script = [[Text("a"), Finish("stop")]]
    plain = await post(port, RUN + CLASSIC, SAY)
    streamed = await post(port, RUN + CLASSIC, SAY | {"stream": True})

    assert plain.json["result"] == {"response": "a"}
    assert all("usage" not in event for event in streamed.events[:-1])
    answers.script = [[Text("a"), Finish("stop"), Usage(1, 1)]]
    assert "usage" in (await post(port, RUN + CLASSIC, SAY)).json["result"]
