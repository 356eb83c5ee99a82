"""Samplers beside a form, in the real starter model: nothing that it forbids, and nothing else changed."""

from __future__ import annotations

import numpy as np
import pytest
from sampled import GREEDY, PLAIN, Only, Place, named, probabilities, refusal

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.scores import scored
from hybrid_router.engines.task import TaskRefused

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(seed=1),
        PLAIN,
        Sampling(seed=1, temperature=0.1, mirostat=1),
        Sampling(seed=1, mirostat=2),
        Sampling(seed=1, top_k=0, typical_p=0.5),
        Sampling(seed=1, xtc_probability=1, xtc_threshold=0),
        Sampling(seed=1, repeat_penalty=1.5, dry_multiplier=900),
    ],
    ids=named,
)
@pytest.mark.parametrize("allowed_count", [1, 2, 30])
def test_nothing_leaves_the_form(place: Place, sampling: Sampling, allowed_count: int) -> None:
    """Whatever the samplers, also if only the most unlikely tokens are allowed; the form hears of each."""
    form = Only(place.ranked[-allowed_count:])

    drawn = place.draws(sampling, 20, constraint=form)

    assert set(drawn) <= set(form.allowed)
    assert form.taken == drawn


def test_a_form_chooses_as_the_model_would(place: Place) -> None:
    """Of what is allowed the likeliest; and the choice beside it, without a form, is not bound by it."""
    form = Only([place.ranked[7], place.ranked[5], place.ranked[9]])

    assert place.draws(GREEDY, 1, constraint=form) == [place.ranked[5]]
    assert place.draws(GREEDY, 1) == [place.ranked[0]]


def test_the_end_is_not_part_of_the_form(place: Place) -> None:
    """A token that ends the answer is chosen where the form allows it, and not given to it."""
    eos = place.weights.special("eos") or 0
    form = Only([eos])

    assert place.draws(GREEDY, 1, constraint=form) == [eos]
    assert form.taken == []


def test_a_token_that_must_come_is_remembered(place: Place) -> None:
    """It need not be chosen to count for penalties and form."""
    best, form = place.ranked[0], Only(place.ranked[:5])
    sampler = place.sampler(Sampling(temperature=0, presence_penalty=50), constraint=form)

    sampler.accept(best)

    assert sampler.choose(place.context, place.entry) == place.ranked[1]
    assert form.taken == place.ranked[:2]
    sampler.close()


def test_a_contradiction_is_named(place: Place) -> None:
    """The form allows what the call forbids: no token at all rather than a wrong one."""
    best = place.ranked[0]
    eos = place.weights.special("eos") or 0
    banned = Sampling(temperature=0, logit_bias={best: -100})

    for sampling, allowed in ((banned, best), (Sampling(ignore_eos=True), eos)):
        no = refusal(place, sampling, constraint=Only([allowed]))
        assert no.by_call
        assert "forbids every token" in no.message
    assert "form allows no token" in refusal(place, constraint=Only([])).message


def test_a_forms_fault_ends_the_task_alone(place: Place) -> None:
    """Not the process; its reason is told."""
    no = refusal(place, constraint=Only([1], fault=ValueError("lexer is stuck")))
    sampler = place.sampler(GREEDY, constraint=Only([1], fault=RuntimeError("no such state")))

    assert "lexer is stuck" in no.message
    assert not no.by_call
    with pytest.raises(TaskRefused, match="no such state"):
        sampler.accept(1)


def test_a_scored_choice_is_the_same_choice(place: Place) -> None:
    """And its score is the model's own, before bias and form."""
    chosen = place.ranked[30]
    sampling = Sampling(temperature=0, logit_bias={chosen: 90.0})
    sampler = place.sampler(sampling, constraint=Only(place.ranked[:50]))

    token, score = sampler.choose_scored(place.context, place.entry, 3, place.weights)

    assert token == chosen
    assert score == scored(place.logits, chosen, 3, place.weights)
    assert score.logprob == pytest.approx(np.log(probabilities(place.logits)[chosen]), abs=1e-5)
    sampler.close()
