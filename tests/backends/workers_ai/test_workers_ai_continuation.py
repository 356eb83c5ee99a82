"""Going on from the beginning of an answer: what is sent, what is believed, what is counted."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from emulated_cloud import emulating
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs
from scripted_cloud import MODEL, answer, batches, chat, cloud, complete, make, piece, plain, stream

from hybrid_router.backends.prefill import Echo, written_tokens
from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.core.call import Call, Feature, Message, Sampling
from hybrid_router.core.errors import BackendError, CallRefused, ContextOverflow, PrefillRefused
from hybrid_router.core.event import Event, Finish, Reasoning, Text, Usage
from hybrid_router.emulator import tokens
from hybrid_router.emulator.server import Running
from hybrid_router.emulator.settings import Settings

MODERN = "@cf/zai-org/glm-4.7-flash"
BY_INPUT = "@cf/openai/gpt-oss-20b"
BOTH = frozenset({MODEL, MODERN})
ENDPOINTS = pytest.mark.parametrize("endpoint", ["v1", "run"])
DONE = b"[DONE]"
COUNTED = "1 2 3 4 5 6 7 8 9 10 11 12"


def emulated(
    endpoint: str = "v1", prefills: frozenset[str] = BOTH, **settings: Any
) -> AbstractAsyncContextManager[tuple[WorkersAI, Running]]:
    """A backend that sends beginnings to `prefills`, in front of an emulator."""
    return emulating(Settings(rate_limits=False, **settings), prefills=prefills, chat_endpoint=endpoint)


def begun(call: Call, written: str) -> Call:
    """`call` with the beginning of its answer, as it came from the emulator."""
    return structs.replace(call, written=written, written_count=tokens.count(written))


def ended_by(text: str, **sampling: Any) -> Call:
    """A chat of which the client has written the beginning of the answer."""
    messages = (Message(role="user", content="hi"), Message(role="assistant", content=text))
    return structs.replace(chat(sampling=Sampling(**sampling)), messages=messages, goes_on=True)


def text_of(told: list[Event]) -> str:
    return "".join(event.text for event in told if isinstance(event, Text))


def usage_of(told: list[Event]) -> Usage:
    usage = told[-1]
    assert isinstance(usage, Usage)
    return usage


def test_what_can_be_gone_on_from_is_known_beforehand() -> None:
    """Completions of one text can; a chat only on a model that is known to, and not after an assistant."""
    backend, knowing = make("http://127.0.0.1:1"), make("http://127.0.0.1:1", prefills=BOTH)
    prefilled = structs.replace(
        chat(), messages=(Message(role="user", content="x"), Message(role="assistant", content="y"))
    )

    assert backend.continues(MODEL, complete("x"))
    assert not backend.continues(MODEL, complete("x", "y"))
    assert not backend.continues(MODEL, complete("x", n=2))
    assert not backend.continues(MODEL, structs.replace(complete("x"), prompts=((1, 2),)))
    assert not backend.continues(MODEL, chat())
    assert knowing.continues(MODEL, chat())
    assert not knowing.continues("@cf/other", chat())
    assert not knowing.continues(MODEL, chat(n=2))
    assert not knowing.continues(MODEL, prefilled)


@pytest.mark.parametrize("model", [MODEL, BY_INPUT])
@pytest.mark.parametrize("prompt", ["count to 12", "1, 2, 3, 4, 5, 6, 7,", "repeat: Grüße\n\n- 😀 b"])
async def test_a_completion_goes_on_from_any_character(model: str, prompt: str) -> None:
    """It is the raw prompt with what is written behind it: both parts are the uncut answer."""
    async with emulated() as (backend, _):
        whole = text_of(await answer(backend, complete(prompt), model))
        for at in range(1, len(whole), 1 + len(whole) // 30):
            rest = await answer(backend, structs.replace(complete(prompt), written=whole[:at]), model)

            assert whole[:at] + text_of(rest) == whole


@ENDPOINTS
@pytest.mark.parametrize("model", [MODEL, MODERN])
async def test_a_chat_goes_on_from_any_token(endpoint: str, model: str) -> None:
    """What is written is the assistant's last message; tokens are counted as if nothing had broken."""
    asked = chat("count to 12")
    async with emulated(endpoint, prefill_models=BOTH) as (backend, _):
        uncut = await answer(backend, asked, model)
        pieces = tokens.split(text_of(uncut))
        for count in range(1, len(pieces) + 1):
            written = "".join(pieces[:count])
            rest = await answer(backend, begun(asked, written), model)

            assert written + text_of(rest) == COUNTED
            assert Finish("stop") in rest
            assert usage_of(rest).completion_tokens == usage_of(uncut).completion_tokens


