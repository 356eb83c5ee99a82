"""Which tokens samplers leave at one place of the real starter model's text, and how often each comes."""

from __future__ import annotations

import llama_cpp as llama
import msgspec
import numpy as np
import pytest
from sampled import GREEDY, PLAIN, Place, named, probabilities

from hybrid_router.core.call import Sampling

pytestmark = pytest.mark.model


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=1e-9),
        Sampling(temperature=5, top_k=1),
        Sampling(temperature=5, min_p=1),
        Sampling(temperature=5, top_p=1e-9),
        Sampling(temperature=0, mirostat=2),
        Sampling(temperature=0, mirostat=1, typical_p=0.5),
        Sampling(temperature=0, repeat_penalty=1, frequency_penalty=0, dry_multiplier=0, xtc_probability=0),
        Sampling(temperature=0, frequency_penalty=2, repeat_last_n=0),
        Sampling(temperature=0, dry_multiplier=5, dry_penalty_last_n=0),
        Sampling(temperature=0, xtc_probability=1, xtc_threshold=0.6),
    ],
    ids=named,
)
def test_settings_that_leave_one_token_choose_the_likeliest(place: Place, sampling: Sampling) -> None:
    """Whichever setting says so, and whatever is switched off beside it."""
    assert set(place.draws(sampling, 5)) == {place.ranked[0]}


def test_the_default_is_llama_cpps_own(place: Place) -> None:
    """Token for token, with the same seed: what is done faster here changes nothing."""
    parts = (
        llama.llama_sampler_init_top_k(40),
        llama.llama_sampler_init_top_p(0.95, 1),
        llama.llama_sampler_init_min_p(0.05, 1),
        llama.llama_sampler_init_temp(0.8),
        llama.llama_sampler_init_dist(7),
    )
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    for part in parts:
        llama.llama_sampler_chain_add(chain, part)
    theirs = [llama.llama_sampler_sample(chain, place.context.handle, place.entry) for _ in range(300)]
    llama.llama_sampler_free(chain)

    assert place.draws(Sampling(seed=7)) == theirs
    assert len(set(theirs)) > 5


def test_tokens_come_as_often_as_they_are_likely(place: Place) -> None:
    """At temperature 2, three tokens of five thousand draws."""
    sampling = msgspec.structs.replace(PLAIN, temperature=2, top_k=3)
    likely = probabilities(place.logits[place.ranked[:3]] / 2)

    drawn = place.draws(sampling, 5000)

    assert [drawn.count(token) / 5000 for token in place.ranked[:3]] == pytest.approx(likely, abs=0.03)


def test_top_k_keeps_so_many(place: Place) -> None:
    """All of them, and nothing else; also more than are near the first."""
    few = place.draws(msgspec.structs.replace(PLAIN, temperature=3, top_k=4))
    many = place.draws(msgspec.structs.replace(PLAIN, temperature=50, top_k=20_000), 100)

    assert set(few) == set(place.ranked[:4])
    assert set(many) <= set(place.ranked[:20_000])
    assert not set(many) <= set(place.ranked[:10_000])


def test_top_p_keeps_the_nucleus(place: Place) -> None:
    """The fewest tokens that make up so much, of all."""
    sums = np.cumsum(probabilities(place.logits)[place.ranked])
    nucleus = set(place.ranked[: int(np.argmax(sums >= 0.3)) + 1])

    assert 2 < len(nucleus) < 30
    assert set(place.draws(msgspec.structs.replace(PLAIN, top_p=0.3), 400)) == nucleus


def test_min_p_keeps_what_is_near_the_first(place: Place) -> None:
    """Tokens at least a fifth as likely as the likeliest."""
    likely = probabilities(place.logits)
    near = set(np.flatnonzero(likely >= 0.2 * likely.max()))

    assert 2 < len(near) < 30
    assert set(place.draws(msgspec.structs.replace(PLAIN, min_p=0.2), 400)) == near


def test_typical_p_keeps_what_surprises_as_expected(place: Place) -> None:
    """Tokens whose surprise is nearest to the average; the likeliest need not be among them."""
    likely = probabilities(place.logits)
    surprise = -np.log(likely)
    order = np.argsort(np.abs(surprise - (likely * surprise).sum()), kind="stable")
    typical = order[: int(np.argmax(np.cumsum(likely[order]) > 0.2)) + 1]

    drawn = place.draws(msgspec.structs.replace(PLAIN, typical_p=0.2), 60)

    assert place.ranked[0] not in typical
    assert set(drawn) <= {int(token) for token in typical}
    assert len(set(drawn)) > 5
    assert place.draws(Sampling(temperature=0, typical_p=0.2), 1) != place.ranked[:1]


