"""Models that remember in other ways: recurrent ones, hybrids, and those with sliding windows.

Reuse changes nothing: each text is compared with that of an engine which computed the whole prompt.  Numbers
are kept in full, so that no text depends on the order of additions.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import tiny_kinds
from msgspec.structs import replace

from hybrid_router.core.call import Operation, Sampling
from hybrid_router.core.event import Event, Text, Usage
from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.context import Entry
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.outline import outline
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.settings import Keeping, LlamaSettings
from hybrid_router.engines.task import Output, Task

KINDS = ("mamba", "jamba", "gemma3")
WHOLE_ONLY = frozenset({"mamba", "jamba"})
LETTERS = tuple(range(tiny_kinds.TOKENS.index("▁a"), tiny_kinds.TOKENS.index(tiny_kinds.MARKS[0])))
Tokens = tuple[int, ...]


def text(count: int, seed: int) -> Tokens:
    """So many tokens, of which any two such texts have only the first in common."""
    numbers = random.Random(seed)  # noqa: S311 - to be the same each time
    return (1, *(numbers.choice(LETTERS) for _ in range(count - 1)))


def shown(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


@dataclass
class Told:
    """A task at work: what it was asked, its choices, what it said."""

    prompt: Tokens
    sequences: list[Sequence]
    events: list[Event] = field(default_factory=list)

    @property
    def usage(self) -> Usage:
        last = self.events[-1]
        assert isinstance(last, Usage)
        return last

    @property
    def whole(self) -> Tokens:
        """The prompt, and the answer but for its last token."""
        return tuple(self.sequences[0].tokens)


@dataclass
class Model:
    """One kind's file and engine, and what an engine says that has computed nothing else."""

    kind: str
    settings: LlamaSettings
    alone: dict[tuple[str, Tokens, int], str]
    engine: LlamaEngine = field(init=False)
    tasks: dict[int, Told] = field(default_factory=dict)
    compared_count: int = 0

    def __post_init__(self) -> None:
        self.engine = LlamaEngine(self.settings)

    def reopen(self, **changed: object) -> None:
        """Close the engine, and open another."""
        self.engine.close()
        self.settings = replace(self.settings, **changed)
        self.engine = LlamaEngine(self.settings)

    def begin(self, prompt: Tokens, n: int = 1, answer_count: int = 6, private: bool = False) -> int:
        """Hand a completion in."""
        task = Task(
            id=len(self.tasks),
            operation=Operation.COMPLETE,
            prompts=(prompt,),
            sampling=Sampling(temperature=0, max_tokens=answer_count),
            n=n,
            private=private,
        )
        assert self.engine.begin(task) == []
        self.tasks[task.id] = Told(prompt, list(self.engine._ongoing[task.id].sequences))
        return task.id

    def step(self) -> None:
        """Compute once; what is over is compared."""
        for answer in self.engine.step():
            assert isinstance(answer, Output), answer
            told = self.tasks[answer.id]
            told.events += answer.events
            if answer.last:
                self.compare(told)

    def run(self) -> None:
        """Compute until nothing is left to do."""
        while self.engine.busy:
            self.step()

    def ask(self, prompt: Tokens, n: int = 1, answer_count: int = 6, private: bool = False) -> Told:
        """One task alone."""
        task_id = self.begin(prompt, n, answer_count, private)
        self.run()
        return self.tasks[task_id]

    def compare(self, told: Told) -> None:
        """Every choice reads as if nothing had been reused."""
        count = max(sequence.generated_count for sequence in told.sequences)
        for index in range(len(told.sequences)):
            assert shown(told.events, index) == self.fresh(told.prompt, count)
            self.compared_count += 1

    def fresh(self, prompt: Tokens, answer_count: int) -> str:
        """What an engine says that has done nothing before."""
        asked = (self.kind, prompt, answer_count)
        if asked not in self.alone:
            engine = LlamaEngine(replace(self.settings, keeping=Keeping(ram_bytes=0)))
            sampling = Sampling(temperature=0, max_tokens=answer_count)
            engine.begin(Task(id=1, operation=Operation.COMPLETE, prompts=(prompt,), sampling=sampling))
            said: list[Event] = []
            while engine.busy:
                for answer in engine.step():
                    assert isinstance(answer, Output)
                    said += answer.events
            engine.close()
            self.alone[asked] = shown(said)
        return self.alone[asked]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kinds")


@pytest.fixture(scope="module")
def alone() -> dict[tuple[str, Tokens, int], str]:
    return {}


@pytest.fixture(params=KINDS)
def model(
    folder: Path, alone: dict[tuple[str, Tokens, int], str], request: pytest.FixtureRequest
) -> Iterator[Model]:
    path = tiny_kinds.write(folder, request.param)
    settings = LlamaSettings(
        path=str(path),
        context=256,
        parallel=3,
        threads=1,
        prefill_chunk=32,
        flash_attention="off",
        key_type="f32",
        value_type="f32",
    )
    opened = Model(request.param, settings, alone)
    yield opened
    opened.engine.close()


def test_the_library_says_what_a_model_is(model: Model) -> None:
    """Not its name: whether memory can be shared in part, and how far its layers look back."""
    weights = model.engine._weights

    assert weights.whole_only == (model.kind in WHOLE_ONLY)
    assert weights.window == (tiny_kinds.WINDOW if model.kind == "gemma3" else 0)


