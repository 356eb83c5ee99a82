"""Running a plan: who answers, what the client is shown, when a wait ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_gate import OpenGate

from hybrid_router.backends.scripted import Act, Hang, Scripted, answer
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendTimeout,
    BackendUnavailable,
    BrokenByCall,
    CallRefused,
    ContextOverflow,
    Inexpressible,
    NoBackend,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Event, Finish, Progress, Text, Usage
from hybrid_router.core.step import Plan, Step, Timeouts, Treatment
from hybrid_router.dispatch import engine
from hybrid_router.dispatch.record import Attempt, Record

QUICK = Timeouts(connect_s=0.05, load_s=0.05, first_token_s=0.05, between_tokens_s=0.05, total_s=5.0)
LONG = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=5.0)


def call(*, stream: bool = True, n: int = 1) -> Call:
    return Call(id="c", operation=Operation.CHAT, alias="a", stream=stream, n=n)


class Trial:
    """One run over scripted backends `b0`, `b1`, …; keeps everything that can be looked at after."""

    def __init__(
        self, *scripts: Sequence[Act], timeouts: Timeouts = LONG, total_s: float = 5.0, retries: int = 0
    ) -> None:
        self.backends = {f"b{i}": Scripted([script]) for i, script in enumerate(scripts)}
        steps = tuple(Step(backend=name, model="m", timeouts=timeouts, because="") for name in self.backends)
        plan = Plan(steps=steps, total_s=total_s, treatment=Treatment(on_break="error", retries=retries))
        self.record = Record(id="d", plan=plan)
        self.rows: list[Attempt] = []
        self.events: list[Event] = []
        self.error: RouterError | None = None

    async def run(self, asked: Call) -> Trial:
        try:
            retries = self.record.plan.treatment.retries > 0
            gate = OpenGate(self.backends, self.rows.append, retries=retries)
            async with aclosing(engine.run(asked, self.record, gate)) as batches:
                async for batch in batches:
                    self.events += batch
        except RouterError as error:
            self.error = error
        return self

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Text))

    @property
    def outcomes(self) -> list[str]:
        return [row.outcome for row in self.rows]


async def test_the_first_step_that_works_answers_alone() -> None:
    """Later steps are not asked."""
    trial = await Trial(answer("one"), answer("two")).run(call())

    assert trial.text == "one"
    assert trial.backends["b1"].runs == []
    assert trial.outcomes == ["answered"]


@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_before_the_first_event_goes_to_the_next_step(stream: bool) -> None:
    """And the client sees one whole answer, of one backend."""
    trial = await Trial([BackendBusy("full")], answer("two")).run(call(stream=stream))

    assert (trial.text, trial.error) == ("two", None)
    assert trial.outcomes == ["failed", "answered"]
    assert trial.rows[0].error == "rate_limit_exceeded"


async def test_a_silent_step_is_left_when_its_first_token_is_due() -> None:
    """Hanging counts as failing, and the hanging backend is let go."""
    trial = await Trial([Hang()], answer("two"), timeouts=QUICK).run(call())

    assert trial.text == "two"
    assert trial.backends["b0"].released.is_set()
    assert trial.rows[0].error == "backend_timeout"


async def test_a_broken_stream_is_never_answered_twice() -> None:
    """After the first event no other step may start: the client would see two beginnings."""
    trial = await Trial([[Text("par")], StreamBroken("cut")], answer("two")).run(call())

    assert trial.text == "par"
    assert isinstance(trial.error, StreamBroken)
    assert trial.backends["b1"].runs == []
    assert trial.outcomes == ["broken"]


async def test_a_backend_that_errs_in_the_wrong_type_is_still_not_repeated() -> None:
    """`BackendError` after the first event is a bug of an adapter; the client must not pay for it."""
    trial = await Trial([[Text("par")], BackendUnavailable("gone")], answer("two")).run(call())

    assert isinstance(trial.error, StreamBroken)
    assert (trial.text, trial.error.code) == ("par", "backend_unavailable")


@pytest.mark.parametrize("end", [[StreamBroken("cut")], [Hang()], []], ids=["cut", "stall", "no finish"])
async def test_a_plain_call_may_start_anew_whatever_broke(end: list[Act]) -> None:
    """Nothing of a plain answer is shown before it is whole, so the next step answers from the start."""
    trial = await Trial([[Text("par")], *end], answer("two"), timeouts=QUICK).run(call(stream=False))

    assert (trial.text, trial.error) == ("two", None)
    assert len([event for event in trial.events if isinstance(event, Finish)]) == 1


@pytest.mark.parametrize("stream", [True, False])
async def test_a_mistake_that_shows_late_is_the_call_s_still(stream: bool) -> None:
    """Nobody else is asked, and the client is told what it would have been told at once."""
    mistake = BrokenByCall(CallRefused("input: damaged", param="input"))
    trial = await Trial([[Text("par")], mistake], answer("two")).run(call(stream=stream))

    assert trial.error is (mistake if stream else mistake.refusal)
    assert (trial.error.status, trial.error.code) == (400, "invalid_request_error")
    assert (trial.outcomes, trial.backends["b1"].runs) == (["refused"], [])


async def test_a_sign_of_life_is_no_beginning() -> None:
    """What fails after it may be answered by the next step, and it is no first token."""
    trial = await Trial([[Progress(0.1)], BackendUnavailable("gone")], answer("two")).run(call())

    assert (trial.text, trial.error) == ("two", None)
    assert trial.rows[0].first_event_s is None


async def test_silence_in_the_middle_breaks_the_stream() -> None:
    """`between_tokens` counts from the last event."""
    trial = await Trial([[Text("par")], Hang()], timeouts=QUICK).run(call())

    assert isinstance(trial.error, StreamBroken)
    assert trial.error.code == "backend_timeout"


async def test_an_answer_without_a_finish_is_broken() -> None:
    """A clean end of the stream proves nothing (I3)."""
    trial = await Trial([[Text("par")]]).run(call())

    assert isinstance(trial.error, StreamBroken)


async def test_every_choice_must_finish() -> None:
    """Two choices asked, one finished: broken."""
    trial = await Trial([[Text("a"), Finish("stop")]]).run(call(n=2))

    assert isinstance(trial.error, StreamBroken)


@pytest.mark.parametrize("end", [[StreamBroken("cut")], [Hang()], []], ids=["cut", "stall", "end"])
async def test_what_goes_wrong_after_the_last_finish_is_nobodys_loss(end: list[Act]) -> None:
    """The answer is whole; only its usage is unknown."""
    trial = await Trial([[Text("all"), Finish("stop")], *end], timeouts=QUICK).run(call())

    assert (trial.text, trial.error, trial.outcomes) == ("all", None, ["answered"])


async def test_a_call_at_fault_is_not_passed_around() -> None:
    """Another backend would refuse it too."""
    trial = await Trial([CallRefused("bad")], answer("two")).run(call())

    assert isinstance(trial.error, CallRefused)
    assert trial.backends["b1"].runs == []
    assert trial.outcomes == ["refused"]


async def test_an_overflowing_prompt_may_fit_the_next_model() -> None:
    """Context overflow is the one fault of a call that another step can mend."""
    trial = await Trial([ContextOverflow("too long")], answer("two")).run(call())

    assert trial.text == "two"


async def test_when_all_fail_the_last_error_names_every_step() -> None:
    """So that the client's log alone tells what happened."""
    trial = await Trial([BackendUnavailable("refused")], [BackendBusy("full", retry_after_s=7)]).run(call())

    assert isinstance(trial.error, BackendBusy)
    assert trial.error.retry_after_s == 7
    assert trial.error.message == "all 2 steps failed: b0/m: refused; b1/m: full"


