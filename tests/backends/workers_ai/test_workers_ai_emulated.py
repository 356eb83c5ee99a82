"""The backend against the emulator: every endpoint, code and fault of the contract."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, aclosing
from typing import Any

import pytest
from emulated_cloud import emulating
from msgspec import convert, structs
from scripted_cloud import a_step, answer, chat, complete, make

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.core import errors
from hybrid_router.core.call import Call, FunctionCall, Message, Sampling, ToolCall
from hybrid_router.core.errors import BackendError, RouterError, StreamBroken
from hybrid_router.core.event import Event, Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import Settings

CLASSIC = "@cf/meta/llama-3.2-1b-instruct"
CLASSIC_TOOLS = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
MODERN = "@cf/zai-org/glm-4.7-flash"
TOOLS: tuple[dict[str, Any], ...] = (
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    },
)
ENDPOINTS = pytest.mark.parametrize("endpoint", ["v1", "run"])
MODELS = pytest.mark.parametrize("model", [CLASSIC, MODERN])


def emulated(endpoint: str = "v1", **settings: Any) -> AbstractAsyncContextManager[tuple[WorkersAI, Running]]:
    """A backend in front of an emulator."""
    return emulating(Settings(**settings), chat_endpoint=endpoint)


def text_of(told: list[Event], index: int = 0) -> str:
    """A choice's whole text."""
    return "".join(event.text for event in told if isinstance(event, Text) and event.index == index)


@ENDPOINTS
@MODELS
@pytest.mark.parametrize("stream_usage", ["delta", "cumulative", "final"])
async def test_chat_is_answered_whole(endpoint: str, model: str, stream_usage: str) -> None:
    """Text, one finish, and the usage the emulator has booked, whichever way it is told."""
    async with emulated(endpoint, stream_usage=stream_usage) as (backend, _):
        told = await answer(backend, chat("repeat: Grüße, 42 😀"), model)

    *_, finish, usage = told
    assert text_of(told) == "Grüße, 42 😀"
    assert finish == Finish("stop")
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0


@ENDPOINTS
@MODELS
async def test_a_spent_budget_is_length(endpoint: str, model: str) -> None:
    """The emulator stops at max_tokens; classic models do not say so, the count does."""
    async with emulated(endpoint) as (backend, _):
        told = await answer(backend, chat("count to 50", sampling=Sampling(max_tokens=5)), model)

    assert Finish("length") in told
    assert isinstance(told[-1], Usage)
    assert told[-1].completion_tokens == 5


@ENDPOINTS
async def test_choices_and_prompts_get_their_indices(endpoint: str) -> None:
    """Also when they are asked for one by one."""
    async with emulated(endpoint) as (backend, _):
        chatted = await answer(backend, chat("repeat: x", n=2))
        completed = await answer(backend, complete("repeat: a", "repeat: b", n=2))

    assert [text_of(chatted, index) for index in range(2)] == ["x", "x"]
    assert [text_of(completed, index) for index in range(4)] == ["\na", "\na", "\nb", "\nb"]
    assert sum(isinstance(event, Finish) for event in completed) == 4
    assert isinstance(completed[-1], Usage)


async def test_completions_of_every_family_are_understood() -> None:
    """Classic lines and `text_completion` chunks."""
    async with emulated() as (backend, _):
        for model in (CLASSIC, "@cf/qwen/qwen3-30b-a3b-fp8", "@cf/openai/gpt-oss-20b"):
            told = await answer(backend, complete("repeat: Once upon"), model)

            assert text_of(told) == "\nOnce upon"
            assert Finish("stop") in told


@ENDPOINTS
async def test_reasoning_is_told_apart(endpoint: str) -> None:
    """It is no part of the text."""
    async with emulated(endpoint) as (backend, _):
        told = await answer(backend, chat("think: repeat: four"), MODERN)

    assert any(isinstance(event, Reasoning) for event in told)
    assert text_of(told) == "four"


@ENDPOINTS
@pytest.mark.parametrize("model", [CLASSIC_TOOLS, MODERN])
async def test_a_tool_is_called_and_its_answer_sent_back(endpoint: str, model: str) -> None:
    """One named fragment first, then the arguments; the follow-up is accepted."""
    async with emulated(endpoint) as (backend, _):
        told = await answer(backend, chat("get_weather?", tools=TOOLS), model)
        calls = [event for event in told if isinstance(event, ToolFragment)]
        arguments = "".join(call.arguments for call in calls)
        asked = ToolCall(id=str(calls[0].id), function=FunctionCall(str(calls[0].name), arguments))
        follow_up = (
            Message(role="user", content="get_weather?"),
            Message(role="assistant", tool_calls=[asked]),
            Message(role="tool", tool_call_id=asked.id, content="rain"),
        )
        after = await answer(backend, structs.replace(chat(tools=TOOLS), messages=follow_up), model)

    assert (calls[0].name, bool(calls[0].id)) == ("get_weather", True)
    assert all((call.name, call.id) == (None, None) for call in calls[1:])
    assert '"city"' in arguments
    assert Finish("tool_calls") in told
    assert "rain" in text_of(after)


@ENDPOINTS
@pytest.mark.parametrize("model", [CLASSIC_TOOLS, MODERN])
async def test_json_mode_gives_text_of_json(endpoint: str, model: str) -> None:
    """Whether the emulator answers with an object or a string, streamed or not."""
    form = {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object", "required": ["a"]}},
    }
    async with emulated(endpoint) as (backend, _):
        told = await answer(backend, chat("json", response_format=form), model)

    assert text_of(told).startswith("{")
    assert text_of(told).endswith("}")
    assert Finish("stop") in told


