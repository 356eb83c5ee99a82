"""Speeds: what is learned from attempts, and what is expected of a call."""

from __future__ import annotations

import math
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.core.backend import IDLE, Load
from hybrid_router.core.step import Prediction
from hybrid_router.routing.speed import Sample, Speed, answer_tokens, bucket, learned, predicted

PREFILL_S, DECODE_S = 1 / 200, 1 / 50  # of a made-up model, for each token


def dice(seed: int) -> random.Random:
    """The same chances each time."""
    return random.Random(seed)  # noqa: S311 - no secret


def here(prompt_tokens: int, completion_tokens: int = 20, **changes: Any) -> Sample:
    """An attempt at the made-up model, alone on it."""
    first_s = prompt_tokens * PREFILL_S
    sample = Sample(
        at_s=1000.0,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        first_token_s=first_s,
        total_s=first_s + (completion_tokens - 1) * DECODE_S,
        estimated_tokens=prompt_tokens,
    )
    return replace(sample, **changes)


def taught(*samples: Sample, local: bool = True, speed: Speed | None = None) -> Speed:
    """What so many attempts teach."""
    for sample in samples:
        speed = learned(speed, sample, local=local)
    assert speed is not None
    return speed


def first_s(speed: Speed, prompt_tokens: int, load: Load = IDLE, cached_tokens: int = 0) -> float | None:
    """Its expected first token."""
    return predicted(speed, load, prompt_tokens, cached_tokens, 100).first_token_s


def test_of_the_unknown_nothing_is_said() -> None:
    """Without a sample every time is unknown."""
    assert predicted(None, IDLE, 100, 0, 100) == Prediction()
    assert predicted(Speed(), IDLE, 100, 0, 100) == Prediction()


def test_a_local_model_reads_at_its_rate() -> None:
    """From one attempt on: prompt / prefill rate, then answer / decode rate."""
    speed = taught(here(400))
    told = predicted(speed, IDLE, 1000, 0, 1)

    assert told.first_token_s == pytest.approx(1000 * PREFILL_S)
    assert first_s(speed, 50) == pytest.approx(50 * PREFILL_S)
    assert told.total_s == pytest.approx(1000 * PREFILL_S, rel=0.01)


def test_without_a_pace_the_whole_answer_is_unknown() -> None:
    """Answers of one token teach no pace; of one token more nobody is asked to wait."""
    speed = taught(*(here(400, 1) for _ in range(5)))

    assert predicted(speed, IDLE, 400, 0, 100).total_s is None
    assert predicted(speed, IDLE, 400, 0, 1).total_s == pytest.approx(400 * PREFILL_S)


def test_what_is_cached_need_not_be_read() -> None:
    """(prompt - cached) / prefill rate; a prompt that is cached whole still takes a moment."""
    speed = taught(here(400), here(100), here(800, cached_tokens=700, first_token_s=100 * PREFILL_S))

    assert first_s(speed, 1000, cached_tokens=900) == pytest.approx(100 * PREFILL_S, rel=0.05)
    assert 0 < (first_s(speed, 1000, cached_tokens=5000) or 0) < 10 * PREFILL_S


def test_prompts_that_are_ahead_are_read_first() -> None:
    """A short prompt behind a long one waits for both, and teaches nothing wrong about short ones."""
    ahead = here(100, ahead_tokens=900, first_token_s=1000 * PREFILL_S)
    speed = taught(here(400), *[ahead] * 20)

    assert first_s(speed, 100) == pytest.approx(100 * PREFILL_S, rel=0.05)
    assert first_s(speed, 100, Load(ahead_tokens=900)) == pytest.approx(1000 * PREFILL_S, rel=0.05)


