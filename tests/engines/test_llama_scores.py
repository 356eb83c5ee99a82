"""Log probabilities: against a reference, and of what the real starter model writes."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from hybrid_router.core.call import Sampling
from hybrid_router.core.event import TokenScore
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.sampler import Sampler
from hybrid_router.engines.llama.scores import prompt_scores, scored, unscored
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import TaskRefused


class Numbers:
    """A vocabulary whose tokens are their own numbers."""

    def shown_piece(self, token: int) -> bytes:
        return str(token).encode()


def reference(logits: NDArray[np.float32]) -> list[float]:
    """Log probabilities by the book, slowly."""
    greatest = max(map(float, logits))
    whole = math.log(math.fsum(math.exp(float(logit) - greatest) for logit in logits))
    return [float(logit) - greatest - whole for logit in logits]


LOGITS = st.lists(
    st.floats(-200, 200, width=32) | st.sampled_from([0.0, 1.0, -math.inf]), min_size=1, max_size=60
).filter(lambda drawn: max(drawn) > -math.inf)


@given(LOGITS, st.integers(0, 70), st.integers(0, 59))
def test_scores_are_those_of_a_reference(drawn: list[float], top_count: int, token: int) -> None:
    """Of the token and of the likeliest, equal ones in the order of their ids, however far apart they are."""
    logits, token = np.array(drawn, np.float32), token % len(drawn)
    expected = reference(logits)
    order = sorted(range(len(drawn)), key=lambda at: (-drawn[at], at))[:top_count]

    score = scored(logits, token, top_count, Numbers())

    assert score.token == str(token).encode()
    assert score.logprob == pytest.approx(max(-9999.0, expected[token]), abs=1e-5)
    assert [int(top.token) for top in score.top] == order
    assert [top.logprob for top in score.top] == pytest.approx(
        [max(-9999.0, expected[at]) for at in order], abs=1e-5
    )
    assert sum(math.exp(top.logprob or 0.0) for top in score.top) <= 1 + 1e-6
    assert all(top.logprob is not None and top.logprob <= 0 for top in (score, *score.top))
    assert all(top.top == () for top in score.top)


def test_huge_logits_do_not_overflow() -> None:
    """What is nearly certain has a logarithm of nearly 0, and the others a finite one."""
    score = scored(np.array([1e5, -1e5, 0], np.float32), 0, 3, Numbers())

    assert score.logprob == 0
    assert [top.logprob for top in score.top] == [0, -9999.0, -9999.0]


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_none_are_not_scored(broken: float) -> None:
    """A damaged model is named; nothing is made up."""
    with pytest.raises(TaskRefused, match="damaged") as refused:
        scored(np.full(5, broken, np.float32), 0, 2, Numbers())

    assert not refused.value.by_call


def test_a_prompts_first_token_has_no_score() -> None:
    """Each other one has that of the row before it; what is no text has none either."""
    rows = [np.array(row, np.float32) for row in ([0, 1, 2], [5, 0, 0], [1, 1, 9])]

    scores = prompt_scores(rows, [2, 1, 0, -4], 1, Numbers())

    assert scores[0] == TokenScore(b"2", None)
    assert scores[1] == scored(rows[0], 1, 1, Numbers())
    assert scores[2] == scored(rows[1], 0, 1, Numbers())
    assert scores[3] == TokenScore(b"", None)
    assert prompt_scores(rows[:1], [2, 1], 1, Numbers()) == scores[:2]
    assert prompt_scores(rows, [2, 1, 0], 1, Numbers()) == scores[:3]
    assert prompt_scores([], [], 1, Numbers()) == []
    assert unscored(-1, Numbers()) == TokenScore(b"", None)


@pytest.fixture(scope="module")
def opened(model_settings: LlamaSettings) -> Iterator[tuple[Weights, Context]]:
    weights = Weights(model_settings.path, model_settings.offload)
    context = Context(weights, model_settings, cells_count=256, sequences_count=1, batch_count=64)
    yield weights, context
    context.close()
    weights.close()


def rows(context: Context, tokens: list[int]) -> list[NDArray[np.float32]]:
    """The logits behind each token of a prompt."""
    context.forget(0)
    context.decode([(token, at, 0, True) for at, token in enumerate(tokens)])
    return [context.logits(at) for at in range(len(tokens))]


@pytest.mark.model
def test_a_greedy_choice_is_the_first_of_the_likeliest(opened: tuple[Weights, Context]) -> None:
    """With its own score, and no more than all probability together."""
    weights, context = opened
    tokens = weights.tokenize("Paris is the capital of")
    rows(context, tokens)
    sampler = Sampler(Sampling(temperature=0), 0, weights)

    token, score = sampler.choose_scored(context, len(tokens) - 1, 20, weights)
    sampler.close()

    assert score.token == score.top[0].token == weights.piece(token)
    assert score.logprob == score.top[0].logprob
    logprobs = [top.logprob or 0.0 for top in score.top]
    assert logprobs == sorted(logprobs, reverse=True)
    assert len({top.token for top in score.top}) == 20
    assert 0.1 < sum(map(math.exp, logprobs)) <= 1


@pytest.mark.model
def test_a_prompt_is_scored_as_the_model_reads_it(opened: tuple[Weights, Context]) -> None:
    """What is expected is likely, what is not is unlikely; its bytes are the prompt's."""
    weights, context = opened
    text = "The capital of France is Paris, and the capital of Italy is Grüße"
    tokens = weights.tokenize(text)

    scores = prompt_scores(rows(context, tokens), tokens, 2, weights)

    by_token = {score.token: score.logprob for score in scores}
    assert b"".join(score.token for score in scores) == text.encode()
    assert (by_token[b" Paris"] or 0) > -1
    assert (by_token[b" Gr"] or 0) < -8
    assert [len(score.top) for score in scores] == [0] + [2] * (len(tokens) - 1)


@pytest.mark.model
def test_a_special_token_is_written_out(opened: tuple[Weights, Context]) -> None:
    """As templates write it: a client that reads scores sees the end of an answer."""
    weights, context = opened
    tokens = weights.tokenize("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello!")

    scores = prompt_scores(rows(context, tokens), tokens, 0, weights)

    assert scores[0].token == b"<|im_start|>"
    assert b"<|im_end|>" in [score.token for score in scores]
