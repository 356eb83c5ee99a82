"""Texts with a gap, and prompts at the context's end, on a tiny model whose vocabulary has the tokens."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_kinds
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from hybrid_router.core.call import Feature, Operation, Sampling
from hybrid_router.core.event import Event, Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.prompts import around_gap
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Output, Refused, Task

BOS = 1
BEFORE, BEHIND, GAP = (tiny_kinds.TOKENS.index(mark) for mark in tiny_kinds.MARKS)


def opened(folder: Path, **keys: object) -> LlamaEngine:
    path = tiny_kinds.write(folder, "gemma3", **keys)
    settings = LlamaSettings(path=str(path), context=128, parallel=1, threads=1, prefill_chunk=128)
    return LlamaEngine(settings)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    engine = opened(
        tmp_path_factory.mktemp("infill"),
        tokenizer__ggml__fim_pre_token_id=BEFORE,
        tokenizer__ggml__fim_suf_token_id=BEHIND,
        tokenizer__ggml__fim_mid_token_id=GAP,
    )
    yield engine
    engine.close()


def asked(prompt: str | tuple[int, ...], suffix: str | None, truncate: str | None = None) -> Task:
    return Task(
        id=1,
        operation=Operation.COMPLETE,
        prompts=(prompt,),
        suffix=suffix,
        truncate=truncate,
        sampling=Sampling(temperature=0, max_tokens=12),
    )


def said(engine: LlamaEngine, task: Task) -> tuple[str, int]:
    """What an answer is, and how many tokens its prompt has."""
    assert engine.begin(task) == []
    events: list[Event] = []
    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output), answer
            events += answer.events
    assert isinstance(events[-1], Usage)
    return "".join(event.text for event in events if isinstance(event, Text)), events[-1].prompt_tokens


def refused(engine: LlamaEngine, task: Task) -> Refused:
    (answer,) = engine.begin(task)
    assert isinstance(answer, Refused)
    return answer


def words(engine: LlamaEngine, text: str) -> list[int]:
    return engine._weights.tokenize(text, add_special=False, read_special=False)


def test_the_gap_comes_last(engine: LlamaEngine) -> None:
    """What begins every text, then the prefix, the suffix and the gap, each behind its mark."""
    tokens = (
        BOS, BEFORE, *words(engine, "the harbour"), BEHIND, *words(engine, "and a mill"), GAP
    )  # fmt: skip

    assert Feature.INFILL in engine.opened().can
    assert said(engine, asked("the harbour", "and a mill")) == said(engine, asked(tokens, None))


def test_the_order_matters(engine: LlamaEngine) -> None:
    """So that the test above could fail: the suffix is not read as the prefix is."""
    assert said(engine, asked("the harbour", "and a mill")) != said(
        engine, asked("and a mill", "the harbour")
    )


def test_token_ids_may_stand_before_the_gap(engine: LlamaEngine) -> None:
    """They read as their text does."""
    ids = tuple(words(engine, "the harbour"))

    assert said(engine, asked(ids, "and a mill")) == said(engine, asked("the harbour", "and a mill"))


def test_marks_in_the_text_are_words(engine: LlamaEngine) -> None:
    """Code about such models cannot move the gap."""
    marks = "".join(tiny_kinds.MARKS)
    before, behind = words(engine, f"a{marks}b"), words(engine, f"c{marks}d")

    answer = said(engine, asked(f"a{marks}b", f"c{marks}d"))

    assert not {BEFORE, BEHIND, GAP} & {*before, *behind}
    assert answer == said(engine, asked((BOS, BEFORE, *before, BEHIND, *behind, GAP), None))


def test_too_long_a_text_around_the_gap_is_refused(engine: LlamaEngine) -> None:
    """By name, so that a larger context may take it: nothing near the gap is left out unseen."""
    answer = refused(engine, asked("word " * 40, "more " * 40))

    assert (answer.code, answer.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("truncate", ["oldest", "middle"])
def test_what_is_nearest_to_the_gap_stays(engine: LlamaEngine, truncate: str) -> None:
    """Where `truncate` allows it, the prefix loses its beginning and the suffix its end, and the prompt with
    the answer that is wanted fills the context."""
    before, behind = words(engine, "word " * 80), words(engine, "more " * 80)
    room = 128 - 12 - 4  # the answer; what begins every text, and three marks
    kept = (BOS, BEFORE, *before[-(room - room // 4) :], BEHIND, *behind[: room // 4], GAP)

    answer = said(engine, asked("word " * 80, "more " * 80, truncate))

    assert min(len(before), len(behind)) > room
    assert answer == said(engine, asked(kept, None))
    assert answer[1] == 128 - 12


@given(st.integers(0, 9), st.integers(0, 9), st.integers(0, 20))
def test_the_room_around_a_gap_is_used(ahead_count: int, after_count: int, room: int) -> None:
    """Nothing is left out while there is room for it; what is kept lies at the gap."""
    ahead, after = list(range(ahead_count)), list(range(after_count))

    left, right = around_gap(ahead, after, room)

    assert len(left) + len(right) == min(room, ahead_count + after_count)
    assert left == ahead[ahead_count - len(left) :]
    assert right == after[: len(right)]


@pytest.mark.parametrize(("count", "fits"), [(127, True), (128, True), (129, False)])
def test_a_prompt_that_is_only_scored_may_fill_the_context(
    engine: LlamaEngine, count: int, fits: bool
) -> None:
    """Nothing follows it, so it needs no room behind; with `truncate` it is cut to all that there is."""
    tokens = (BOS, *(words(engine, "the harbour") * count)[: count - 1])
    only = structs.replace(asked(tokens, None), sampling=Sampling(max_tokens=0), echo=True, top_logprobs=0)

    if fits:
        assert said(engine, only) == ("", count)
    else:
        assert refused(engine, only).code == "context_length_exceeded"
        assert said(engine, structs.replace(only, truncate="oldest")) == ("", 128)


def test_a_prompt_at_fault_is_named(engine: LlamaEngine) -> None:
    """None at all, and tokens that the model does not have, point at the field."""
    for tokens in ((), (1, 10**6)):
        answer = refused(engine, asked(tokens, None))
        assert (answer.code, answer.by_call, answer.param) == ("invalid_request_error", True, "prompt")


def test_a_model_without_the_tokens_says_so(tmp_path: Path) -> None:
    """And what to do; one mark of three is none."""
    engine = opened(tmp_path, tokenizer__ggml__fim_pre_token_id=BEFORE)

    answer = refused(engine, asked("a", "b"))

    assert Feature.INFILL not in engine.opened().can
    assert (answer.code, answer.by_call) == ("unsupported_parameter", True)
    assert "no fill-in-the-middle tokens" in answer.message
    engine.close()
