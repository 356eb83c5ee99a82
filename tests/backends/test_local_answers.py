"""Calls as clients write them, answered by the real model in a child of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from hybrid_router.api.openai import completion_request, reply
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch, Finish, PromptScores, Usage
from hybrid_router.core.step import Plan, Step, Timeouts
from hybrid_router.dispatch.engine import run
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.dispatch.turnstile import Turnstile
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.routing.speed import predicted
from hybrid_router.workers.worker import Worker

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]
WAITS = Timeouts(connect_s=55, load_s=55, first_token_s=55, between_tokens_s=55, total_s=55)
STEP = Step(backend="local", model="m", timeouts=WAITS, because="")
PROMPT = "Paris is the capital of France."


@pytest.fixture
async def local(model_settings: LlamaSettings) -> AsyncIterator[Local]:
    """The model, loaded by the first call."""
    worker = Worker(model_settings)
    worker.start(load=False)
    made = Local({"m": LocalModel(worker, 4)})
    yield made
    await made.close()


def read(**fields: Any) -> Call:
    """A completion as a client writes it."""
    body = msgspec.json.encode({"model": "a", "prompt": PROMPT, "temperature": 0, **fields})
    return completion_request.decode(body, call_id="c", principal="me", headers={}).call


async def events(local: Local, call: Call) -> Batch:
    return [event async for batch in local.run(call, STEP) for event in batch]


def choice(call: Call, said: Batch, *, echo: bool) -> dict[str, Any]:
    """The one choice of the document that the client gets."""
    (told,) = json.loads(reply.completion(call, 0, said, echo=echo))["choices"]
    assert isinstance(told, dict)
    return told


async def test_a_prompt_is_scored_and_nothing_written(local: Local) -> None:
    """`max_tokens: 0` with `echo`: the scores are those that a longer answer begins with, and that is all."""
    scored, longer = (read(echo=True, logprobs=2, max_tokens=most) for most in (0, 1))
    said = await events(local, scored)
    told = choice(scored, said, echo=True)
    first = choice(longer, await events(local, longer), echo=True)

    assert [type(event) for event in said] == [PromptScores, Finish, Usage]
    assert (told["text"], told["finish_reason"]) == (PROMPT, "length")
    count = len(told["logprobs"]["tokens"])
    assert "".join(told["logprobs"]["tokens"]) == PROMPT
    assert told["logprobs"]["token_logprobs"][0] is None
    assert told["logprobs"] == {name: values[:count] for name, values in first["logprobs"].items()}
    assert len(first["logprobs"]["tokens"]) == count + 1
    assert next(event for event in said if isinstance(event, Usage)).completion_tokens == 0


async def test_without_echo_an_answer_of_no_tokens_is_empty(local: Local) -> None:
    """The prompt is computed, so that what goes on from it starts sooner."""
    asked = read(prompt=PROMPT * 9, max_tokens=0, n=2)
    said = await events(local, asked)
    texts = [
        (one["text"], one["finish_reason"])
        for one in json.loads(reply.completion(asked, 0, said, echo=False))["choices"]
    ]
    assert texts == [("", "length")] * 2
    longer = await events(local, read(prompt=PROMPT * 9, max_tokens=1))
    usage = next(event for event in longer if isinstance(event, Usage))
    assert usage.cached_tokens == usage.prompt_tokens - 1


async def test_an_answer_is_one_of_the_choices(local: Local) -> None:
    """As it stands, whatever it is made of."""
    for choices in (["(a)|b", "\\d\n"], ["positive", "negative"]):
        asked = read(guided_choice=choices, max_tokens=30)
        told = choice(asked, await events(local, asked), echo=False)

        assert told["text"] in choices
        assert told["finish_reason"] == "stop"


def measured(row: Attempt, name: str) -> float:
    """Seconds, as the engine told them."""
    seconds = getattr(row.usage, name)
    assert isinstance(seconds, float)
    return seconds


def first_s(row: Attempt) -> float:
    """Seconds to the first token, the queue's taken off."""
    assert row.first_event_s is not None
    return row.first_event_s - row.started_s - measured(row, "queue_s")


async def test_what_the_engine_measured_is_what_is_predicted(local: Local) -> None:
    """Queue, load, prefill and pace, each by its own measure: the next prediction is made of them."""
    knowledge = Knowledge()
    rows: list[Attempt] = []

    async def answer(prompt: str) -> Attempt:
        call = read(prompt=prompt, max_tokens=8)
        record = Record(id="dec_1", plan=Plan(steps=(STEP,), total_s=55, prompt_tokens=len(prompt) // 4))
        gate = Turnstile({"local": local}, knowledge, record, lambda call, record, row: rows.append(row))
        async for _ in run(call, record, gate):
            pass
        return rows[-1]

    cold = await answer("One two three four. " * 9)
    warm = await answer("Red green blue black. " * 9)
    speed = knowledge.speeds.by_step[STEP.name]

    assert (cold.loading, warm.loading) == (True, False)
    loading_s = first_s(cold) - measured(cold, "prefill_s")
    assert speed.load.at(0) == pytest.approx(loading_s)

    assert warm.usage is not None
    computed_count = warm.usage.prompt_tokens - warm.usage.cached_tokens
    assert speed.firsts[0].at(computed_count, steep=True) == pytest.approx(first_s(warm))
    assert 0 < measured(warm, "prefill_s") <= first_s(warm)

    told = predicted(speed, Load(parallel=2), computed_count // 2, 0, 1)
    assert told.first_token_s is not None
    assert told.first_token_s < first_s(warm)
    fastest_s, slowest_s = sorted(measured(row, "decode_s") / 7 for row in rows)
    assert fastest_s <= (speed.paces[0].at(0) or 0) <= slowest_s
    assert predicted(speed, Load(parallel=2, loading=True), 9, 0, 1).first_token_s == pytest.approx(
        loading_s + (predicted(speed, Load(parallel=2), 9, 0, 1).first_token_s or 0)
    )
