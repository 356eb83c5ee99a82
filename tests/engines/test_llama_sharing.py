"""Prompts that are computed once, on the real starter model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest

from hybrid_router.core.call import Operation, Sampling
from hybrid_router.core.event import Event, Finish, Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.schedule import Pace
from hybrid_router.engines.settings import Keeping, LlamaSettings
from hybrid_router.engines.task import Output, Task

pytestmark = pytest.mark.model

PREFIX = "The harbour town has three bridges, two mills and one very old clock tower. " * 8
GREEDY = Sampling(temperature=0, max_tokens=6)


@dataclass
class Asked:
    """An engine that is asked one task after the other, or several together."""

    engine: LlamaEngine
    events: dict[int, list[Event]] = field(default_factory=dict)
    next_id: int = 1

    def begin(self, prompt: str, *, principal: str = "local", n: int = 1, private: bool = False) -> int:
        """Hand a completion in; its id."""
        task = Task(
            id=self.next_id,
            operation=Operation.COMPLETE,
            prompts=(prompt,),
            sampling=GREEDY,
            principal=principal,
            n=n,
            private=private,
        )
        self.next_id += 1
        self.events[task.id] = []
        assert self.engine.begin(task) == []
        return task.id

    def run(self) -> None:
        """Compute until nothing is left to do."""
        while self.engine.busy:
            for answer in self.engine.step():
                assert isinstance(answer, Output), answer
                self.events[answer.id] += answer.events

    def ask(self, prompt: str, *, principal: str = "local", n: int = 1, private: bool = False) -> Usage:
        """One task alone; what it cost."""
        task_id = self.begin(prompt, principal=principal, n=n, private=private)
        self.run()
        return self.usage(task_id)

    def usage(self, task_id: int) -> Usage:
        """What a task cost."""
        last = self.events[task_id][-1]
        assert isinstance(last, Usage)
        return last

    def text(self, task_id: int, index: int = 0) -> str:
        """What a choice said."""
        return "".join(
            event.text for event in self.events[task_id] if isinstance(event, Text) and event.index == index
        )


@pytest.fixture
def asked(model_settings: LlamaSettings) -> Iterator[Asked]:
    engine = LlamaEngine(msgspec.structs.replace(model_settings, parallel=3, context=512))
    yield Asked(engine)
    engine.close()


def test_a_second_call_computes_only_what_is_new(asked: Asked) -> None:
    """And says so; its words are those it would have had anyway."""
    cold = asked.ask(PREFIX + "The mayor said:")
    warm = asked.ask(PREFIX + "The mayor said:")
    other = asked.ask(PREFIX + "A child asked:")

    assert cold.cached_tokens == 0
    assert warm.cached_tokens == warm.prompt_tokens - 1
    assert asked.text(1) == asked.text(2)
    assert other.prompt_tokens - 8 <= other.cached_tokens < other.prompt_tokens


@pytest.mark.parametrize("token_s", [None, 1.0], ids=["quick", "in small steps"])
def test_calls_that_arrive_together_wait_for_the_first(asked: Asked, token_s: float | None) -> None:
    """The prefix is computed once, also where a step computes but a few tokens of it."""
    asked.engine._pace = Pace({}, token_s, token_s)
    questions = ["The mayor said:", "A child asked:", "The clock showed"]
    ids = [asked.begin(PREFIX + question) for question in questions]
    asked.run()

    computed_count = sum(
        asked.usage(task_id).prompt_tokens - asked.usage(task_id).cached_tokens for task_id in ids
    )
    assert computed_count < asked.usage(ids[0]).prompt_tokens + 20


def test_calls_that_arrive_together_begin_together(asked: Asked) -> None:
    """Where their prompts part, a step ends: what is left of all of them is in the next."""
    ids = [asked.begin(PREFIX + question) for question in ("The mayor said:", "A child asked:", "The clock")]
    began: dict[int, int] = {}
    for step in range(100):
        for answer in asked.engine.step():
            began.setdefault(answer.id, step)
        if len(began) == len(ids):
            break

    assert len(set(began.values())) == 1


def test_a_cancelled_call_keeps_its_prefix(asked: Asked) -> None:
    """Whoever asks again does not pay again."""
    left = asked.begin(PREFIX + "The mayor said:")
    while not any(sequence.decoding for sequence in asked.engine._running):
        asked.engine.step()
    asked.engine.cancel(left)

    again = asked.ask(PREFIX + "The mayor said:")

    assert again.cached_tokens == again.prompt_tokens - 1


def test_a_follower_does_not_wait_for_one_that_left(asked: Asked) -> None:
    """It computes what is missing itself."""
    leader = asked.begin(PREFIX + "The mayor said:")
    follower = asked.begin(PREFIX + "A child asked:")
    asked.engine.step()
    asked.engine.cancel(leader)
    asked.run()

    assert [event for event in asked.events[follower] if isinstance(event, Finish)] == [Finish("length")]


def test_principals_do_not_see_each_others_prompts(asked: Asked) -> None:
    """Not even by how fast an answer comes."""
    asked.ask(PREFIX, principal="alice")

    assert asked.ask(PREFIX, principal="bob").cached_tokens == 0
    assert asked.ask(PREFIX, principal="alice").cached_tokens > 0


def test_principals_share_if_they_are_told_to(model_settings: LlamaSettings) -> None:
    """`share_prefix: everyone`."""
    engine = LlamaEngine(msgspec.structs.replace(model_settings, keeping=Keeping(everyone=True)))
    asked = Asked(engine)
    asked.ask(PREFIX, principal="alice")

    assert asked.ask(PREFIX, principal="bob").cached_tokens > 0
    engine.close()


@pytest.mark.parametrize("n", [2, 5])
def test_choices_share_their_prompt(asked: Asked, n: int) -> None:
    """Also if there are more of them than slots: it is counted and computed once."""
    alone = asked.ask(PREFIX)
    task_id = asked.begin(PREFIX, n=n)
    asked.run()

    usage = asked.usage(task_id)
    assert usage.prompt_tokens == alone.prompt_tokens
    assert usage.completion_tokens == n * alone.completion_tokens
    assert len({asked.text(task_id, index) for index in range(n)}) == 1
    assert sum(isinstance(event, Finish) for event in asked.events[task_id]) == n


def test_what_left_the_cache_comes_back_from_memory(asked: Asked) -> None:
    """More conversations than the KV cache holds: none is computed twice while there is memory for it."""
    topics = [f"Chapter {number}: {PREFIX}" for number in range(12)]
    for topic in topics:
        asked.ask(topic)
    assert asked.engine._slots.retained_count < len(topics)

    again = [asked.ask(topic) for topic in topics]

    assert all(usage.cached_tokens == usage.prompt_tokens - 1 for usage in again)


def test_calls_do_not_pass_over_the_cells_of_many_others(asked: Asked) -> None:
    """What others left is moved out of the way, and is found again where it went."""
    topics = [f"Number {number}. {PREFIX}" for number in range(6)]
    first = [asked.ask(topic, principal=topic) for topic in topics]
    held_count = asked.engine._slots.retained_count
    again = [asked.ask(topic, principal=topic) for topic in topics * 2]

    while asked.engine.idle():
        pass

    assert held_count <= 3
    assert asked.engine._slots.retained_count <= 2
    assert all(usage.cached_tokens == 0 for usage in first)
    assert all(usage.cached_tokens == usage.prompt_tokens - 1 for usage in again)
    texts = [asked.text(task_id) for task_id in range(7, 19)]
    assert texts[:6] == texts[6:]


def test_a_new_process_goes_on_where_the_old_one_ended(model_settings: LlamaSettings, tmp_path: Path) -> None:
    """With files configured, a prompt survives unload and load; a private one leaves no file."""
    keeping = Keeping(folder=str(tmp_path / "prefixes"), disk_bytes=2**30)
    settings = msgspec.structs.replace(model_settings, keeping=keeping)
    first = LlamaEngine(settings)
    asked = Asked(first)
    before = asked.ask(PREFIX)
    asked.ask("Between us: " + PREFIX, private=True)
    while first.idle():
        pass
    first.close()

    second = LlamaEngine(settings)
    asked_again = Asked(second)
    after = asked_again.ask(PREFIX)
    private = asked_again.ask("Between us: " + PREFIX)
    second.close()

    assert before.cached_tokens == 0
    assert after.cached_tokens == after.prompt_tokens - 1
    assert asked_again.text(1) == asked.text(1)
    assert private.cached_tokens == 0


def test_a_private_call_keeps_nobody_elses_prompt_from_the_disk(
    model_settings: LlamaSettings, tmp_path: Path
) -> None:
    """Though it has the same beginning, which need not be kept twice in the KV cache."""
    keeping = Keeping(folder=str(tmp_path / "prefixes"), disk_bytes=2**30)
    settings = msgspec.structs.replace(model_settings, keeping=keeping)
    first = LlamaEngine(settings)
    asked = Asked(first)
    asked.ask(PREFIX)
    asked.ask(PREFIX + "Between us:", private=True)
    first.close()

    second = LlamaEngine(settings)
    after = Asked(second).ask(PREFIX)
    second.close()

    assert after.cached_tokens == after.prompt_tokens - 1


def test_nothing_is_lost_over_many_cancelled_calls(asked: Asked) -> None:
    """Every slot and every sequence is accounted for, whoever leaves when."""
    for number in range(60):
        one = asked.begin(f"{number % 7} {PREFIX[: 40 * (number % 9 + 1)]}", n=1 + number % 3)
        for _ in range(number % 5):
            asked.engine.step()
        if number % 2:
            asked.engine.cancel(one)
    asked.run()

    slots = asked.engine._slots
    assert slots.free_count == 3
    assert len(slots._free) + slots.retained_count == asked.engine._context.sequences_count
    assert not asked.engine._running
    assert not asked.engine._ongoing