def test_what_a_sequence_takes_is_known_before(model: Model) -> None:
    """From the header alone: no less than the library's own copy of it, but for its few words of length."""
    model.ask(text(100, 1), answer_count=1)
    context, found = model.engine._context, outline(model.settings.path, gguf.read(model.settings.path))
    (slot,) = (slot for slot, kept in model.engine._slots._retained.items() if len(kept.tokens) == 100)
    numbers_count = sum(key + value for key, value in found.cells)

    taken_bytes = 4 * 100 * numbers_count + found.state_bytes

    assert bool(found.state_bytes) == (model.kind in WHOLE_ONLY)
    assert len(context.state(slot)) <= taken_bytes + 100 * 24 + 512


def test_calls_together_read_as_if_alone(model: Model) -> None:
    """More of them than slots, prompts longer and shorter than a step."""
    for number in range(7):
        model.begin(text(10 + 20 * number, number))
    model.run()

    assert model.compared_count == 7


def test_a_second_turn_computes_only_what_is_new(model: Model) -> None:
    """A prompt that begins with the one before and its answer."""
    first = model.ask(text(70, 1))
    second = model.ask(first.whole + text(20, 2))
    third = model.ask(second.whole + text(20, 3))

    assert second.usage.cached_tokens >= len(first.whole)
    assert third.usage.cached_tokens >= len(second.whole)


def test_choices_are_forked_from_one_prompt(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is computed once for all of them, whatever kind of memory it is in."""
    computed: list[Entry] = []
    context = model.engine._context
    decode = context.decode

    def counted(entries: list[Entry]) -> None:
        computed.extend(entries)
        decode(entries)

    monkeypatch.setattr(context, "decode", counted)
    model.ask(text(70, 1), n=2)

    assert sum(position < 70 for _, position, _, _ in computed) == 70


def test_an_answer_is_written_anew(model: Model) -> None:
    """The same prompt again, or with another end than the answer that was kept."""
    first = model.ask(text(70, 1))
    again = model.ask(text(70, 1))
    other = model.ask(text(70, 1) + text(30, 2))

    assert again.usage.cached_tokens >= 60
    assert other.usage.cached_tokens >= 60
    assert shown(again.events) == shown(first.events)


def test_a_prompt_that_turns_off_early_is_computed(model: Model) -> None:
    """What cannot be shared in part is not shared at all; the rest is, and either is right."""
    model.ask(text(90, 1))

    other = model.ask(text(90, 1)[:60] + text(30, 2))

    assert other.usage.cached_tokens == (0 if model.kind in WHOLE_ONLY else 60)


@pytest.mark.parametrize("n", [2, 5])
def test_choices_share_their_prompt(model: Model, n: int) -> None:
    """Also where there are more of them than slots, and others are writing."""
    model.begin(text(50, 9), answer_count=20)
    model.begin(text(70, 1), n=n)
    model.run()

    assert model.compared_count == 1 + n


def test_a_cancelled_call_leaves_no_trace(model: Model) -> None:
    """Neither in its prompt nor in its answer; whoever asks again gets the same words."""
    for steps_count in (1, 3, 6):
        left = model.begin(text(90, 1))
        neighbour = model.begin(text(20, steps_count))
        for _ in range(steps_count):
            model.step()
        model.engine.cancel(left)
        model.run()
        assert model.tasks[neighbour].usage
        model.ask(text(90, 1))

    slots = model.engine._slots
    assert slots.free_count == 3
    assert len(slots._free) + slots.retained_count == model.engine._context.sequences_count


def test_what_left_the_cache_comes_back(model: Model) -> None:
    """More conversations than there are cells and sequences for."""
    asked = [model.ask(text(100, number)) for number in range(16)]
    assert model.engine._slots.retained_count < len(asked)

    again = [model.ask(told.whole + text(10, 99)) for told in asked]

    assert all(after.usage.cached_tokens >= 90 for after in again)


def test_a_new_process_goes_on(model: Model, tmp_path: Path) -> None:
    """From files; of a private call there is none."""
    model.reopen(keeping=Keeping(folder=str(tmp_path), disk_bytes=2**24))
    first = model.ask(text(70, 1))
    private = model.ask(text(80, 2), private=True)
    model.reopen()

    assert model.ask(first.whole + text(20, 3)).usage.cached_tokens >= len(first.whole)
    assert model.ask(private.whole + text(20, 3)).usage.cached_tokens < 32


def test_whatever_happened_before_texts_are_the_same(model: Model, tmp_path: Path) -> None:
    """Turns, branches, repetitions, choices, cancellations, evictions and restarts in any order."""
    model.reopen(keeping=Keeping(folder=str(tmp_path), disk_bytes=2**24, ram_bytes=200_000))
    numbers = random.Random(5)  # noqa: S311 - likewise
    for number in range(60):
        over = [told for told in model.tasks.values() if told.events]
        prompt = text(numbers.choice((6, 40, 90)), number)
        if over and numbers.random() < 0.75:
            told = numbers.choice(over)
            begun = numbers.choice(
                (told.whole, told.prompt, told.prompt[: numbers.randint(1, len(told.prompt))])
            )
            prompt = (begun + prompt[1 : numbers.choice((1, 4, 31))])[:200]
        model.begin(prompt, n=numbers.choice((1, 1, 1, 2, 5)), answer_count=numbers.choice((1, 4, 10)))
        for _ in range(numbers.randint(0, 6)):
            if model.engine.busy:
                model.step()
        if not number % 11:
            model.engine.cancel(number)
        if number == 30:
            model.run()
            model.reopen()
    model.run()

    assert model.compared_count > 60
