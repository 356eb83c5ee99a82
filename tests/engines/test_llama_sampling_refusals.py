"""Settings and models with which there is no choosing are named; the merely absurd ones do no harm."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sampled import GREEDY, Place, named, refusal

from hybrid_router.core.call import Sampling

pytestmark = pytest.mark.model


def test_a_model_that_computes_no_numbers_is_noticed(place: Place) -> None:
    """A damaged file gives no answer instead of a wrong one; the call is not at fault."""
    for broken in (np.nan, -np.inf, np.inf):
        place.read("a")
        place.logits[0 if broken == np.inf else slice(None)] = broken
        for sampling in (GREEDY, Sampling(), Sampling(logit_bias={5: 1.0})):
            no = refusal(place, sampling)
            assert "damaged" in no.message
            assert not no.by_call


@pytest.mark.parametrize(
    ("field_name", "value"),
    [
        ("logit_bias", {10**7: 1.0}),
        ("logit_bias", {-1: 1.0}),
        ("repeat_penalty", 0.0),
        ("repeat_penalty", -1.0),
        ("temperature", float("nan")),
        ("frequency_penalty", 1e39),
        ("mirostat", 3),
        ("dry_base", 0.5),
        ("dry_sequence_breakers", ("",)),
        ("dry_sequence_breakers", ("a\0b",)),
        ("dry_sequence_breakers", ("x" * 41,)),
        ("dry_sequence_breakers", ("x",) * 33),
    ],
)
def test_an_impossible_setting_is_named(place: Place, field_name: str, value: Any) -> None:
    """Before anything is computed; the call is at fault."""
    sampling = Sampling(**{"dry_multiplier": 1.0, field_name: value})

    no = refusal(place, sampling)

    assert no.by_call
    assert no.code == "invalid_request_error"
    assert field_name in no.message


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(top_k=2**40, seed=2**70, repeat_last_n=2**40, repeat_penalty=1.1),
        Sampling(dry_multiplier=1, dry_penalty_last_n=2**40, dry_allowed_length=2**40),
        Sampling(dry_multiplier=1, dry_allowed_length=-5, dry_sequence_breakers=("Grüße", "\n\n")),
        Sampling(top_k=-1, top_p=0, min_p=7, typical_p=-1),
        Sampling(temperature=1e6, presence_penalty=-1e6),
        Sampling(xtc_probability=9, xtc_threshold=-1, top_p=1, min_p=0),
        Sampling(mirostat=1, mirostat_tau=-9, mirostat_eta=1e6),
        Sampling(mirostat=2, mirostat_tau=1e6, temperature=1e-5),
    ],
    ids=named,
)
def test_absurd_settings_still_choose_tokens(place: Place, sampling: Sampling) -> None:
    """Nothing overflows and no memory is asked for that is not needed."""
    drawn = place.draws(sampling, 20, written=place.ranked[:10], prompt=place.ranked[:10])

    assert all(0 <= token < place.weights.vocabulary_count for token in drawn)
