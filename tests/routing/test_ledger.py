"""What calls cost: published prices, and the most that a call may come to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from msgspec.structs import replace
from priced_steps import priced

from hybrid_router.catalogue import workers_ai
from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.routing.estimate import ORDER_TOKENS
from hybrid_router.routing.ledger import (
    NEURON_USD,
    Rate,
    cost,
    daily_most,
    most,
    pace,
    paid_usd,
    unfinished,
)

RATE = Rate(input=1_000_000, output=10_000_000, cached_input=500_000)
FLASH, K25, K26 = "@cf/zai-org/glm-4.7-flash", "@cf/moonshotai/kimi-k2.5", "@cf/moonshotai/kimi-k2.6"


def call(max_tokens: int | None = 5, **fields: object) -> Call:
    """A chat call with one short message."""
    return Call(
        id="chatcmpl-1",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="user", content="hi"),),
        sampling=Sampling(max_tokens=max_tokens),
        **fields,  # type: ignore[arg-type]
    )


def test_a_neuron_costs_what_the_catalogue_says() -> None:
    """The price of a neuron, and the day's free ones, are those of the shipped table."""
    known = workers_ai.load()

    assert known.neuron_usd == NEURON_USD
    assert known.free_neurons_per_day == Neurons().daily


def test_cached_tokens_have_their_own_rate() -> None:
    """They are part of the prompt, not added to it."""
    assert cost(RATE, 10, 2) == 30
    assert cost(RATE, 10, 2, cached_tokens=4) == 28


def test_the_most_doubles_what_is_estimated_and_takes_the_whole_answer() -> None:
    """Twice the prompt and every token that the answer may have; the default where the client names none."""
    assert most(RATE, call(5), 7, 99) == 2 * 7 + 10 * 5
    assert most(RATE, call(None), 7, 99) == 2 * 7 + 10 * 99


def test_a_translation_may_cost_a_chat_for_each_text() -> None:
    """Each text brings its own order and its own answer."""
    asked = replace(call(None), operation=Operation.TRANSLATE, messages=(), prompts=("one", "two"))

    assert most(RATE, asked, 7, 99) == 2 * (7 + 2 * ORDER_TOKENS) + 2 * 10 * 99


def test_every_choice_sends_the_prompt_again() -> None:
    """Three choices cost three prompts and answers; two prompts of one call are both in the estimate."""
    assert most(RATE, call(5, n=3), 7, 99) == 3 * (2 * 7 + 10 * 5)
    two = Call(
        id="c", operation=Operation.COMPLETE, alias="a", prompts=("x", "y"), sampling=Sampling(max_tokens=5)
    )
    assert most(RATE, two, 7, 99) == 2 * 7 + 2 * 10 * 5


def test_what_an_answer_goes_on_from_is_sent_too() -> None:
    """The text that is out already is part of a continuation's prompt."""
    assert most(RATE, call(5, written="12345678"), 7, 99) == 2 * (7 + 2) + 10 * 5


def test_an_unfinished_call_counts_more_than_was_seen() -> None:
    """Twice the prompt, half as much again as was shown, and what was on the way."""
    assert unfinished(RATE, call(), 7, 20) == 2 * 7 + 10 * (30 + 32)


def test_dollars_begin_where_the_days_neurons_end() -> None:
    """A thousand neurons beyond the day's cost 0.011 USD; those within cost nothing."""
    config = Neurons(daily=10_000, overflow_usd=0.022)

    assert daily_most(config) == pytest.approx(12_000)
    assert daily_most(Neurons(daily=10_000)) == 10_000
    assert paid_usd(config, 11_000) == pytest.approx(0.011)
    assert paid_usd(config, 9_000) == 0


@pytest.mark.parametrize(
    ("clock", "share", "until"),
    [("00:00", 0.25, "06:00"), ("05:59", 0.25, "06:00"), ("06:00", 0.5, "18:00"), ("17:59", 0.5, "18:00")],
)
def test_the_pace_holds_until_the_next_time_it_names(clock: str, share: float, until: str) -> None:
    """Before a listed UTC time no more than its share may be gone; at it, the next one counts."""
    config = Neurons(daily=1000, pace={"18:00": 0.5, "06:00": 0.25})
    now = datetime.fromisoformat(f"2026-11-22T{clock}:00+00:00")

    found = pace(config, now.astimezone(timezone(timedelta(hours=9))))

    assert found == (share * 1000, datetime.fromisoformat(f"2026-11-22T{until}:00+00:00"))


def test_after_the_last_time_the_pace_holds_nothing_back() -> None:
    """Nor where there is none."""
    now = datetime(2026, 11, 22, 18, tzinfo=UTC)

    assert pace(Neurons(pace={"18:00": 0.5}), now) is None
    assert pace(Neurons(), now) is None


def test_prices_come_from_the_catalogue() -> None:
    """Cached tokens cost as others do where no price of their own is listed."""
    assert priced(FLASH) == Rate(input=5500, output=36_400, cached_input=5500)
    assert priced(K26) == Rate(input=86_364, output=363_636, cached_input=14_545)


def test_a_model_that_another_answers_for_costs_what_that_one_does() -> None:
    """It is the one that is charged."""
    assert priced(K25) == priced(K26)


@pytest.mark.parametrize("model", ["@cf/somebody/unknown", "@cf/google/gemma-2b-it-lora"])
def test_a_model_without_a_price_counts_as_the_dearest(model: str) -> None:
    """Rather too much than too little; no listed model costs more."""
    unknown = priced(model)
    lines = [line for each in workers_ai.load().models for line in each.price]

    assert unknown.input == max(line.neurons for line in lines if line.unit == "per M input tokens")
    assert unknown.output == max(line.neurons for line in lines if line.unit == "per M output tokens")


def test_written_prices_replace_published_ones() -> None:
    """Also that of a model nobody knows; cached tokens cost as others do unless it says otherwise."""
    assert priced(FLASH, f'{{"{FLASH}": {{input: 1, output: 2}}}}') == Rate(input=1, output=2, cached_input=1)
    assert priced("@cf/a/b", '{"@cf/a/b": {input: 1, output: 2, cached_input: 0.5}}') == Rate(
        input=1, output=2, cached_input=0.5
    )