CODES = [
    (3021, errors.BackendBusy),
    (3040, errors.BackendBusy),
    (3036, errors.QuotaExhausted),
    (4006, errors.QuotaExhausted),
    (3046, errors.BackendTimeout),
    (3007, errors.BackendTimeout),
    (5006, errors.CallRefused),
    (5007, errors.BackendMisconfigured),
    (5028, errors.BackendMisconfigured),
    (5035, errors.BackendMisconfigured),
    (10000, errors.BackendMisconfigured),
    (7003, errors.BackendMisconfigured),
    (3006, errors.CallRefused),
    (8007, errors.CallRefused),
]


@ENDPOINTS
@pytest.mark.parametrize(("code", "kind"), CODES)
async def test_each_code_comes_through(endpoint: str, code: int, kind: type[RouterError]) -> None:
    """As a reply of its own, and as an error inside a 200 before the first event."""
    async with emulated(endpoint) as (backend, running):
        for fault in (Fault(code=code), Fault(code=code, error_after=0)):
            running.account.faults.add(fault)
            with pytest.raises(kind):
                await answer(backend, chat())


@ENDPOINTS
@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=500),
        Fault(status=503),
        Fault(redirect="http://127.0.0.1:9/trap"),
        Fault(html=True),
        Fault(html=True, status=502),
        Fault(cut_after=0),
        Fault(close_after=0),
        Fault(malformed_after=0),
        Fault(error_after=0),
    ],
    ids=repr,
)
async def test_a_fault_before_the_first_event_lets_the_next_step_try(endpoint: str, fault: Fault) -> None:
    """And the backend serves the next call as if nothing had been."""
    async with emulated(endpoint) as (backend, running):
        running.account.faults.add(fault)
        with pytest.raises(BackendError):
            await answer(backend, chat())

        assert text_of(await answer(backend, chat("repeat: on"))) == "on"


@ENDPOINTS
@MODELS
@pytest.mark.parametrize("kind", ["cut_after", "close_after", "malformed_after", "error_after"])
async def test_a_fault_after_any_event_never_makes_half_an_answer_whole(
    endpoint: str, model: str, kind: str
) -> None:
    """What was read is a true beginning; without its finish the answer is broken, with it it is whole."""
    whole = "1 2 3 4"
    async with emulated(endpoint) as (backend, running):
        for after in range(14):
            running.account.faults.add(convert({kind: after}, Fault))
            told: list[Event] = []
            error = await failure(backend, chat("count to 4"), model, told)
            running.account.faults.clear()

            finished = any(isinstance(event, Finish) for event in told)
            assert whole.startswith(text_of(told))
            assert (error is None) == finished
            assert not finished or text_of(told) == whole
            assert error is None or isinstance(error, StreamBroken) == bool(told)


async def failure(backend: WorkersAI, call: Call, model: str, told: list[Event]) -> RouterError | None:
    """Read an answer into `told`; how it failed, if it did."""
    try:
        async with aclosing(backend.run(call, a_step(model))) as running:
            async for batch in running:
                told += batch
    except RouterError as error:
        return error
    return None


@ENDPOINTS
@pytest.mark.parametrize(
    "fault",
    [
        Fault(hang="before_headers"),
        Fault(hang="after_headers"),
        Fault(delay_headers_s=60),
        Fault(delay_first_s=60),
        Fault(stall_after=0),
        Fault(stall_after=3),
        Fault(pings=True),
    ],
    ids=repr,
)
async def test_giving_up_on_silence_frees_the_cloud(endpoint: str, fault: Fault) -> None:
    """The caller's timer cancels; the emulator sees its client leave."""
    async with emulated(endpoint) as (backend, running):
        running.account.faults.add(fault)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1.0):
                await answer(backend, chat("count to 9"))

        assert await running.account.calls.settled(5)
        assert running.account.calls.calls[-1].outcome == "client_left"


@ENDPOINTS
@MODELS
@pytest.mark.parametrize(
    "fault",
    [Fault(bytewise=True), Fault(plain=True), Fault(numeric=True), Fault(doubled_done=True)],
    ids=repr,
)
async def test_oddities_change_nothing(endpoint: str, model: str, fault: Fault) -> None:
    """One byte a write, plain JSON, numbers for text, two `[DONE]`: the same answer."""
    async with emulated(endpoint) as (backend, running):
        usual = await answer(backend, chat("repeat: 789"), model)
        running.account.faults.add(fault)
        odd = await answer(backend, chat("repeat: 789"), model)

    assert text_of(odd) == text_of(usual) == "789"
    assert [e for e in odd if isinstance(e, Finish)] == [Finish("stop")]
    assert isinstance(odd[-1], Usage)


async def test_a_wrong_token_or_account_is_our_fault() -> None:
    """The message says which of the two to look at."""
    async with serve(Settings()) as running:
        for account, token, word in (
            (running.account_id, "other", "token"),
            ("nonsense", running.token, "account id"),
        ):
            backend = make(running.base_url, account=account, token=token)
            with pytest.raises(errors.BackendMisconfigured, match=word):
                await answer(backend, chat())
            await backend.close()


async def test_a_model_that_is_not_there_is_our_fault() -> None:
    """router.yaml names it."""
    async with emulated() as (backend, _):
        with pytest.raises(errors.BackendMisconfigured, match="no such model"):
            await answer(backend, chat(), "@cf/no/such")


async def test_a_stop_string_lets_go_of_the_stream() -> None:
    """Natively nobody else would stop."""
    async with emulated("run", token_delay_s=0.005) as (backend, running):
        told = await answer(backend, chat("count to 5000", sampling=Sampling(stop=(" 4",))))

        assert await running.account.calls.settled(5)
        assert running.account.calls.calls[-1].outcome == "client_left"
    assert text_of(told) == "1 2 3"
    assert told[-1] == Finish("stop")
