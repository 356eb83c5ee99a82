"""A broken stream goes on elsewhere: one text, one end, and a record of who wrote what."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from open_gate import OpenGate

from hybrid_router.backends.scripted import Act, Hang, Scripted, answer
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    CallRefused,
    PrefillRefused,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import (
    Event,
    Finish,
    PromptScores,
    Reasoning,
    Text,
    TokenScore,
    ToolFragment,
    Usage,
)
from hybrid_router.core.step import Plan, Step, Timeouts, Treatment
from hybrid_router.dispatch import engine
from hybrid_router.dispatch.record import Attempt, Record

QUICK = Timeouts(connect_s=0.05, load_s=0.05, first_token_s=0.05, between_tokens_s=0.05, total_s=5)
CUT = StreamBroken("cut")
WORDS = ["One ", "two. ", "Three ", "four, ", "five."]
WHOLE = "".join(WORDS)


class Trial:
    """One streamed run over `backends`, by name, in their order."""

    def __init__(self, *scripts: Sequence[Act], prefills: Sequence[bool] = (), **treatment: Any) -> None:
        able = [*prefills, *[False] * len(scripts)]
        self.backends = {f"b{i}": Scripted([script], prefills=able[i]) for i, script in enumerate(scripts)}
        steps = tuple(Step(backend=name, model="m", timeouts=QUICK, because="") for name in self.backends)
        said = {"retries": 0, **treatment}
        self.record = Record(id="d", plan=Plan(steps=steps, total_s=5, treatment=Treatment(**said)))
        self.rows: list[Attempt] = []
        self.events: list[Event] = []
        self.error: RouterError | None = None

    async def run(self, **asked: Any) -> Trial:
        call = Call(id="c", operation=Operation.CHAT, alias="a", stream=True, **asked)
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
    def finish_count(self) -> int:
        return sum(isinstance(event, Finish) for event in self.events)

    @property
    def parts(self) -> list[str]:
        return [self.text[row.begin_char : row.end_char] for row in self.rows if row.begin_char is not None]


def broken_after(count: int, *end: Act) -> list[Act]:
    acts: list[Act] = [[Text(word)] for word in WORDS[:count]]
    return [*acts, *end]


ENDS: dict[str, list[Act]] = {"cut": [CUT], "stall": [Hang()], "clean close": []}


@pytest.mark.parametrize("count", range(1, len(WORDS) + 1))
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
async def test_wherever_it_breaks_a_replay_completes_it(end: list[Act], count: int) -> None:
    """The client's text is the uncut one, with one finish and one usage."""
    trial = await Trial(broken_after(count, *end), answer(*WORDS)).run()

    assert (trial.text, trial.error) == (WHOLE, None)
    assert trial.finish_count == 1
    assert sum(isinstance(event, Usage) for event in trial.events) == 1
    assert [row.mode for row in trial.rows] == ["fresh", "replay"]
    assert "".join(trial.parts) == WHOLE
    assert trial.parts[0] == "".join(WORDS[:count])


@pytest.mark.parametrize("count", range(1, len(WORDS)))
async def test_a_backend_that_can_goes_on_from_the_text(count: int) -> None:
    """It is given what is out, and only what it adds is passed on."""
    trial = await Trial(broken_after(count, CUT), answer(*WORDS[count:]), prefills=[False, True]).run()

    assert (trial.text, trial.error) == (WHOLE, None)
    assert [row.mode for row in trial.rows] == ["fresh", "prefill"]
    (asked, _) = trial.backends["b1"].runs[0]
    assert asked.written == "".join(WORDS[:count])


async def test_a_refused_prefill_is_nobodys_error() -> None:
    """The same step starts anew instead, and the client sees nothing of it."""
    trial = Trial(broken_after(2, CUT), answer(*WORDS), prefills=[False, True])
    trial.backends["b1"].scripts = [[PrefillRefused("no")], answer(*WORDS)]
    await trial.run()

    assert (trial.text, trial.error) == (WHOLE, None)
    assert [(row.mode, row.outcome) for row in trial.rows] == [
        ("fresh", "broken"),
        ("prefill", "failed"),
        ("replay", "answered"),
    ]