@ENDPOINTS
@pytest.mark.parametrize("model", [MODEL, MODERN])
async def test_a_budget_is_for_the_whole_answer(endpoint: str, model: str) -> None:
    """The rest gets what the beginning has left of `max_tokens`, and at least the word how it ends."""
    asked = chat("count to 12", sampling=Sampling(max_tokens=5))
    async with emulated(endpoint, prefill_models=BOTH) as (backend, running):
        rest = await answer(backend, begun(asked, "1 2 3"), model)
        late = await answer(backend, begun(asked, "1 2 3 4 5"), model)
        sent = [seen.body["max_tokens"] for seen in running.account.calls.calls]

    assert text_of(rest) == " 4 5"
    assert Finish("length") in rest
    assert usage_of(rest).completion_tokens == 5
    assert Finish("length") in late
    assert sent == [2, 1]


@ENDPOINTS
async def test_an_answer_that_the_client_began_goes_on(endpoint: str) -> None:
    """Only a model that is known to can; the answer is what follows, and the whole budget is for it."""
    asked = chat("count to 12", sampling=Sampling(max_tokens=5))
    messages = (*asked.messages, Message(role="assistant", content="1 2 3"))
    async with emulated(endpoint, prefill_models=BOTH) as (backend, running):
        rest = await answer(backend, structs.replace(asked, messages=messages, goes_on=True))
        sent = running.account.calls.calls[0].body

    knowing = make("http://127.0.0.1:1", prefills=BOTH)
    assert Feature.PREFILL in knowing.features(MODEL)
    assert Feature.PREFILL not in knowing.features("@cf/other")
    assert text_of(rest) == " 4 5 6 7 8"
    assert sent["messages"][-1] == {"role": "assistant", "content": "1 2 3"}
    assert sent["max_tokens"] == 5


@pytest.mark.parametrize(
    ("written", "count", "counted"),
    [
        ("one two", 2, 2),
        ("one two", 0, 2),
        ("a longer text, in one piece, of which nobody knows more", 1, 14),
    ],
)
def test_written_tokens_are_its_pieces_if_that_is_likely(written: str, count: int, counted: int) -> None:
    """Most clouds send a token at a time; where one does not, or nobody counted, it is estimated."""
    assert written_tokens(structs.replace(chat(), written=written, written_count=count)) == counted


@ENDPOINTS
async def test_a_model_that_refuses_may_start_anew(endpoint: str) -> None:
    """Its 400 is about the last message, not about the client's call."""
    async with emulated(endpoint) as (backend, _):
        with pytest.raises(PrefillRefused):
            await answer(backend, begun(chat("count to 12"), "1 2 3"), MODERN)


@ENDPOINTS
async def test_a_model_that_answers_anew_loses_what_is_out(endpoint: str) -> None:
    """It repeats the whole of it first: that much is taken off, and the client sees one answer."""
    async with emulated(endpoint) as (backend, _):
        rest = await answer(backend, begun(chat("count to 12"), "1 2 3 4"))

    assert text_of(rest) == " 5 6 7 8 9 10 11 12"


REFUSALS = {
    "order": ({"code": 8001, "message": "roles must alternate"}, "400 Bad Request", PrefillRefused),
    "no words": ({"code": 5006, "message": ""}, "400 Bad Request", PrefillRefused),
    "server error": (
        {"code": 8005, "message": "Conversation roles must alternate user/assistant"},
        "500 Oops",
        PrefillRefused,
    ),
    "another server error": ({"code": 8005, "message": "out of order"}, "500 Oops", BackendError),
    "overflow": ({"code": 5021, "message": "too long"}, "400 Bad Request", ContextOverflow),
    "too large": ({"code": 3006, "message": "too large"}, "413 Too Large", CallRefused),
}


