"""Streams of Workers AI, through real sockets: both shapes and every quirk seen."""

from __future__ import annotations

import asyncio
import gzip
from contextlib import aclosing

import pytest
from scripted_cloud import (
    CLOSE,
    END,
    HOLD,
    PAUSE,
    RESET,
    Reply,
    a_step,
    answer,
    batches,
    chat,
    chunk,
    cloud,
    complete,
    events,
    head,
    piece,
    plain,
    stream,
)

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.core.call import Sampling
from hybrid_router.core.errors import BackendError, StreamBroken
from hybrid_router.core.event import Event, Finish, Reasoning, Text, Usage

DONE = b"[DONE]"
TOTAL = {"response": "", "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}}


async def read(*payloads: object, **config: object) -> list[Event]:
    """The events of one stream."""
    async with cloud(stream(*payloads), **config) as (backend, _):
        return await answer(backend, chat())


async def test_classic_chunks_become_text_and_one_finish() -> None:
    """A classic model names no finish reason: `[DONE]` after its text means whole."""
    told = await read({"response": "Hel", "p": "ab"}, {"response": "lo", "p": "x"}, TOTAL, DONE)

    assert told == [Text("Hel"), Text("lo"), Finish("stop"), Usage(9, 2)]


async def test_a_classic_answer_that_used_its_budget_ended_by_length() -> None:
    """Where no reason is named, the tokens counted upstream tell whether the budget was used up."""
    async with cloud(stream({"response": "a b"}, TOTAL, DONE)) as (backend, _):
        told = await answer(backend, chat(sampling=Sampling(max_tokens=2)))

    assert told == [Text("a b"), Finish("length"), Usage(9, 2)]


async def test_chat_completion_chunks_become_events() -> None:
    """Content, both names of reasoning, and the finish reason; empty deltas are dropped."""
    told = await read(
        piece(delta={"role": "assistant", "content": ""}),
        piece(delta={"reasoning_content": "hm"}),
        piece(delta={"reasoning": "so"}),
        piece("Hi"),
        piece(finish="stop"),
        DONE,
    )

    assert told == [Reasoning("hm"), Reasoning("so"), Text("Hi"), Finish("stop")]


async def test_one_read_is_one_batch() -> None:
    """All that one read brought travels together; usage comes last."""
    async with cloud(stream(piece("a"), piece("b"), piece(finish="stop"), TOTAL, DONE)) as (backend, _):
        told = await batches(backend, chat())

    assert told == [[Text("a"), Text("b"), Finish("stop")], [Usage(9, 2)]]


def counts(prompt: int, completion: int, **more: object) -> dict[str, object]:
    """A usage object."""
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        **more,
    }


@pytest.mark.parametrize(
    ("told", "last"),
    [
        ([counts(9, 0), counts(0, 1), counts(0, 1), counts(0, 0)], None),
        ([counts(9, 0), counts(9, 1), counts(9, 2)], None),
        ([counts(9, 0), counts(9, 1), counts(9, 2), counts(0, 0)], None),
        ([counts(9, 0), counts(0, 1), counts(0, 0)], counts(9, 2)),
        ([None, None, counts(9, 2)], None),
    ],
    ids=["deltas", "cumulative", "cumulative-then-zero", "trailing-line-wins", "last-chunk-only"],
)
async def test_usage_is_read_whichever_way_it_is_told(told: list[object], last: object) -> None:
    """Deltas are added up, of cumulative counts the last one holds, and a line of its own beats both."""
    chunks = [piece("x", usage=usage) for usage in told]
    trailing = [{"response": "", "usage": last}] if last else []

    got = await read(*chunks, piece(finish="stop"), *trailing, DONE)

    assert got[-1] == Usage(9, 2)


async def test_cached_tokens_and_neurons_are_told_if_upstream_tells() -> None:
    """What Workers AI says of its cache and its price is passed on as it is."""
    usage = counts(9, 2, prompt_tokens_details={"cached_tokens": 8}, neurons=0.4)

    got = await read(piece("x"), piece(finish="stop"), {"choices": [], "usage": usage}, DONE)

    assert got[-1] == Usage(9, 2, cached_tokens=8, neurons=0.4)


