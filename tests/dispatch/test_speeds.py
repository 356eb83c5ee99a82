"""What attempts teach, and what of it outlives the process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from hybrid_router.core.backend import IDLE, Load
from hybrid_router.core.event import Usage
from hybrid_router.dispatch.record import Attempt
from hybrid_router.dispatch.speeds import Began, Speeds, sample
from hybrid_router.routing.speed import Sample, Speed, bucket, predicted

STEP = "local/m"


class Kept:
    """Notes in memory, which can be told to fail."""

    def __init__(self, **notes: bytes) -> None:
        self.notes = dict(notes)
        self.writes: list[set[str]] = []
        self.broken = False

    async def load(self, kind: str) -> dict[str, bytes]:
        assert kind == "speed"
        return dict(self.notes)

    async def save(self, kind: str, notes: Mapping[str, bytes]) -> None:
        assert kind == "speed"
        if self.broken:
            raise OSError("no room")
        self.writes.append(set(notes))
        self.notes |= notes


class Wall:
    """Unix time that is set."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


def answered(**changes: Any) -> Attempt:
    """A row of an attempt that took half a second to its first token and two in all."""
    row = Attempt(
        backend="local",
        model="m",
        started_s=10.0,
        outcome="answered",
        first_event_s=10.5,
        ended_s=12.0,
        usage=Usage(prompt_tokens=100, completion_tokens=31, cached_tokens=7, decode_s=1.4),
        finished_count=1,
    )
    return replace(row, **changes)


TAUGHT = Sample(at_s=1.0, prompt_tokens=100, completion_tokens=31, first_token_s=0.5, total_s=2.0)


def test_an_answer_says_all() -> None:
    """Times from the row, tokens and the engine's own times from the usage, the rest from its beginning."""
    began = Began(prompt_tokens=80, ahead_tokens=300, queued=True, max_tokens=64)

    assert sample(answered(depth=3), 77.0, began) == Sample(
        at_s=77.0,
        prompt_tokens=100,
        completion_tokens=31,
        cached_tokens=7,
        first_token_s=0.5,
        total_s=2.0,
        depth=3,
        queued=True,
        max_tokens=64,
        estimated_tokens=80,
        ahead_tokens=300,
        decode_s=1.4,
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"outcome": "failed"},
        {"outcome": "broken"},
        {"outcome": "cancelled"},
        {"outcome": "refused", "first_event_s": None},
        {"outcome": "failed", "first_event_s": None, "error": "backend_unavailable"},
        {"mode": "prefill"},
        {"mode": "replay"},
        {"usage": None},
        {"choices_count": 2},
        {"ended_s": None},
    ],
)
def test_what_did_not_answer_from_its_start_says_nothing(changes: dict[str, Any]) -> None:
    """Failures, broken streams, continuations, answers without usage or of several choices teach no speed."""
    assert sample(answered(**changes), 77.0) is None


@pytest.mark.parametrize(
    "changes", [{"outcome": "cancelled"}, {"outcome": "failed", "error": "backend_timeout"}]
)
def test_waiting_in_vain_says_how_long_it_took_at_least(changes: dict[str, Any]) -> None:
    """A loser of a hedge, and one that gave no token in time, were at least that slow."""
    row = answered(first_event_s=None, usage=None, **changes)

    got = sample(row, 77.0, Began(prompt_tokens=80))

    assert got is not None
    assert (got.answered, got.first_token_s, got.estimated_tokens) == (False, 2.0, 80)


def test_what_is_learned_is_there_at_once() -> None:
    """`by_step` is the same mapping all the time."""
    speeds = Speeds(None, Wall())
    live = speeds.by_step

    speeds.learn(STEP, TAUGHT, local=True)

    assert predicted(live[STEP], IDLE, 100, 0, 10).first_token_s == pytest.approx(0.5)


def test_a_beginning_is_written_into_the_row() -> None:
    """Depth counts the attempt itself, but never more than run together."""
    speeds, alone, third = Speeds(None, Wall()), answered(), answered()

    speeds.began(alone, Load(loading=True, parallel=2), 100, None)
    speeds.began(third, Load(running_count=2, parallel=2), 100, None)

    assert (alone.depth, alone.loading) == (1, True)
    assert (third.depth, third.loading) == (2, False)


def test_prompts_count_as_ahead_until_their_first_token() -> None:
    """Those of the same step that have no token yet, and no longer than their attempts last."""
    speeds = Speeds(None, Wall())
    first, second, elsewhere = answered(first_event_s=None), answered(first_event_s=None), answered(model="n")
    for row, tokens in ((first, 100), (second, 40), (elsewhere, 7)):
        speeds.began(row, IDLE, tokens, None)
    assert speeds.ahead_tokens(STEP) == 140

    first.first_event_s = 10.5
    assert speeds.ahead_tokens(STEP) == 40

    second.outcome = "cancelled"
    speeds.ended(second, local=True)
    assert speeds.ahead_tokens(STEP) == 0


def test_an_attempt_teaches_when_it_ends() -> None:
    """What its beginning knew is used: a full model's queue does not make it slow."""
    speeds = Speeds(None, Wall())
    for running_count in (0, 0, 1):
        row = answered(first_event_s=10.5 if running_count == 0 else 11.9)
        speeds.began(row, Load(running_count=running_count, parallel=1), 100, 31)
        speeds.ended(row, local=True)

    speed = speeds.by_step[STEP]
    assert speed.sample_count == pytest.approx(3, rel=0.05)
    assert predicted(speed, IDLE, 100, 0, 10).first_token_s == pytest.approx(0.5, rel=0.1)


