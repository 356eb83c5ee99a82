"""Answers are the same with and without guesses, on the real starter model and drafts made from it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import jsonschema
import msgspec
import pytest

from bench.llama_shallow import shallow
from hybrid_router.core.call import Message, Operation, Sampling
from hybrid_router.core.event import Event, Finish, Text, Usage
from hybrid_router.engines.llama.context import Context, DecodeFailed, Entry
from hybrid_router.engines.llama.drafting.model import DraftModel
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.settings import Drafting, LlamaSettings
from hybrid_router.engines.task import Output, Task

pytestmark = pytest.mark.model
CHUNK = 64
GREEDY = Sampling(temperature=0, max_tokens=16)
# Continuations that the model is sure of: the arithmetic of a larger batch flips no near-tie here.
SURE = ("a b c d e f g", "1 2 3 4 5 6 7 8 9", "1, 2, 3, 4, 5, 6, 7,")
LISTED = "apples, pears, plums, figs, " * 5
LONG = "The ship sailed on to the next island of the chain, number {}. "
SCHEMA = {
    "type": "object",
    "properties": {
        "first_name": {"type": "string", "maxLength": 8},
        "sentiment": {"enum": ["positive", "negative"]},
    },
    "required": ["first_name", "sentiment"],
    "additionalProperties": False,
}


def opened(settings: LlamaSettings, draft: Path | str | None = None) -> LlamaEngine:
    chosen = Drafting(most_tokens=4, model_path=str(draft)) if draft else Drafting()
    return LlamaEngine(msgspec.structs.replace(settings, drafting=chosen, parallel=3))


@pytest.fixture(scope="module")
def plain(model_settings: LlamaSettings) -> Iterator[LlamaEngine]:
    """Nobody guesses."""
    engine = opened(model_settings)
    engine._drafter._forced_count = 0
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def own(model_settings: LlamaSettings) -> Iterator[LlamaEngine]:
    """The model drafts for itself: it is nearly always right."""
    engine = opened(model_settings, model_settings.path)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def small(model_settings: LlamaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    """The model's first layers draft: often wrong."""
    draft = shallow(Path(model_settings.path), tmp_path_factory.mktemp("draft") / "shallow.gguf", 10)
    engine = opened(model_settings, draft)
    yield engine
    engine.close()


@pytest.fixture(params=["own", "small"])
def guessing(request: pytest.FixtureRequest) -> LlamaEngine:
    return cast(LlamaEngine, request.getfixturevalue(request.param))


def draft_model(engine: LlamaEngine) -> DraftModel:
    found = engine._drafter._model
    assert found is not None
    return found


def complete(task_id: int, prompt: str, sampling: Sampling = GREEDY, n: int = 1) -> Task:
    return Task(id=task_id, operation=Operation.COMPLETE, prompts=(prompt,), sampling=sampling, n=n)


def chat(task_id: int, text: str, **wanted: Any) -> Task:
    message = Message(role="user", content=text)
    return Task(id=task_id, operation=Operation.CHAT, messages=(message,), **{"sampling": GREEDY, **wanted})


def formed(task_id: int, text: str) -> Task:
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}
    return chat(task_id, text, response_format=form, sampling=Sampling(temperature=0, max_tokens=48))


def run(engine: LlamaEngine, *tasks: Task) -> dict[int, list[Event]]:
    """All at once, to their ends."""
    events: dict[int, list[Event]] = {task.id: [] for task in tasks}
    for task in tasks:
        assert engine.begin(task) == []
    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output), answer
            events[answer.id] += answer.events
    return events