def test_a_cloud_takes_a_fixed_time_and_some_more() -> None:
    """Intercept and slope come out of forty attempts, whatever runs beside them."""
    chance, speed = dice(1), None
    for _ in range(40):
        tokens = chance.randrange(20, 4000)
        told_s = 0.4 + 0.0002 * tokens
        speed = taught(
            here(
                tokens,
                first_token_s=told_s,
                total_s=told_s + 0.5,
                depth=chance.randrange(1, 30),
                ahead_tokens=chance.randrange(9000),
            ),
            local=False,
            speed=speed,
        )
    assert speed is not None
    assert first_s(speed, 100) == pytest.approx(0.42, rel=0.05)
    assert first_s(speed, 10_000, Load(running_count=9, ahead_tokens=9000)) == pytest.approx(2.4, rel=0.1)


def test_estimates_are_corrected_by_what_was_counted() -> None:
    """A tokenizer that needs half as many tokens again is allowed for."""
    speed = taught(*(here(300, estimated_tokens=200) for _ in range(5)))

    assert first_s(speed, 200) == pytest.approx(300 * PREFILL_S, rel=0.02)


@pytest.mark.parametrize(
    ("depth", "expected"), [(0, 0), (1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (8, 3), (9, 4)]
)
def test_depths_are_gathered_in_buckets(depth: int, expected: int) -> None:
    """1, 2, 3-4, 5-8, …"""
    assert bucket(depth) == expected


def test_each_depth_has_its_own_speed() -> None:
    """Beside three others each token takes longer; a depth that was never seen is taken for the nearest."""
    slow = here(400, depth=4, first_token_s=4.0, total_s=4.0 + 19 * 0.1)
    speed = taught(*[here(400), slow] * 10)
    alone = predicted(speed, IDLE, 400, 0, 20)
    beside = predicted(speed, Load(running_count=3), 400, 0, 20)

    assert alone.first_token_s == pytest.approx(2.0, rel=0.02)
    assert beside.first_token_s == pytest.approx(4.0, rel=0.02)
    assert alone.total_s is not None
    assert beside.total_s is not None
    assert (beside.total_s - 4) / (alone.total_s - 2) == pytest.approx(5, rel=0.05)
    assert first_s(speed, 400, Load(running_count=20)) == pytest.approx(4.0, rel=0.02)


def test_loading_comes_on_top() -> None:
    """Load time is what a first token took beyond the usual; unknown as long as no load was seen."""
    speed = taught(here(400))
    assert predicted(speed, Load(loading=True), 400, 0, 10) == Prediction()

    speed = taught(here(400, loading=True, first_token_s=2.0 + 7.0, total_s=9.5), speed=speed)
    assert first_s(speed, 200, Load(loading=True)) == pytest.approx(1.0 + 7.0)
    assert first_s(speed, 200) == pytest.approx(1.0)


def test_loading_is_told_apart_from_reading_by_the_engine() -> None:
    """Where the engine measured its prefill, even the very first attempt teaches the load time."""
    speed = taught(here(400, loading=True, first_token_s=9.0, total_s=9.5, queue_s=0.0, prefill_s=2.0))

    assert speed.load.at(0) == pytest.approx(7.0)
    assert first_s(speed, 400) is None


def test_a_full_model_has_a_queue() -> None:
    """With every place taken, a call waits for as many ends as wait before it, and one more."""
    speed = taught(*(here(200, depth=2, first_token_s=1.0, total_s=4.0) for _ in range(5)))
    full = Load(running_count=2, waiting_count=3, parallel=2)

    assert first_s(speed, 200, Load(running_count=1, parallel=2)) == pytest.approx(1.0)
    assert first_s(speed, 200, full) == pytest.approx(1.0 + (3 + 1) * 4.0 / 2)


def test_a_queue_is_no_shorter_than_the_prompts_in_it() -> None:
    """Calls that would end soon do not, while a long prompt is read before them."""
    speed = taught(*(here(200, depth=2, first_token_s=1.0, total_s=1.2) for _ in range(5)))
    full = Load(running_count=2, parallel=2, ahead_tokens=2000)

    assert first_s(speed, 200, full) == pytest.approx(11.0, rel=0.02)


def test_waiting_for_a_place_is_not_slowness() -> None:
    """What queued attempts waited, measured or not, changes neither rate nor queue."""
    usual = [here(200, depth=2, first_token_s=1.0, total_s=4.0)] * 5
    guessed = here(200, depth=2, first_token_s=21.0, total_s=24.0, queued=True)
    measured = replace(guessed, queue_s=20.0, ahead_tokens=4000)
    speed = taught(*usual, *[guessed, measured] * 20)

    assert first_s(speed, 200, Load(running_count=1)) == pytest.approx(1.0, rel=0.02)
    assert first_s(speed, 200, Load(running_count=2, parallel=2)) == pytest.approx(1.0 + 2.0, rel=0.02)


def test_decoding_is_taken_from_the_engine() -> None:
    """A client that reads slowly makes no model slow, where the engine measured the time itself."""
    speed = taught(*(here(100, total_s=60.0, decode_s=19 * DECODE_S) for _ in range(3)))

    assert speed.paces[0].at(0) == pytest.approx(DECODE_S)


def test_one_slow_call_in_twenty_changes_little() -> None:
    """First tokens ten times too late, one in twenty, move the expectation by less than a fifth."""
    chance, speed = dice(2), None
    for _ in range(300):
        late = 10 if chance.random() < 0.05 else 1
        told_s = 0.5 * math.exp(chance.gauss(0, 0.2)) * late
        speed = taught(here(100, first_token_s=told_s, total_s=told_s + 1), local=False, speed=speed)

    assert speed is not None
    assert first_s(speed, 100) == pytest.approx(0.5, rel=0.2)


def test_a_changed_network_is_followed_quickly() -> None:
    """After 500 attempts, thirty at a network three times as slow are believed."""
    usual = here(100, first_token_s=0.5, total_s=1.0)
    speed = taught(*[usual] * 500, *[replace(usual, first_token_s=1.5, total_s=2.0)] * 30, local=False)

    assert first_s(speed, 100) == pytest.approx(1.5, rel=0.1)


def one_in_twenty_is_slow(chance: random.Random) -> float:
    """A first token, in seconds."""
    return 0.5 * math.exp(chance.gauss(0, 0.25)) * (10 if chance.random() < 0.05 else 1)


def test_at_most_one_first_token_in_ten_is_later_than_told() -> None:
    """Over a thousand attempts, between 4 and 10 in 100 are later than `first_token_p90_s`."""
    chance, speed, late_count = dice(3), taught(here(100), local=False), 0
    for _ in range(1000):
        told_s = one_in_twenty_is_slow(chance)
        p90_s = predicted(speed, IDLE, 100, 0, 1).first_token_p90_s
        late_count += p90_s is not None and told_s > p90_s
        speed = taught(here(100, first_token_s=told_s, total_s=told_s + 1), local=False, speed=speed)

    assert 40 <= late_count <= 100


def test_attempts_that_were_given_up_count_as_late() -> None:
    """Where a hedge ends every late attempt, the share of late ones stays what it is."""
    chance, speed, late_count = dice(4), taught(here(100), local=False), 0
    for _ in range(1000):
        told_s = one_in_twenty_is_slow(chance)
        p90_s = predicted(speed, IDLE, 100, 0, 1).first_token_p90_s
        sample = here(100, first_token_s=told_s, total_s=told_s + 1)
        if p90_s is not None and told_s > p90_s:
            late_count += 1
            sample = replace(
                sample, answered=False, prompt_tokens=0, first_token_s=p90_s + 0.1, total_s=p90_s + 0.1
            )
        speed = taught(sample, local=False, speed=speed)

    assert 40 <= late_count <= 100


def test_a_wait_that_was_cut_short_says_nothing() -> None:
    """A client that leaves early makes no step late."""
    speed = taught(*(here(100, first_token_s=0.5, total_s=1.0) for _ in range(20)), local=False)
    left = Sample(
        at_s=1.0,
        prompt_tokens=0,
        completion_tokens=0,
        first_token_s=0.1,
        total_s=0.1,
        answered=False,
        estimated_tokens=100,
    )

    assert learned(speed, left, local=False) == speed


def test_lateness_is_not_told_from_a_few_attempts() -> None:
    """Nine attempts in, when to hedge is not known."""
    speed = taught(*(here(100) for _ in range(9)))

    assert predicted(speed, IDLE, 100, 0, 1).first_token_p90_s is None


@pytest.mark.parametrize(("most", "expected"), [(100, 100), (1000, 256)])
def test_an_unknown_answer_has_its_limit_or_256_tokens(most: int, expected: int) -> None:
    """Until an answer was seen, the limit is expected, and never more than 256."""
    assert answer_tokens(Speed(), most) == expected


def test_answers_are_as_long_as_they_were() -> None:
    """The mean of lengths seen, and never more than the limit."""
    speed = taught(*(here(100, 500) for _ in range(100)))

    assert answer_tokens(speed, 100_000) == pytest.approx(500, rel=0.02)
    assert 80 < answer_tokens(speed, 100) <= 100


def test_limits_do_not_make_answers_short() -> None:
    """Answers cut at 16 tokens say nothing about what a call with a wide limit gets."""
    speed = taught(
        *(here(100, 16, max_tokens=16) for _ in range(50)), *[here(100, 400, max_tokens=4000)] * 10
    )

    assert answer_tokens(speed, 16) == pytest.approx(16, rel=0.05)
    assert answer_tokens(speed, 4000) > 300


def test_a_speed_is_a_small_document() -> None:
    """It comes back from JSON as it was, in less than 3 KB with every depth known."""
    speed = taught(
        *(here(100 + 37 * depth, depth=depth) for depth in (1, 2, 4, 8, 16)), here(5, loading=True)
    )
    written = msgspec.json.encode(speed)

    assert msgspec.json.decode(written, type=Speed) == speed
    assert len(written) < 3000


ANY_SAMPLE = st.builds(
    Sample,
    at_s=st.floats(0, 4e9),
    prompt_tokens=st.integers(0, 10**6),
    completion_tokens=st.integers(0, 10**6),
    first_token_s=st.floats(0, 1e5),
    total_s=st.floats(0, 1e5),
    cached_tokens=st.integers(0, 10**6),
    depth=st.integers(0, 100),
    answered=st.booleans(),
    loading=st.booleans(),
    queued=st.booleans(),
    max_tokens=st.none() | st.integers(1, 10**6),
    estimated_tokens=st.integers(0, 10**6),
    ahead_tokens=st.integers(0, 10**6),
    queue_s=st.none() | st.floats(0, 1e5),
    prefill_s=st.none() | st.floats(0, 1e5),
    decode_s=st.none() | st.floats(0, 1e5),
)
ANY_LOAD = st.builds(
    Load,
    running_count=st.integers(0, 100),
    waiting_count=st.integers(0, 100),
    parallel=st.none() | st.integers(1, 64),
    loading=st.booleans(),
    ahead_tokens=st.integers(0, 10**6),
)


@given(
    samples=st.lists(ANY_SAMPLE, max_size=12),
    local=st.booleans(),
    load=ANY_LOAD,
    sizes=st.tuples(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(1, 10**6)),
)
def test_whatever_is_measured_predictions_are_times(
    samples: list[Sample], local: bool, load: Load, sizes: tuple[int, int, int]
) -> None:
    """Times are positive and finite, the whole is no shorter than its part, and JSON keeps all."""
    speed: Speed | None = None
    for sample in samples:
        speed = learned(speed, sample, local=local)
    told = predicted(speed, load, *sizes)

    times = [told.first_token_s, told.first_token_p90_s, told.total_s]
    assert all(0 < time_s < math.inf for time_s in times if time_s is not None)
    if told.first_token_s is not None and told.total_s is not None:
        assert told.total_s >= told.first_token_s
    if told.first_token_p90_s is not None and told.first_token_s is not None:
        assert told.first_token_p90_s >= told.first_token_s
    assert speed is None or msgspec.json.decode(msgspec.json.encode(speed), type=Speed) == speed