async def test_alone_the_same_step_is_asked_again() -> None:
    """One backend, one cut: the second run completes the answer."""
    trial = Trial(broken_after(3, CUT))
    trial.backends["b0"].scripts = [broken_after(3, CUT), answer(*WORDS)]
    await trial.run()

    assert (trial.text, trial.error) == (WHOLE, None)


async def test_it_may_break_more_than_once() -> None:
    """Each break is taken up where the client's text ends."""
    trial = await Trial(broken_after(1, CUT), broken_after(3, CUT), answer(*WORDS)).run()

    assert (trial.text, trial.error) == (WHOLE, None)
    assert trial.parts == ["One ", "two. Three ", "four, five."]


async def test_a_step_that_always_breaks_is_left() -> None:
    """What breaks a fourth time ends in-band: nothing goes round for ever."""
    trial = await Trial(broken_after(2, CUT)).run()

    assert isinstance(trial.error, StreamBroken)
    assert trial.text == "One two. "
    assert len(trial.rows) == 4


@pytest.mark.parametrize("failure", [BackendBusy("full"), CallRefused("too long")])
async def test_a_step_that_cannot_continue_is_passed_over(failure: RouterError) -> None:
    """Whatever it says, the client's own call was fine: another one goes on."""
    trial = await Trial(broken_after(2, CUT), [failure], answer(*WORDS)).run()

    assert (trial.text, trial.error) == (WHOLE, None)


async def test_if_nobody_can_the_end_is_in_band() -> None:
    """Part of the answer is out, so whatever failed last, it is a broken stream; all are named."""
    trial = Trial(broken_after(2, CUT), [BackendBusy("full")])
    trial.backends["b0"].scripts = [broken_after(2, CUT), [BackendBusy("also full")]]
    await trial.run()

    assert isinstance(trial.error, StreamBroken)
    assert "full" in trial.error.message
    assert trial.finish_count == 0


async def test_the_policy_may_want_an_error() -> None:
    """`on_break: error` asks nobody else."""
    trial = await Trial(broken_after(2, CUT), answer(*WORDS), on_break="error").run()

    assert isinstance(trial.error, StreamBroken)
    assert trial.backends["b1"].runs == []


@pytest.mark.parametrize("text", [[], [[Text("Well, ")]]], ids=["alone", "after text"])
async def test_nothing_goes_on_inside_a_tool_call(text: list[Act]) -> None:
    """Half of its arguments are out: another model's would not fit."""
    half: list[Act] = [*text, [ToolFragment(0, '{"a": ', id="call_1", name="f")], CUT]
    trial = await Trial(half, answer(*WORDS)).run()

    assert isinstance(trial.error, StreamBroken)
    assert trial.backends["b1"].runs == []


async def test_several_choices_are_not_continued() -> None:
    """Half of two answers is out; the end is in-band."""
    trial = await Trial([[Text("a")], CUT], answer(*WORDS)).run(n=2)

    assert isinstance(trial.error, StreamBroken)
    assert trial.backends["b1"].runs == []


async def test_a_given_form_is_never_prefilled_nor_spliced() -> None:
    """Only a replay that says the same may complete it: then the whole document is one backend's."""
    form = {"response_format": {"type": "json_object"}}
    same = await Trial([[Text('{"a":')], CUT], answer('{"a": 1}'), prefills=[False, True]).run(**form)
    other = await Trial([[Text('{"a":')], CUT], answer('{"b". 1} '), on_divergence="splice").run(**form)

    assert (same.text, same.error) == ('{"a": 1}', None)
    assert isinstance(other.error, StreamBroken)
    assert other.text == '{"a":'


async def test_thoughts_that_broke_off_are_not_thought_twice() -> None:
    """The client has the first backend's; the second gives the answer."""
    trial = await Trial([[Reasoning("hm")], CUT], [[Reasoning("well")], *answer(*WORDS)]).run()

    assert [event.text for event in trial.events if isinstance(event, Reasoning)] == ["hm"]
    assert (trial.text, trial.error) == (WHOLE, None)