def said(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def usage(events: list[Event]) -> Usage:
    assert isinstance(events[-1], Usage)
    return events[-1]


def test_guesses_change_no_word(plain: LlamaEngine, guessing: LlamaEngine) -> None:
    """Alone and three at once; what was accepted is never more than what was guessed."""
    expected = [said(run(plain, complete(1, prompt))[1]) for prompt in SURE]

    alone = [run(guessing, complete(1, prompt))[1] for prompt in SURE]
    together = run(guessing, *(complete(at, prompt) for at, prompt in enumerate(SURE)))

    assert [said(events) for events in alone] == expected
    assert [said(events) for events in together.values()] == expected
    for events in (*alone, *together.values()):
        assert 0 <= usage(events).accepted_tokens <= usage(events).drafted_tokens


def test_a_model_guesses_its_own_words(own: LlamaEngine) -> None:
    """What it would say itself is right, but for near-ties; so an answer takes far fewer steps."""
    counted = usage(run(own, complete(1, SURE[0]))[1])

    assert counted.drafted_tokens > 0
    assert counted.accepted_tokens >= 0.9 * counted.drafted_tokens


def test_looking_up_changes_no_word(model_settings: LlamaSettings, plain: LlamaEngine) -> None:
    """Nor do guesses from the prompt, which usage tells of."""
    eager = LlamaEngine(msgspec.structs.replace(model_settings, drafting=Drafting(most_tokens=4)))
    without = run(plain, complete(1, LISTED))[1]
    guessed = run(eager, complete(1, LISTED))[1]
    eager.close()

    assert said(guessed) == said(without)
    assert (usage(without).drafted_tokens, usage(without).accepted_tokens) == (0, 0)
    assert 0 < usage(guessed).accepted_tokens <= usage(guessed).drafted_tokens


def test_a_seed_gives_the_same_text(plain: LlamaEngine, guessing: LlamaEngine) -> None:
    """Guesses are checked against what is drawn, in the same order."""
    lively = Sampling(temperature=0.8, seed=11, max_tokens=16)
    task = complete(1, "Once upon a time", lively, n=2)
    expected, found = run(plain, task)[1], run(guessing, task)[1]

    assert [said(found, index) for index in (0, 1)] == [said(expected, index) for index in (0, 1)]
    assert said(found, 0) != said(found, 1)


def test_choices_of_one_prompt_read_it_once(own: LlamaEngine) -> None:
    """The second's place is shared from the first's, and both say what one would."""
    prompt = "".join(LONG.format(number) for number in range(7)) + SURE[0]
    events = run(own, complete(1, prompt, GREEDY, n=2))[1]

    assert said(events, 0) == said(events, 1) != ""
    assert usage(events).accepted_tokens > 0


def test_a_limit_is_exact(plain: LlamaEngine, own: LlamaEngine) -> None:
    """Guesses that would all be right write not one token too many."""
    for most in range(1, 8):
        sampling = Sampling(temperature=0, max_tokens=most)
        expected, found = (run(one, complete(1, SURE[0], sampling))[1] for one in (plain, own))

        assert said(found) == said(expected)
        assert found[-2] == Finish("length")
        assert usage(found).completion_tokens == most


def test_an_answer_ends_within_right_guesses(plain: LlamaEngine, own: LlamaEngine) -> None:
    """At a stop string, and at the model's own end; nothing behind it is shown or counted."""
    tasks = (
        complete(1, SURE[0], msgspec.structs.replace(GREEDY, stop=("m n",))),
        chat(2, "What is 2+2?"),
    )

    expected, found = run(plain, *tasks), run(own, *tasks)

    assert said(found[1]) == " h i j k l "
    assert said(found[2]) == said(expected[2])
    for at in (1, 2):
        assert found[at][-2] == Finish("stop")
        assert usage(found[at]).completion_tokens == usage(expected[at]).completion_tokens


def test_a_form_is_kept(plain: LlamaEngine, guessing: LlamaEngine) -> None:
    """The same valid answer, in fewer steps as the form leaves little choice."""
    expected = run(plain, formed(1, "Tell me about Ann."))[1]
    found = run(guessing, formed(1, "Tell me about Ann."))[1]

    assert said(found) == said(expected)
    jsonschema.validate(msgspec.json.decode(said(found)), SCHEMA)
    assert usage(found).accepted_tokens > usage(found).completion_tokens / 3


def test_what_a_form_forces_needs_no_setting(model_settings: LlamaSettings, plain: LlamaEngine) -> None:
    """Where nothing is drafted, the only way on is tried at once all the same."""
    engine = opened(model_settings)
    expected = run(plain, formed(1, "Tell me about Ann."))[1]
    found = run(engine, formed(1, "Tell me about Ann."), complete(2, SURE[0]))
    engine.close()

    assert said(found[1]) == said(expected)
    # All are right; the one that ended the answer is not counted.
    assert usage(found[1]).accepted_tokens >= usage(found[1]).drafted_tokens - 1 > 0
    assert usage(found[2]).drafted_tokens == 0


def read_counts(engine: LlamaEngine, task: Task) -> list[int]:
    """How many tokens the draft model had of the only call after each step that found it writing."""
    counts: list[int] = []
    engine.begin(task)
    while engine.busy:
        engine.step()
        counts += [len(place.tokens) for place in draft_model(engine)._places if place.owner is not None]
    return counts


def test_a_long_prompt_is_read_in_pieces(own: LlamaEngine) -> None:
    """At most a chunk a step, so that neighbours go on; and a second call with it reads only its end."""
    prompt = "".join(LONG.format(number) for number in range(20, 33)) + SURE[0]
    length = len(own._weights.tokenize(prompt))
    assert length > 3 * CHUNK

    counts = read_counts(own, complete(1, prompt))
    again = read_counts(own, complete(2, prompt))

    assert counts[0] == CHUNK
    assert max(later - before for before, later in pairwise(counts)) <= CHUNK + 4
    assert counts[-1] > length
    assert again[0] >= length


def test_a_cancelled_call_leaves_its_place(plain: LlamaEngine, small: LlamaEngine) -> None:
    """All places can be had again, and who comes next reads what it should."""
    expected = said(run(plain, complete(1, SURE[0]))[1])
    for number in range(3):
        for at in range(3):
            small.begin(complete(at, LONG.format(number) + "Then", Sampling(temperature=0, max_tokens=50)))
        for _ in range(4 + number):
            small.step()
        for at in range(3):
            small.cancel(at)

        assert all(place.owner is None for place in draft_model(small)._places)
        assert not small.busy
    assert said(run(small, complete(9, SURE[0]))[9]) == expected


class Broken:
    """A context whose every computation fails."""

    def __init__(self, whole: Context) -> None:
        self.whole = whole

    def __getattr__(self, name: str) -> Any:
        return getattr(self.whole, name)

    def decode(self, entries: list[Entry]) -> None:
        raise DecodeFailed(2)


def test_a_draft_that_fails_takes_no_answer_along(plain: LlamaEngine, small: LlamaEngine) -> None:
    """The answer goes on without guesses; the next one has some again."""
    model = draft_model(small)
    whole = model._context
    model._context = cast(Context, Broken(whole))
    found = run(small, complete(1, SURE[0]))[1]
    model._context = whole
    again = run(small, complete(1, SURE[0]))[1]

    assert said(found) == said(again) == said(run(plain, complete(1, SURE[0]))[1])
    assert usage(found).drafted_tokens == 0
    assert usage(again).drafted_tokens > 0


def sequence(tokens: list[int]) -> Sequence:
    nothing: Any = None
    return Sequence(task_id=1, index=0, tokens=tokens, limit_count=9, sampler=nothing, voice=nothing)


def test_what_cannot_be_read_is_not_drafted(own: LlamaEngine) -> None:
    """Made-up tokens, as an image has, and answers that are too long: nothing is guessed, nobody fails."""
    known = own._weights.tokenize(SURE[0])
    unreadable = [
        sequence([*known, -1, -2, *known]),
        sequence([*known, own._weights.vocabulary_count, *known]),
        sequence(known * 90),
    ]
    readable = sequence(known)
    model = draft_model(own)

    for _ in range(2):
        model.guess([(one, 4) for one in [*unreadable, readable]])
    for one in [*unreadable, readable]:
        model.forget(one)

    assert [one.drafts for one in unreadable] == [[], [], []]
    assert readable.drafts