async def test_no_usage_is_invented() -> None:
    """Upstream said nothing of usage, so nothing is said."""
    assert await read(piece("x"), piece(finish="stop"), DONE) == [Text("x"), Finish("stop")]


async def test_numbers_are_text_and_doubled_ends_are_one() -> None:
    """A numeric response is text; several finish frames and `[DONE]`s end the answer once."""
    told = await read({"response": 42}, {"response": 1.5}, DONE, DONE)
    twice = await read(piece("a"), piece(finish="length"), piece(finish="stop"), DONE, DONE)

    assert told == [Text("42"), Text("1.5"), Finish("stop")]
    assert twice == [Text("a"), Finish("length")]


@pytest.mark.parametrize(
    ("reason", "expected"),
    [
        ("stop", "stop"),
        ("model_length", "length"),
        ("content_filter", "content_filter"),
        ("length", "length"),
    ],
)
async def test_odd_reasons_become_openais(reason: str, expected: str) -> None:
    """The client sees OpenAI's word for it."""
    assert (await read(piece("a"), piece(finish=reason), DONE))[-1] == Finish(expected)  # type: ignore[arg-type]


@pytest.mark.parametrize("reason", ["error", "abort", "no such word"])
async def test_a_failure_or_an_unknown_reason_is_no_whole_answer(reason: str) -> None:
    """Nobody can say the answer is whole, so it is not said."""
    with pytest.raises(StreamBroken, match="ended its answer with"):
        await read(piece("a"), piece(finish=reason), DONE)


@pytest.mark.parametrize("endpoint", ["v1", "run"])
async def test_stop_strings_end_the_answer_on_either_endpoint(endpoint: str) -> None:
    """Cut before the string, also across chunks; upstream is let go of, and its count is not known."""
    reply: Reply = [head(), chunk(events({"response": "one ST"}, {"response": "OP two"})), HOLD]
    async with cloud(reply, chat_endpoint=endpoint) as (backend, upstream):
        told = await answer(backend, chat(sampling=Sampling(stop=("STOP",))))
        await upstream.gone.wait()

    assert told == [Text("one "), Finish("stop")]


async def test_what_only_began_like_a_stop_string_is_given_before_the_finish() -> None:
    """No text is lost to the filter."""
    async with cloud(stream(piece("one ST"), piece(finish="stop"), DONE)) as (backend, _):
        told = await answer(backend, chat(sampling=Sampling(stop=("STOP",))))

    assert told == [Text("one "), Text("ST"), Finish("stop")]


async def test_several_choices_are_asked_for_one_by_one() -> None:
    """Choice i of prompt p has index p * n + i, each gets a seed of its own, usage is summed."""
    replies = [stream({"response": str(i)}, TOTAL, DONE) for i in "abcd"]
    async with cloud(*replies) as (backend, upstream):
        told = await answer(backend, complete("x", "y", n=2, sampling=Sampling(seed=5)))

    assert [event for event in told if isinstance(event, Text)] == [Text(t, i) for i, t in enumerate("abcd")]
    assert [event for event in told if isinstance(event, Finish)] == [Finish("stop", i) for i in range(4)]
    assert told[-1] == Usage(36, 8)
    assert [(body["prompt"], body["seed"]) for _, _, body in upstream.requests] == [
        ("x", 5),
        ("x", 6),
        ("y", 5),
        ("y", 6),
    ]


async def test_the_connection_is_kept_after_a_whole_answer() -> None:
    """The next call needs no handshake, even if the transfer ends a moment after `[DONE]`."""
    whole = stream({"response": "a"}, DONE)
    async with cloud(whole) as (backend, upstream):
        for _ in range(3):
            await answer(backend, chat())

        assert upstream.accepted_count == 1


async def gather(backend: WorkersAI, seen: list[Event]) -> None:
    """Read an answer into `seen`, which keeps what came before a failure."""
    async with aclosing(backend.run(chat(), a_step())) as running:
        async for batch in running:
            seen += batch