def test_typical_p_bears_impossible_tokens(place: Place) -> None:
    """A bias that makes all others vanish leaves one."""
    chosen = place.ranked[10]
    sampling = msgspec.structs.replace(PLAIN, typical_p=0.5, logit_bias={chosen: 1000.0})

    assert set(place.draws(sampling, 20)) == {chosen}


def test_xtc_removes_the_top_choices(place: Place) -> None:
    """Of the tokens above the threshold only the least likely stays; half the time, with a chance of half."""
    likely = probabilities(place.logits[place.ranked[:10]])
    threshold = float((likely[2] + likely[3]) / 2)
    always = msgspec.structs.replace(PLAIN, top_k=10, xtc_probability=1, xtc_threshold=threshold)
    sometimes = msgspec.structs.replace(always, xtc_probability=0.5)

    assert not set(place.draws(always)) & set(place.ranked[:2])
    assert place.ranked[2] in place.draws(always)
    assert set(place.draws(sometimes)) & set(place.ranked[:2])
    assert set(place.draws(msgspec.structs.replace(always, temperature=0), 3)) == {place.ranked[2]}


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_aims_at_a_surprise(place: Place, version: int) -> None:
    """The higher tau, the more surprising are the tokens; the same seed gives the same ones."""
    bits = -np.log2(probabilities(place.logits))

    def drawn(tau: float, seed: int = 3) -> list[int]:
        return place.draws(Sampling(mirostat=version, mirostat_tau=tau, temperature=1, seed=seed), 80)

    calm, lively = drawn(1.5), drawn(6)

    assert bits[calm].mean() + 1 < bits[lively].mean()
    assert drawn(6) == lively != drawn(6, seed=4)
    assert lively != place.draws(Sampling(temperature=1, seed=3), 80)


def test_mirostat_leaves_penalties_in_force(place: Place) -> None:
    """They are no cuts: a token that was written does not come again."""
    sampling = Sampling(mirostat=2, mirostat_tau=3, seed=3, presence_penalty=50)

    drawn = place.draws(sampling, 50)

    assert len(set(drawn)) == 50
    assert len(set(place.draws(msgspec.structs.replace(sampling, presence_penalty=0), 50))) < 50


def test_a_seed_repeats_and_choices_have_their_own(place: Place) -> None:
    """Same seed and index, same text; without a seed every answer is another."""
    seeded, free = Sampling(temperature=2, seed=42), Sampling(temperature=2)

    assert place.draws(seeded) == place.draws(seeded) != place.draws(seeded, index=1)
    assert place.draws(free) != place.draws(free)
    assert place.write("Once", seeded, 10) == place.write("Once", seeded, 10)
    assert place.draws(Sampling(temperature=2, seed=2**40)) != place.draws(
        Sampling(temperature=2, seed=2**40 - 1)
    )


ENDED = "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello! How can I help you today?"


def test_an_answer_that_may_not_end_goes_on(place: Place) -> None:
    """`ignore_eos`: no token that would end it is chosen, also against a bias."""
    eos = place.weights.special("eos") or 0
    endless = Sampling(temperature=0, ignore_eos=True, logit_bias={eos: 100.0})

    assert place.write(ENDED, GREEDY, 15) == []
    assert len(place.write(ENDED, endless, 15)) == 15
    assert eos in place.prototypes.ending_tokens
    assert all(map(place.weights.ends, place.prototypes.ending_tokens))


def test_a_bias_moves_one_tokens_logit(place: Place) -> None:
    """By as much as it says; -100 forbids; the model's own numbers stay as they are for other choices."""
    best, second = place.ranked[:2]
    before, gap = place.logits.copy(), float(place.logits[best] - place.logits[second])

    def first(**bias: float) -> int:
        tokens = {"best": best, "second": second}
        biased = Sampling(temperature=0, logit_bias={tokens[name]: by for name, by in bias.items()})
        return place.draws(biased, 1)[0]

    assert first(second=gap + 0.01) == second
    assert first(second=gap - 0.01) == best
    assert first(best=-100, second=-99) == place.ranked[2]
    assert first(best=1e30) == best
    assert (place.logits == before).all()
