"""The chat-completion family on `/ai/run`: OpenAI's own fields, several choices and their scores."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace
from scripted_cloud import HOLD, Reply, answer, chat, chunk, cloud, complete, events, head, plain, stream

from hybrid_router.core.call import Call, Feature, Message, Sampling
from hybrid_router.core.errors import BackendError, Inexpressible, StreamBroken
from hybrid_router.core.event import Event, Finish, Text, TokenScore, Usage

GLM, KIMI, LLAMA, OSS = (
    "@cf/zai-org/glm-4.7-flash",
    "@cf/moonshotai/kimi-k2.6",
    "@cf/meta/llama-3.2-1b-instruct",
    "@cf/openai/gpt-oss-20b",
)
DONE = b"[DONE]"
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
WRAPPED = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}}
TOOL = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}


def of(index: int, content: str | None = None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of one of several choices."""
    delta = {} if content is None else {"content": content}
    return {"choices": [{"index": index, "delta": delta, "finish_reason": finish, **more}]}


async def sent(call: Call, model: str, **config: Any) -> tuple[str, dict[str, Any]]:
    """Path and body of what a call is sent as."""
    async with cloud(stream(of(0, "a"), of(0, None, "stop"), DONE), **config) as (backend, upstream):
        await answer(backend, call, model)
    line, _, body = upstream.requests[0]
    return line.split()[1].partition("/ai/")[2], body


async def test_several_choices_are_one_request_and_one_prompt() -> None:
    """However their chunks are mixed; the prompt is paid once, and usage is that of all."""
    reply = stream(
        of(1, "b"), of(0, "a"), of(2, "c"), of(1, None, "length"), of(0, "A"), of(0, None, "stop"),
        of(2, None, "stop"),
        {"response": "", "usage": {"prompt_tokens": 9, "completion_tokens": 4}}, DONE,
    )  # fmt: skip
    async with cloud(reply, chat_endpoint="run") as (backend, upstream):
        told = await answer(backend, chat(n=3), GLM)

    assert by_index(told) == {0: "aA stop", 1: "b length", 2: "c stop"}
    assert told[-1] == Usage(9, 4)
    assert [body["n"] for _, _, body in upstream.requests] == [3]


def by_index(told: list[Event]) -> dict[int, str]:
    """Text and end of each choice."""
    found: dict[int, str] = {}
    for event in told:
        if isinstance(event, Text):
            found[event.index] = found.get(event.index, "") + event.text
        elif isinstance(event, Finish):
            found[event.index] += f" {event.reason}"
    return found


async def test_several_choices_may_come_whole() -> None:
    """In the envelope, as a plain answer to a streamed request."""
    choices = [{"index": i, "message": {"content": t}, "finish_reason": "stop"} for i, t in enumerate("ab")]
    async with cloud(plain({"result": {"choices": choices}, "success": True}), chat_endpoint="run") as (b, _):
        assert by_index(await answer(b, chat(n=2), GLM)) == {0: "a stop", 1: "b stop"}


async def test_a_choice_that_never_ends_breaks_the_answer() -> None:
    """A reply that forgets one of the choices is not whole."""
    async with cloud(stream(of(0, "a"), of(0, None, "stop"), DONE), chat_endpoint="run") as (backend, _):
        with pytest.raises(StreamBroken, match="without a finish reason"):
            await answer(backend, chat(n=2), GLM)


async def test_an_error_is_the_same_for_all_choices() -> None:
    """It is named by the table, once."""
    failed = {"errors": [{"code": 3040, "message": "Capacity temporarily exceeded"}], "success": False}
    async with cloud(stream(failed), chat_endpoint="run") as (backend, _):
        with pytest.raises(BackendError, match="no capacity"):
            await answer(backend, chat(n=2), GLM)


async def test_stop_strings_cut_each_choice_for_itself() -> None:
    """Upstream is let go of when all have met theirs, and its count is not known."""
    reply: Reply = [head(), chunk(events(of(0, "a STOP b"), of(1, "c"), of(1, " STOP"))), HOLD]
    async with cloud(reply, chat_endpoint="run") as (backend, upstream):
        told = await answer(backend, chat(n=2, sampling=Sampling(stop=("STOP",))), GLM)
        await upstream.gone.wait()

    assert by_index(told) == {0: "a  stop", 1: "c  stop"}
    assert not isinstance(told[-1], Usage)
    assert upstream.requests[0][2]["stop"] == ["STOP"]


