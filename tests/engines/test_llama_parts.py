"""The engine's pure parts: dividing a step, text from bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.event import Finish, Text
from hybrid_router.engines.llama.schedule import Pace, catch_up, divided, in_line
from hybrid_router.engines.llama.sequence import Sequence
from hybrid_router.engines.llama.voice import TextStream, Voice
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.task import TaskRefused


@dataclass
class Asking:
    """Somebody's prompt, so many tokens of which are missing, or an answer that is being written."""

    principal: str
    missing_count: int
    decoding: bool = False


PROMPTS = st.lists(st.builds(Asking, st.sampled_from("abc"), st.integers(1, 500)), min_size=1, max_size=8)


@given(PROMPTS, st.integers(1, 600))
def test_a_step_is_given_out_whole_and_to_everybody(prompts: list[Asking], chunk: int) -> None:
    """No token of it is wasted while one is missing; principals get equal parts of what they need."""
    counts = divided(prompts, chunk)

    missing_count = sum(prompt.missing_count for prompt in prompts)
    assert sum(counts) == min(chunk, missing_count)
    assert all(0 <= count <= prompt.missing_count for count, prompt in zip(counts, prompts, strict=True))
    got: Counter[str] = Counter()
    needs: Counter[str] = Counter()
    for count, prompt in zip(counts, prompts, strict=True):
        got[prompt.principal] += count
        needs[prompt.principal] += prompt.missing_count
    hungry = [name for name in needs if got[name] < needs[name]]
    assert all(got[name] >= max(got.values()) - 1 for name in hungry)


def test_one_principals_prompts_keep_their_order() -> None:
    """The first has its first token first."""
    assert divided([Asking("a", 100), Asking("a", 100)], 120) == [100, 20]


def test_who_runs_least_is_next() -> None:
    """A principal that floods the queue waits behind one that asks once."""
    flood = [Asking("a", 1) for _ in range(4)]
    one = Asking("b", 1)

    line = list(in_line([*flood, one], [Asking("a", 1, decoding=True)], Counter(a=500)))

    assert line[0] is one
    assert line[1:] == flood


def test_who_comes_back_is_served_as_the_least_of_those_there() -> None:
    """Not before them until he has had what they had all day; nor does he gain by coming again."""
    served = Counter(a=900, b=500)
    catch_up("late", [Asking("a", 1), Asking("b", 1)], served)
    catch_up("b", [Asking("a", 1), Asking("b", 1)], served)
    catch_up("alone", [], served)

    assert served == Counter(a=900, b=500, late=500)


def test_of_two_that_run_nothing_the_one_served_less_is_next() -> None:
    """Also over time."""
    much, little = Asking("a", 1), Asking("b", 1)

    assert list(in_line([much, little], [], Counter(a=9, b=3))) == [little, much]


@given(st.floats(1e-4, 0.2), st.floats(1e-5, 0.05), st.integers(1, 16), st.integers(64, 512))
def test_a_prompt_slows_answers_by_a_bounded_factor(
    quiet_s: float, token_s: float, writers_count: int, most: int
) -> None:
    """Whatever the machine: a step with a prompt takes at most 2.8 times as long, or four tokens more."""
    pace = Pace({})
    pace.note(quiet_s, writers_count, 0)
    pace.note(quiet_s + 64 * token_s, writers_count, 64)

    count = pace.prompt_tokens(writers_count, most)

    assert 4 <= count <= max(4, most)
    assert count == 4 or quiet_s + count * token_s <= 2.8 * quiet_s * 1.001


def test_what_a_prompt_costs_beside_others_says_nothing_of_it_alone() -> None:
    """Pieces beside writers are small and dear for each token: alone, the next prompt gets large ones."""
    pace = Pace({})
    pace.note(1.0, 0, 200)
    for _ in range(20):
        pace.note(0.06, 8, 0)
        pace.note(0.16, 8, 4)

    assert pace.prompt_tokens(0, 256) == 200
    assert pace.prompt_tokens(8, 256) == 4


def test_one_odd_step_changes_little() -> None:
    """When another program had the machine for a moment, prompts are not slowed for long."""
    pace = Pace({})
    pace.note(0.05, 4, 0)
    pace.note(0.05 + 32 * 0.004, 4, 32)
    before = pace.prompt_tokens(4, 256)
    pace.note(5.0, 4, 32)

    assert pace.prompt_tokens(4, 256) >= before * 0.8


def sequence(prompt_count: int, *, limit: int = 10) -> Sequence:
    """A sequence whose prompt is computed.  Its sampler is never used here."""
    unused: Any = None
    return Sequence(
        task_id=1,
        index=0,
        tokens=[0] * prompt_count,
        limit_count=limit,
        sampler=unused,
        voice=Voice(0, lambda token: b"hi" if token == 7 else b""),
        computed_count=prompt_count,
    )


def test_a_chosen_token_is_the_next_to_be_computed() -> None:
    """It goes right behind the prompt."""
    running = sequence(5)
    before = running.decoding

    shown = running.take(7, None, ends=False)

    assert (before, running.decoding) == (False, True)
    assert shown == ([Text("hi")], False)
    assert running.tokens == [0, 0, 0, 0, 0, 7]


def test_the_last_allowed_token_finishes_with_length() -> None:
    """A limit of one gives one token and says why it stopped."""
    made = sequence(3, limit=1)

    assert made.take(7, None, ends=False) == ([Text("hi"), Finish("length")], True)


def test_an_end_token_is_not_text_and_not_counted() -> None:
    """Usage counts what was written."""
    made = sequence(3)

    assert made.take(2, None, ends=True) == ([Finish("stop")], True)
    assert made.generated_count == 0


@given(st.text(max_size=20), st.integers(1, 5))
def test_characters_are_never_split(text: str, size: int) -> None:
    """Whatever bytes a token holds, a delta is whole characters and none is lost."""
    stream, encoded = TextStream(()), text.encode("utf-8", "replace")

    shown = [stream.feed(encoded[at : at + size])[0] for at in range(0, len(encoded), size)]

    assert "".join(shown) + stream.flush() == encoded.decode()
    assert "\ufffd" not in "".join(shown).replace(encoded.decode(), "") or "\ufffd" in text


class Spaced:
    """A vocabulary of characters that puts a space before every text, as some are made."""

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        assert not add_special
        assert not read_special
        return [*b" ", *text.encode()]

    def piece(self, token: int) -> bytes:
        return bytes([token])


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
def test_a_beginning_gets_no_space_of_its_own(written: str) -> None:
    """Whatever the vocabulary puts in front, the tokens stand for the very bytes that are out."""
    assert bytes(tokens_of(written, Spaced())) == written.encode()


def test_a_beginning_that_cannot_be_said_is_refused() -> None:
    """Rather than that the model goes on from something else."""

    class Lower(Spaced):
        def piece(self, token: int) -> bytes:
            return bytes([token]).lower()

    with pytest.raises(TaskRefused) as refused:
        tokens_of("Hello", Lower())

    assert refused.value.code == "prefill_refused"
    assert not refused.value.by_call