BROKEN: dict[str, Reply] = {
    "eof": [head(), chunk(events(piece("a"))), END],
    "cut": [head(), chunk(events(piece("a"))), CLOSE],
    "done-without-finish": stream(piece("a"), DONE),
    "malformed": stream(piece("a"), b'{"choices": [', piece(finish="stop"), DONE),
    "two-in-one": stream(piece("a"), b'{"response":"a"}{"response":"b"}', DONE),
    "wrong-type": stream(piece("a"), {"choices": "none"}, DONE),
    "bad-utf8": stream(piece("a"), b'{"response":"\xff"}', DONE),
    "deep": stream(piece("a"), b'{"error":' + b"[" * 100_000, DONE),
    "error": stream(piece("a"), {"errors": [{"code": 3040, "message": "m"}], "success": False}),
    "openai-error": stream(piece("a"), {"error": {"message": "m", "code": 500}}),
    "too-long": stream(piece("a"), b"x" * (2**20 + 1), DONE),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_what_breaks_after_the_first_event_breaks_the_stream(name: str) -> None:
    """The client has seen text, so the error says it was broken; the text seen is upstream's."""
    seen: list[Event] = []
    async with cloud(BROKEN[name]) as (backend, _):
        with pytest.raises(StreamBroken):
            await gather(backend, seen)

    assert seen == [Text("a")]


BARREN: dict[str, Reply] = {
    "eof": [head(), END],
    "cut": [head(), CLOSE],
    "done-alone": stream(DONE),
    "malformed": stream(b"{", DONE),
    "error": stream({"errors": [{"code": 3040, "message": "m"}], "success": False}),
    "too-long": [head(), chunk(b"data: " + b"x" * (2**20 + 1))],
    "reset": [head(), RESET],
    "no-reply": [RESET],
    "not-http": [b"SSH-2.0-OpenSSH_9.2\r\n\r\n", CLOSE],
    "huge-header": [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000 + b"\r\n\r\n", CLOSE],
    "page": [head("text/html"), chunk(b"<html>"), END],
    "no-type": [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"],
    "plain-malformed": plain(b"{"),
    "plain-error": plain({"success": False, "errors": [{"code": 7, "message": "m"}], "result": {}}),
    "plain-no-finish": plain({"choices": [{"message": {"content": None}}]}),
}


@pytest.mark.parametrize("name", BARREN)
async def test_what_breaks_before_the_first_event_lets_the_next_step_try(name: str) -> None:
    """Nothing was shown, so it is a backend error and not a broken stream."""
    async with cloud(BARREN[name]) as (backend, _):
        with pytest.raises(BackendError):
            await answer(backend, chat())


async def test_a_later_choice_that_is_refused_breaks_the_stream() -> None:
    """The first choice is out: another step cannot take over."""
    refused = plain(
        {"errors": [{"code": 3040, "message": "m"}]}, "429 Too Many Requests", "Retry-After: 7\r\n"
    )
    async with cloud(stream({"response": "a"}, DONE), refused) as (backend, _):
        with pytest.raises(StreamBroken, match="no capacity") as caught:
            await answer(backend, chat(n=2))

    assert caught.value.retry_after_s == 7


@pytest.mark.parametrize("ending", [[END], [CLOSE], [HOLD]], ids=["eof", "cut", "silence"])
async def test_an_answer_that_finished_is_whole_however_it_ends(ending: Reply) -> None:
    """Once the finish reason was seen, a missing `[DONE]` is nobody's loss, and is not waited for long."""
    reply = [head(), chunk(events(piece("a"), piece(finish="stop"), TOTAL)), *ending]
    async with cloud(reply) as (backend, _):
        assert await answer(backend, chat()) == [Text("a"), Finish("stop"), Usage(9, 2)]


@pytest.mark.parametrize("seen_count", range(6))
async def test_a_reset_after_any_event_never_makes_half_an_answer_whole(seen_count: int) -> None:
    """The client reads each event before the connection is reset; only after the finish is that harmless."""
    whole = [piece("a"), piece("b"), piece(finish="stop"), TOTAL, DONE]
    seen: list[Event] = []
    async with cloud([head(), *[chunk(events(e)) for e in whole[:seen_count]], PAUSE, RESET]) as (
        backend,
        upstream,
    ):
        if seen_count == 0:
            upstream.go_on.set()
        reading = backend.run(chat(), a_step())
        try:
            async with aclosing(reading):
                async for batch in reading:
                    seen += batch
                    if len(seen) == min(seen_count, 3):
                        upstream.go_on.set()
            error = None
        except (BackendError, StreamBroken) as failure:
            error = failure

    assert seen[:3] == [Text("a"), Text("b"), Finish("stop")][:seen_count]
    assert (error is None) == (seen_count > 2)
    assert error is None or isinstance(error, StreamBroken) == (seen_count > 0)


async def test_what_came_before_the_connection_broke_is_still_read() -> None:
    """The end of an answer may wait in the buffer while its connection breaks: nothing of it is lost."""
    rest = chunk(events(piece("b"), piece(finish="stop"), TOTAL))
    async with cloud([head(), chunk(events(piece("a"))), PAUSE, rest, CLOSE]) as (backend, upstream):
        running = backend.run(chat(), a_step())
        async with aclosing(running):
            told = await anext(running)
            upstream.go_on.set()
            await upstream.gone.wait()
            await asyncio.sleep(0.05)  # both arrive unread: no event tells of that
            async for batch in running:
                told += batch

    assert told == [Text("a"), Text("b"), Finish("stop"), Usage(9, 2)]


async def test_a_classic_chunk_may_name_the_reason() -> None:
    """Some do; then the budget is not asked."""
    assert await read({"response": "a", "finish_reason": "length"}, {"response": ""}, DONE) == [
        Text("a"),
        Finish("length"),
    ]


async def test_any_slicing_gives_the_same_answer() -> None:
    """One byte at a time, with every kind of line end, changes nothing but the batches."""
    text = events(piece("a"), piece("ü😀"), piece(finish="stop"), TOTAL, DONE).replace(b"\n", b"\r\n")
    slices = [chunk(text[i : i + 1]) for i in range(len(text))]
    async with cloud([head(), chunk(b"\xef\xbb\xbf: hello\r\r"), *slices, END]) as (backend, _):
        told = await answer(backend, chat())

    assert told == [Text("a"), Text("ü😀"), Finish("stop"), Usage(9, 2)]


async def test_a_compressed_stream_is_read_all_the_same() -> None:
    """It was not asked for, but it is legal."""
    packed = gzip.compress(events(piece("a"), piece(finish="stop"), DONE))
    async with cloud([head(extra="Content-Encoding: gzip\r\n"), chunk(packed), END]) as (backend, _):
        assert await answer(backend, chat()) == [Text("a"), Finish("stop")]


async def test_comments_are_no_events() -> None:
    """A stream of pings gives nothing to yield, so the caller's timer for the first token runs on."""
    reply: Reply = [head(), *[chunk(b": ping\n\n")] * 20, HOLD]
    async with cloud(reply) as (backend, upstream):
        running = backend.run(chat(), a_step())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await anext(running)
        await upstream.gone.wait()


@pytest.mark.parametrize(
    "reply",
    [[HOLD], [head(), HOLD], [head(), chunk(events(piece("a"))), HOLD]],
    ids=["before-headers", "after-headers", "mid-stream"],
)
async def test_cancelling_lets_go_of_the_connection(reply: Reply) -> None:
    """In whichever phase the caller gives up, upstream sees the connection closed."""
    async with cloud(reply) as (backend, upstream):
        task = asyncio.ensure_future(answer(backend, chat()))
        await upstream.holding.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await upstream.gone.wait()


async def test_closing_the_generator_lets_go_of_the_connection() -> None:
    """Without reading what upstream still has to say."""
    async with cloud([head(), chunk(events(piece("a"))), HOLD]) as (backend, upstream):
        running = backend.run(chat(), a_step())
        assert await anext(running) == [Text("a")]
        await running.aclose()
        await upstream.gone.wait()