async def test_a_step_that_lacks_a_word_does_not_make_it_the_calls_fault() -> None:
    """A client may ask again where another step was only busy; where all lack the word, it is told so."""
    mixed = await Trial([BackendBusy("full")], [Inexpressible("no `seed`", param="seed")]).run(call())
    alone = await Trial([Inexpressible("no `seed`", param="seed")]).run(call())

    assert isinstance(mixed.error, BackendBusy)
    assert mixed.error.message == "all 2 steps failed: b0/m: full; b1/m: no `seed`"
    assert isinstance(alone.error, Inexpressible)
    assert (alone.error.status, alone.error.code) == (400, "unsupported_parameter")


async def test_what_a_step_says_twice_is_told_once() -> None:
    """A retry that fails in the same way adds nothing to read."""
    trial = await Trial([BackendUnavailable("refused", retry_after_s=0.0)], retries=1).run(call())

    assert trial.outcomes == ["failed", "failed"]
    assert trial.error is not None
    assert trial.error.message == "all 2 attempts failed: b0/m: refused"


async def test_an_empty_plan_is_an_error_and_not_an_empty_answer() -> None:
    """Whoever runs a plan without steps is told."""
    trial = await Trial().run(call())

    assert isinstance(trial.error, NoBackend)
    assert trial.record.last is None


async def test_the_total_holds_over_all_attempts() -> None:
    """A spent deadline starts no further step."""
    trial = await Trial([Hang()], answer("two"), total_s=0.05).run(call())

    assert isinstance(trial.error, BackendTimeout)
    assert trial.backends["b1"].runs == []


async def test_leaving_cancels_the_backend() -> None:
    """A closed generator releases the adapter and leaves a row that says so."""
    trial = Trial([[Text("par")], Hang()])
    batches = engine.run(call(), trial.record, OpenGate(trial.backends, trial.rows.append))

    await anext(batches)
    await batches.aclose()

    assert trial.backends["b0"].released.is_set()
    assert trial.outcomes == ["cancelled"]


async def test_a_cancelled_task_releases_the_backend() -> None:
    """As when the client's connection is lost while the first token is waited for."""
    trial = Trial([Hang()])
    task = asyncio.create_task(trial.run(call()))
    await trial.backends["b0"].hanging.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert trial.backends["b0"].released.is_set()
    assert trial.outcomes == ["cancelled"]


async def test_the_row_tells_usage_and_times() -> None:
    """What is logged is what was seen (I10)."""
    usage = Usage(prompt_tokens=5, completion_tokens=2)
    trial = await Trial(answer("a", "b", usage=usage)).run(call())

    (row,) = trial.rows
    assert row.usage == usage
    assert row.first_event_s is not None
    assert row.ended_s is not None
    assert row.started_s <= row.first_event_s <= row.ended_s


FAULTS = st.sampled_from(
    [
        [BackendBusy("x")],
        [[Text("p")], StreamBroken("x")],
        [[Text("p")]],
        [],
        answer("w1", "w2"),
        [CallRefused("x")],
    ]
)


@given(st.lists(FAULTS, min_size=1, max_size=4), st.booleans())
def test_whatever_fails_the_client_sees_one_backend(scripts: list[list[Act]], stream: bool) -> None:
    """For any faults: at most one backend's text, a whole answer or an error, one row an attempt."""
    trial = asyncio.run(Trial(*scripts).run(call(stream=stream)))

    assert trial.text in {"", "p", "w1w2"}
    assert (trial.error is None) == any(isinstance(event, Finish) for event in trial.events)
    assert len(trial.rows) == len(trial.record.attempts) == sum(len(b.runs) for b in trial.backends.values())
    assert "running" not in trial.outcomes