@pytest.mark.parametrize(("error", "status", "kind"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_only_what_the_beginning_may_be_blamed_for_is_a_refused_prefill(
    error: dict[str, Any], status: str, kind: type[Exception]
) -> None:
    """All else keeps its meaning, and so does everything where nothing is written."""
    document = {"success": False, "errors": [error], "result": None, "messages": []}
    async with cloud(plain(document, status)) as (backend, _):
        with pytest.raises((BackendError, CallRefused)) as refused:
            await answer(backend, begun(chat(), "So far"))
        with pytest.raises((BackendError, CallRefused)) as fresh:
            await answer(backend, chat())
        with pytest.raises((BackendError, CallRefused)) as completion:
            await answer(backend, begun(complete("x"), "So far"))

    assert type(refused.value) is kind
    assert not isinstance(fresh.value, PrefillRefused)
    assert not isinstance(completion.value, PrefillRefused)


@pytest.mark.parametrize("name", REFUSALS)
async def test_what_the_client_began_is_blamed_only_by_name(name: str) -> None:
    """Then another step is asked; a refusal for another reason stays the client's."""
    error, status, kind = REFUSALS[name]
    document = {"success": False, "errors": [error], "result": None, "messages": []}
    async with cloud(plain(document, status)) as (backend, _):
        with pytest.raises((BackendError, CallRefused)) as refused:
            await answer(backend, ended_by("So far"))

    assert type(refused.value) is (CallRefused if name == "no words" else kind)


async def test_what_is_written_is_not_quoted_in_the_log() -> None:
    """A cloud may repeat it in its refusal."""
    said = "a whole sentence that was answered before"
    document = {"success": False, "errors": [{"code": 8007, "message": f"assistant said {said}"}]}
    async with cloud(plain(document, "400 Bad Request")) as (backend, _):
        with pytest.raises(PrefillRefused) as refused:
            await answer(backend, begun(chat(), said))

    assert said not in refused.value.detail
    assert said not in refused.value.message


TEXTS = st.text("ab ", max_size=12)


@given(TEXTS, st.lists(TEXTS.filter(bool), max_size=6))
def test_only_a_whole_repetition_is_taken_off(written: str, pieces: list[str]) -> None:
    """However the answer is cut; anything less is text, and nothing is ever lost or doubled."""
    echo, shown = Echo(written), ""
    for text in pieces:
        shown += echo.feed(text)
    shown += echo.flush()

    whole = "".join(pieces)
    repeated = len(written) >= 4 and whole.startswith(written)
    assert shown == (whole[len(written) :] if repeated else whole)


async def told(written: str, *texts: str, **sampling: Any) -> list[Event]:
    """The events of a chat that goes on from `written` with `texts`."""
    documents = [*(piece(text) for text in texts), piece(finish="stop"), DONE]
    async with cloud(stream(*documents)) as (backend, _):
        return await answer(backend, begun(chat(sampling=Sampling(**sampling)), written))


async def test_what_looks_like_a_repetition_waits_and_is_given() -> None:
    """In front of the finish at the latest."""
    assert await told("ababab", "ab", "ab") == [Text("abab"), Finish("stop")]
    assert await told("ababab", "ab", "c") == [Text("abc"), Finish("stop")]
    assert await told("ababab", "abab", "ab", " c") == [Text(" c"), Finish("stop")]


async def test_a_stop_string_counts_wherever_it_begins() -> None:
    """In what is written, or in what waited for the rest of a repetition; there is one finish."""
    assert await told("go ST", "OP now", stop=("STOP",)) == [Finish("stop")]
    assert await told("abcdef", "abc", stop=("bc",)) == [Text("a"), Finish("stop")]


@pytest.mark.parametrize("repeated", ["", "Answer:\n"])
async def test_a_stop_string_in_what_the_client_began_ends_nothing(repeated: str) -> None:
    """It is asked of the answer alone; a model that repeats the beginning first does not meet it either."""
    asked = ended_by("Answer:\n", stop=("\n", "Question:"))
    documents = [piece(repeated), piece("4"), piece("2\nQuest"), piece("ion: 1"), DONE]
    async with cloud(stream(*documents)) as (backend, _):
        events = await answer(backend, asked)

    assert text_of(events) == "42"
    assert events[-1] == Finish("stop")


async def test_reasoning_is_not_held_back_for_a_repetition() -> None:
    """Only text can repeat text."""
    thought = piece(delta={"reasoning_content": "hm"})
    async with cloud(stream(thought, piece("So fa"), piece("r, so", finish="stop"), DONE)) as (backend, _):
        events = await answer(backend, begun(chat(), "So far"))

    assert events == [Reasoning("hm"), Text(", so"), Finish("stop")]


@ENDPOINTS
async def test_a_conversation_is_named_to_the_cloud(endpoint: str) -> None:
    """So that it goes where its beginning is kept; a call without one names none."""
    async with emulated(endpoint) as (backend, running):
        await batches(backend, structs.replace(chat(), session="c0ffee"))
        await batches(backend, chat())
        named, nameless = running.account.calls.calls

    assert named.headers["x-session-affinity"] == "c0ffee"
    assert "x-session-affinity" not in nameless.headers