async def test_log_probabilities_are_asked_for_natively_and_told() -> None:
    """Wherever chats go else; the scores come with the text of their tokens."""
    score = {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [{"token": "b", "logprob": -1.0, "bytes": None}],
    }
    async with cloud(stream(of(0, "a", logprobs={"content": [score]}), of(0, None, "stop"), DONE)) as (b, up):
        told = await answer(b, chat(top_logprobs=1), GLM)
        assert Feature.LOGPROBS in b.features(GLM)
        assert Feature.LOGPROBS not in b.features(LLAMA)

    assert told == [Text("a", 0, (TokenScore(b"a", -0.5, (TokenScore(b"b", -1.0),)),)), Finish("stop")]
    line, _, body = up.requests[0]
    assert "/ai/run/" in line
    assert (body["logprobs"], body["top_logprobs"]) == (True, 1)


async def test_scores_that_are_none_break_the_answer() -> None:
    """Nothing is invented in their place."""
    async with cloud(stream(of(0, "a", logprobs={"content": [{"token": 3}]}), DONE)) as (backend, _):
        with pytest.raises(BackendError, match="not its format"):
            await answer(backend, chat(top_logprobs=1), GLM)


@pytest.mark.parametrize(
    ("call", "model"),
    [(complete("x", top_logprobs=1), GLM), (chat(top_logprobs=1), LLAMA), (chat(top_logprobs=1), OSS)],
    ids=["completion", "classic", "gpt-oss"],
)
async def test_log_probabilities_elsewhere_are_not_dropped(call: Call, model: str) -> None:
    """Models and operations that have none say so."""
    async with cloud(stream(DONE)) as (backend, upstream):
        with pytest.raises(Inexpressible, match="logprobs"):
            await answer(backend, call, model)
    assert upstream.requests == []


async def test_the_family_takes_openais_fields_natively() -> None:
    """`stop` and `logit_bias` are sent, which classic models do not know there."""
    call = chat(sampling=Sampling(stop=("x",), logit_bias={5: 1.0}))
    path, body = await sent(call, GLM, chat_endpoint="run")
    classic, _ = await sent(call, LLAMA, chat_endpoint="run")

    assert path.startswith("run/")
    assert (body["stop"], body["logit_bias"]) == (["x"], {"5": 1.0})
    assert classic == "v1/chat/completions"


@pytest.mark.parametrize(
    ("model", "endpoint", "written"),
    [
        (LLAMA, "run", {"type": "json_schema", "json_schema": SCHEMA}),
        (LLAMA, "v1", WRAPPED),
        (GLM, "run", WRAPPED),
        (GLM, "v1", WRAPPED),
        (KIMI, "run", WRAPPED),
    ],
)
async def test_json_mode_is_spelt_as_the_model_wants_it(
    model: str, endpoint: str, written: dict[str, Any]
) -> None:
    """Classic models take the schema bare on their own endpoint; elsewhere it is in OpenAI's wrapper."""
    _, body = await sent(chat(response_format=WRAPPED), model, chat_endpoint=endpoint)

    assert body["response_format"] == written


@pytest.mark.parametrize(
    "choice", ["required", {"type": "function", "function": {"name": "get_weather"}}], ids=["any", "one"]
)
async def test_gpt_oss_calls_the_tool_that_was_forced(choice: object) -> None:
    """A call that it writes as text reaches the client as a call; asked of another model it stays text."""
    leaked = '{"name": "get_weather", "arguments": {"city": "Oslo"}}'
    call = chat(tools=(TOOL,), tool_choice=choice)
    async with cloud(stream(of(0, leaked), of(0, None, "stop"), DONE)) as (backend, _):
        assert (await answer(backend, call, OSS))[-1] == Finish("tool_calls")
        assert await answer(backend, call, GLM) == [Text(leaked), Finish("stop")]
        assert await answer(backend, chat(tools=(TOOL,)), OSS) == [Text(leaked), Finish("stop")]


async def test_earlier_reasoning_and_names_go_back_to_the_family() -> None:
    """As `reasoning`, on its own endpoint as on the other; classic models know neither there."""
    turns = (
        Message(role="user", content="a", name="Ann"),
        Message(role="assistant", content="b", reasoning_content="hm"),
        Message(role="user", content="c"),
    )
    _, family = await sent(replace(chat(), messages=turns), GLM, chat_endpoint="run")
    _, classic = await sent(replace(chat(), messages=turns), LLAMA, chat_endpoint="run")

    assert family["messages"][:2] == [
        {"role": "user", "content": "a", "name": "Ann"},
        {"role": "assistant", "content": "b", "reasoning": "hm"},
    ]
    assert classic["messages"][:2] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
    ]