def test_a_first_event_that_no_text_delays_is_learned_without_it() -> None:
    """Whatever its prompt was estimated or counted at; and it keeps nobody waiting by its length."""
    speeds, waiting = Speeds(None, Wall()), answered(first_event_s=None)
    for tokens in (1, 7, 400):
        row = answered()
        speeds.began(row, IDLE, tokens, None, even=True)
        speeds.ended(row, local=True)
    speeds.began(waiting, IDLE, 400, None, even=True)

    assert speeds.ahead_tokens(STEP) == 0
    assert predicted(speeds.by_step[STEP], IDLE, 0, 0, 1).first_token_s == pytest.approx(0.5, rel=0.01)


def test_how_many_go_together_may_show_only_at_the_end() -> None:
    """Five that waited for a model to load cannot have run together where it has room for two."""
    speeds = Speeds(None, Wall())
    rows = [answered() for _ in range(5)]
    for count, row in enumerate(rows):
        speeds.began(row, Load(running_count=count, loading=True), 100, None)
    for row in rows:
        speeds.ended(row, local=True, parallel=2)

    assert [row.depth for row in rows] == [1, 2, 2, 2, 2]
    assert set(speeds.by_step[STEP].paces) == {bucket(1), bucket(2)}


def test_an_attempt_that_never_began_teaches_all_the_same() -> None:
    """Nobody has to begin what only ends."""
    speeds = Speeds(None, Wall())

    speeds.ended(answered(), local=True)
    speeds.ended(answered(outcome="failed"), local=True)

    assert speeds.by_step[STEP].sample_count == 1


async def test_speeds_outlive_the_process() -> None:
    """What one process saved, the next one loads."""
    kept, wall = Kept(), Wall()
    before = Speeds(kept, wall)
    before.learn(STEP, replace(TAUGHT, at_s=wall()), local=True)
    await before.save()

    after = Speeds(kept, wall)
    await after.load()

    assert after.by_step == before.by_step


async def test_only_what_changed_is_written() -> None:
    """A save writes the steps that were measured since the last one, and nothing if there are none."""
    kept = Kept()
    speeds = Speeds(kept, Wall())
    speeds.learn("a/m", TAUGHT, local=True)
    speeds.learn("b/m", TAUGHT, local=False)
    await speeds.save()
    await speeds.save()
    speeds.learn("b/m", TAUGHT, local=False)
    await speeds.save()

    assert kept.writes == [{"a/m", "b/m"}, {"b/m"}]


async def test_what_could_not_be_written_is_written_later() -> None:
    """A full disk loses nothing, and is told."""
    kept = Kept()
    speeds = Speeds(kept, Wall())
    speeds.learn(STEP, TAUGHT, local=True)
    kept.broken = True
    with pytest.raises(OSError, match="no room"):
        await speeds.save()
    kept.broken = False
    await speeds.save()

    assert kept.writes == [{STEP}]


@pytest.mark.parametrize("note", [b"", b"{", b"[]", b'{"firsts": 3}', b'{"late": "\xff"}', b"null"])
async def test_a_note_that_cannot_be_read_is_learned_anew(note: bytes) -> None:
    """It hides no other note, and is replaced."""
    kept = Kept(**{"bad/m": note, "good/m": msgspec.json.encode(Speed(sample_count=3))})
    speeds = Speeds(kept, Wall())
    await speeds.load()
    assert set(speeds.by_step) == {"good/m"}

    speeds.learn("bad/m", TAUGHT, local=True)
    await speeds.save()
    assert msgspec.json.decode(kept.notes["bad/m"], type=Speed).sample_count == 1


async def test_loading_does_not_undo_what_was_learned_meanwhile() -> None:
    """A first attempt may end before the notes are read."""
    speeds = Speeds(Kept(**{STEP: msgspec.json.encode(Speed(sample_count=99))}), Wall())
    speeds.learn(STEP, TAUGHT, local=True)
    await speeds.load()

    assert speeds.by_step[STEP].sample_count == 1


async def test_without_notes_nothing_is_kept() -> None:
    """Loading and saving do nothing then."""
    speeds = Speeds(None, Wall())
    speeds.learn(STEP, TAUGHT, local=True)
    await speeds.save()
    await speeds.load()

    assert set(speeds.by_step) == {STEP}


async def test_what_was_not_measured_for_an_hour_is_doubted() -> None:
    """Until it is measured again; the doubt is noticed at the next save, whether or not there were calls."""
    wall = Wall()
    speeds = Speeds(None, wall)
    speeds.learn("a/m", replace(TAUGHT, at_s=wall()), local=True)
    speeds.learn("b/m", replace(TAUGHT, at_s=wall()), local=True)
    wall.now_s += 3700
    await speeds.save()
    assert {name: speed.doubted for name, speed in speeds.by_step.items()} == {"a/m": True, "b/m": True}

    speeds.learn("a/m", replace(TAUGHT, at_s=wall()), local=True)
    assert {name: speed.doubted for name, speed in speeds.by_step.items()} == {"a/m": False, "b/m": True}
