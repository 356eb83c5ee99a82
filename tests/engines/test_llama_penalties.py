"""What was said counts against tokens that would come again: penalties and DRY, in the real starter model."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from sampled import GREEDY, Place, named

from hybrid_router.core.call import Sampling
from hybrid_router.engines.llama.chain import Past
from hybrid_router.engines.llama.sampler import Sampler

pytestmark = pytest.mark.model


def penalised(place: Place, count: int, window: int, by: dict[str, float]) -> list[int]:
    """What greedy choices should be, token after token."""
    past: list[int] = []
    for _ in range(count):
        logits = place.logits.astype(np.float64)
        recent = past[-window:]
        for token in set(recent):
            repeat = by.get("repeat_penalty", 1.0)
            logits[token] = logits[token] / repeat if logits[token] > 0 else logits[token] * repeat
            logits[token] -= by.get("frequency_penalty", 0.0) * recent.count(token)
            logits[token] -= by.get("presence_penalty", 0.0)
        past.append(int(logits.argmax()))
    return past


@pytest.mark.parametrize(
    "by",
    [
        {"frequency_penalty": 0.4},
        {"presence_penalty": 1.1},
        {"presence_penalty": 30.0},
        {"repeat_penalty": 1.2},
    ],
    ids=named,
)
@pytest.mark.parametrize("window", [3, 1000])
def test_penalties_count_the_last_tokens(place: Place, by: dict[str, float], window: int) -> None:
    """As a reference does it; what is longer ago than `repeat_last_n` is forgotten."""
    drawn = place.draws(Sampling(temperature=0, repeat_last_n=window, **by), 40)  # type: ignore[arg-type]

    assert drawn == penalised(place, 40, window, by)
    assert len(set(drawn)) > 1


def test_all_penalties_add_up(place: Place) -> None:
    """The repeat penalty first, then what is taken off."""
    by = {"repeat_penalty": 1.05, "frequency_penalty": 0.3, "presence_penalty": 0.2}
    sampling = Sampling(temperature=0, repeat_last_n=-1, **by)  # type: ignore[arg-type]

    assert place.draws(sampling, 60) == penalised(place, 60, 1000, by)


def test_penalties_may_leave_few_of_the_likely_tokens(place: Place) -> None:
    """Where all that were near the first are penalised, what was far comes, in its order."""
    near = int((place.logits > place.logits.max() - 10.5).sum())
    sampling = Sampling(temperature=0, presence_penalty=100)

    assert place.draws(sampling, 20, written=place.ranked[:near]) == place.ranked[near : near + 20]


@pytest.mark.parametrize("name", ["presence_penalty", "frequency_penalty", "dry_multiplier"])
def test_a_negative_penalty_rewards(place: Place, name: str) -> None:
    """However unlikely the token was."""
    far, run = place.ranked[20_000], place.ranked[1000:1003]
    sampling = Sampling(**{"temperature": 0, name: -100})  # type: ignore[arg-type]

    assert place.draws(sampling, 1, written=[*run, far, *run])[0] in {far, *run}


def test_openais_penalties_count_the_whole_answer_alone(place: Place) -> None:
    """What is written already, however long; not the prompt."""
    best = place.ranked[0]
    sampling = Sampling(temperature=0, presence_penalty=5)
    long_ago = [best, *place.ranked[1000:1200]]

    assert place.draws(sampling, 1, prompt=[best] * 9) == [best]
    assert place.draws(sampling, 1, written=[best]) != [best]
    assert place.draws(sampling, 1, written=long_ago) != [best]


def test_the_repeat_penalty_counts_the_prompt(place: Place) -> None:
    """The last 64 tokens of prompt and answer together; an image in it counts as nothing."""
    best = place.ranked[0]
    sampling = Sampling(temperature=0, repeat_penalty=1.5)

    assert place.draws(sampling, 1, prompt=[best, -3]) != [best]
    assert place.draws(sampling, 1, prompt=[best], written=place.ranked[1000:1060]) != [best]
    assert place.draws(sampling, 1, prompt=[best], written=place.ranked[1000:1064]) == [best]


def test_the_past_is_cut_from_the_end() -> None:
    """The newest tokens stay, in order, whether of the answer or of the prompt."""
    past = Past(prompt=[1, 2, -1, 3], written=[4, 5])

    assert past.last(3) == [3, 4, 5]
    assert past.last(4) == [2, 3, 4, 5]
    assert past.last(1) == [5]
    assert past.last(9) == [1, 2, 3, 4, 5]
    assert past.last(0) == []


LOOP = "a b c a b c a b c a b c a b c a b c c c c"


def test_a_repeat_penalty_ends_a_loop(place: Place) -> None:
    """What would go on for ever says something else, and nothing twice."""
    stuck = place.write(LOOP, GREEDY, 12)
    freed = place.write(LOOP, Sampling(temperature=0, repeat_penalty=1.5), 12)

    assert len(set(stuck)) == 1
    assert len(set(freed)) == 12


def test_dry_ends_a_loop_and_leaves_single_words_alone(place: Place) -> None:
    """A run of more than the allowed length is not repeated; the word itself is not forbidden."""
    (word,) = set(place.write(LOOP, GREEDY, 12))

    freed = place.write(LOOP, Sampling(temperature=0, dry_multiplier=5), 12)

    assert freed[:3] == [word] * 3
    assert freed[3] != word


DRY = Sampling(temperature=0, dry_multiplier=20)


def test_dry_forbids_what_continues_a_repeated_run(place: Place) -> None:
    """In the answer, from prompt to answer, within its window, and not across a breaker."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    (line_end,) = place.weights.tokenize("\n", add_special=False)
    broken = [run[0], line_end, run[2]]

    def first(sampling: Sampling = DRY, **given: Any) -> int:
        return place.draws(sampling, 1, **given)[0]

    assert first(written=[*run, best, *run]) != best
    assert first(prompt=[*run, best], written=run) != best
    assert first(written=[*run, best, run[2]]) == best  # too short a run
    assert first(written=[*broken, best, *broken]) == best
    assert first(replace(dry_sequence_breakers=()), written=[*broken, best, *broken]) != best
    assert first(replace(dry_allowed_length=4), written=[*run, best, *run]) == best
    assert first(replace(dry_penalty_last_n=5), written=[*run, best, *run]) == best
    assert first(replace(dry_penalty_last_n=-1), written=[*run, best, *place.ranked[2000:2100], *run]) != best


def replace(**changed: Any) -> Sampling:
    return msgspec.structs.replace(DRY, **changed)


def test_dry_is_the_same_however_it_was_made(place: Place) -> None:
    """New, from a prototype, or after so many others that its prototype is gone."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    written = [*run, best, *run]
    expected = Sampler(DRY, 0, place.weights, written)
    alone = expected.choose(place.context, place.entry)
    expected.close()

    for length in (2, 3, 2, 4, 5, 6, 7, 8, 9, 10, 11, 2):
        drawn = place.draws(replace(dry_allowed_length=length), 1, written=written)
        assert drawn == [alone if length <= 3 else best]
    assert alone != best


def test_a_prototype_may_go_before_what_was_made_from_it(place: Place) -> None:
    """An engine that closes frees them in any order."""
    best, run = place.ranked[0], place.ranked[1000:1003]
    sampler = place.sampler(DRY, written=[*run, best, *run])
    place.prototypes.close()

    assert sampler.choose(place.context, place.entry) != best
    sampler.close()
    sampler.close()