async def test_another_answer_ends_in_band() -> None:
    """By default a replay that differs is told, and nothing of it is shown."""
    trial = await Trial(broken_after(2, CUT), answer("One three. ", "Four.")).run()

    assert isinstance(trial.error, StreamBroken)
    assert trial.text == "One two. "
    assert (trial.rows[1].outcome, trial.rows[1].diverged_at_char) == ("broken", 5)


async def test_another_answer_may_be_spliced() -> None:
    """By policy the text goes on after the replay's next sentence, and the record names both parts."""
    trial = await Trial(
        broken_after(3, CUT), answer("One three. ", "Four five six. ", "Seven."), on_divergence="splice"
    ).run()

    assert trial.error is None
    assert trial.text == "One two. Three " + trial.parts[1]
    assert trial.parts[1].strip() == "Seven."
    assert trial.rows[1].diverged_at_char == 5


async def test_after_a_difference_the_others_are_still_asked() -> None:
    """A third step may say the same as the first."""
    trial = await Trial(broken_after(2, CUT), answer("Else."), answer(*WORDS)).run()

    assert (trial.text, trial.error) == (WHOLE, None)


EVENTS = st.lists(
    st.sampled_from(
        [
            [CUT],
            [BackendBusy("x")],
            [],
            answer(*WORDS),
            *(broken_after(count, end) for count in (1, 3, 5) for end in (CUT, Hang())),
            answer("One ", "else"),
        ]
    ),
    min_size=1,
    max_size=4,
)


@given(EVENTS, st.sampled_from(["continue", "error"]))
def test_whatever_breaks_the_text_is_the_whole_or_a_beginning_of_it(
    scripts: list[list[Act]], on_break: str
) -> None:
    """For any faults: never a byte twice, an end if and only if it is whole, a row for each attempt."""
    trial = asyncio.run(Trial(*scripts, on_break=on_break).run())

    assert WHOLE.startswith(trial.text) or trial.text == "One else"
    assert (trial.error is None) == (trial.finish_count == 1)
    assert trial.error is not None or trial.text in {WHOLE, "One else"}
    assert len(trial.rows) == sum(len(backend.runs) for backend in trial.backends.values())
    assert "running" not in {row.outcome for row in trial.rows}


SCORE = TokenScore(b"x", -0.5)


async def test_a_replays_scores_begin_behind_its_seam() -> None:
    """Scores of the prompt come once; those of swallowed text, and of the piece that is cut, are left out."""
    first: list[Act] = [
        [PromptScores((SCORE,))],
        [Text("", scores=(SCORE,)), Text("One ", scores=(SCORE,))],
        CUT,
    ]
    again: list[Act] = [
        [PromptScores((SCORE,)), Text("One two ", scores=(SCORE, SCORE))],
        [Text("three", scores=(SCORE,)), Finish("stop"), Usage(1, 3)],
    ]
    trial = await Trial(first, again).run(top_logprobs=0)

    assert trial.text == "One two three"
    told = [event for event in trial.events if isinstance(event, Text | PromptScores)]
    assert [len(event.scores) for event in told] == [1, 1, 1, 0, 1]
    assert sum(isinstance(event, PromptScores) for event in told) == 1


async def test_prompt_scores_that_were_not_shown_are_not_lost() -> None:
    """An answer that broke before them gets them from the step that goes on."""
    again: list[Act] = [[PromptScores((SCORE,)), Text("so"), Finish("stop"), Usage(1, 1)]]
    trial = await Trial([[Reasoning("hm")], CUT], again).run(top_logprobs=0)

    assert [event for event in trial.events if isinstance(event, PromptScores)] == [PromptScores((SCORE,))]


async def test_pieces_without_text_are_no_pieces() -> None:
    """How many tokens are written is told by the pieces that hold some text."""
    first: list[Act] = [[Text("", scores=(SCORE,)), Text("One ")], CUT]
    trial = await Trial(first, answer("two."), prefills=(False, True)).run()

    asked, _ = trial.backends["b1"].runs[0]
    assert (asked.written, asked.written_count) == ("One ", 1)
