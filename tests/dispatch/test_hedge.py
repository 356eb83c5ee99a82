"""Hedging: a second step starts late, the first with content answers, the other is let go."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from open_gate import OpenGate

from hybrid_router.backends.scripted import Act, Hang, Scripted, answer
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendBusy, BackendUnavailable, RouterError, StreamBroken
from hybrid_router.core.event import Event, Progress, Reasoning, Text, Usage
from hybrid_router.core.step import Plan, Prediction, Step, Timeouts, Treatment
from hybrid_router.dispatch import engine
from hybrid_router.dispatch.record import Attempt, Record

WAITS = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=5)
SOON = Prediction(first_token_s=0.01, first_token_p90_s=0.02)


class Race:
    """One hedged run over scripted backends `b0`, `b1`, …"""

    def __init__(
        self,
        *scripts: Sequence[Act],
        predicted: Prediction | None = SOON,
        hedge: bool = True,
        waits: Timeouts = WAITS,
    ) -> None:
        self.backends = {f"b{i}": Scripted([script]) for i, script in enumerate(scripts)}
        steps = tuple(
            Step(backend=name, model="m", timeouts=waits, because="", predicted=predicted)
            for name in self.backends
        )
        treatment = Treatment(hedge=hedge, retries=0, on_break="error")
        self.record = Record(id="d", plan=Plan(steps=steps, total_s=5, treatment=treatment))
        self.rows: list[Attempt] = []
        self.events: list[Event] = []
        self.error: RouterError | None = None

    async def run(self, *, stream: bool = True) -> Race:
        call = Call(id="c", operation=Operation.CHAT, alias="a", stream=stream)
        gate = OpenGate(self.backends, self.rows.append)
        try:
            async with aclosing(engine.run(call, self.record, gate)) as batches:
                async for batch in batches:
                    self.events += batch
        except RouterError as error:
            self.error = error
        return self

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def outcomes(self) -> dict[str, str]:
        return {row.backend: row.outcome for row in self.rows}


@pytest.mark.parametrize("stream", [True, False])
async def test_the_second_answers_when_the_first_is_slow(stream: bool) -> None:
    """Its whole answer, and nothing of the first; whose silence is ended at once."""
    race = await Race([Hang()], answer("two", " more")).run(stream=stream)

    assert (race.text, race.error) == ("two more", None)
    assert race.outcomes == {"b0": "cancelled", "b1": "answered"}
    assert race.backends["b0"].released.is_set()
    assert race.record.last is not None
    assert (race.record.last.backend, race.record.last.hedge) == ("b1", True)


async def test_a_first_that_is_quick_is_alone() -> None:
    """Nobody else is asked, so nobody else is paid."""
    race = await Race(answer("one"), answer("two")).run()

    assert race.text == "one"
    assert race.backends["b1"].runs == []


@pytest.mark.parametrize(
    ("predicted", "hedge"), [(SOON, False), (None, True), (Prediction(first_token_s=1.0), True)]
)
async def test_without_the_wish_or_a_prediction_nobody_is_hedged(
    predicted: Prediction | None, hedge: bool
) -> None:
    """A hedge that starts at a guess would only double the load."""
    quick = Timeouts(connect_s=0.05, load_s=0.05, first_token_s=0.05, between_tokens_s=5, total_s=5)
    race = await Race([Hang()], answer("two"), predicted=predicted, hedge=hedge, waits=quick).run()

    assert race.text == "two"
    assert [row.hedge for row in race.rows] == [False, False]
    assert race.outcomes["b0"] == "failed"


async def test_an_error_of_the_second_wins_nothing() -> None:
    """The first goes on, and its answer is the client's."""
    slow = Race([Hang()], [BackendBusy("full")], answer("three"))
    task = asyncio.create_task(slow.run())
    await slow.backends["b1"].released.wait()

    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.outcomes == {"b0": "cancelled", "b1": "failed"}


async def test_an_error_of_the_first_leaves_the_second_to_answer() -> None:
    """A failure before the hedge starts is an ordinary fallback."""
    race = await Race([BackendUnavailable("gone")], answer("two")).run()

    assert (race.text, race.outcomes) == ("two", {"b0": "failed", "b1": "answered"})


async def test_what_says_nothing_wins_nothing() -> None:
    """Usage or a sign of life is no content: the second's first word wins."""
    empty: list[Act] = [[Progress(0.1)], [Usage(prompt_tokens=1, completion_tokens=0)], Hang()]
    race = await Race(empty, answer("two")).run()

    assert race.text == "two"
    assert race.outcomes["b0"] == "cancelled"


async def test_reasoning_is_content() -> None:
    """A client that is shown thoughts waits no longer."""
    race = await Race([Hang()], [[Reasoning("hm")], *answer("two")]).run()

    assert race.events[0] == Reasoning("hm")


async def test_when_both_fail_the_third_answers() -> None:
    """The hedge was its step's one attempt; the next in line follows."""
    quick = Timeouts(connect_s=0.1, load_s=0.1, first_token_s=0.1, between_tokens_s=5, total_s=5)
    race = await Race([Hang()], [BackendBusy("full")], answer("three"), waits=quick).run()

    assert (race.text, race.error) == ("three", None)
    assert race.outcomes == {"b0": "failed", "b1": "failed", "b2": "answered"}


async def test_a_winner_that_breaks_is_the_one_that_broke() -> None:
    """The record blames the attempt whose text the client has."""
    race = await Race([Hang()], [[Text("half")], StreamBroken("cut")]).run()

    assert race.text == "half"
    assert isinstance(race.error, StreamBroken)
    assert race.outcomes == {"b0": "cancelled", "b1": "broken"}


async def test_leaving_releases_both() -> None:
    """A client that goes away in the middle of a race cancels both backends."""
    race = Race([Hang()], [Hang()])
    task = asyncio.create_task(race.run())
    await race.backends["b1"].hanging.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert race.outcomes == {"b0": "cancelled", "b1": "cancelled"}
    assert all(backend.released.is_set() for backend in race.backends.values())
