"""Guessing ahead: what is looked up, which models may draft, and what room that takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import LAYERS_COUNT, VOCABULARY_COUNT, WIDTH, write

from hybrid_router.core.call import Operation, Sampling
from hybrid_router.core.event import Text, Usage
from hybrid_router.engines.llama import gguf, opening
from hybrid_router.engines.llama.drafting.drafter import Drafter
from hybrid_router.engines.llama.drafting.kinship import check_kin
from hybrid_router.engines.llama.drafting.lookup import looked_up
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.fit import Device, Fit, Machine, draft_cell_bytes, fit
from hybrid_router.engines.llama.outline import outline
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import Drafting, LlamaSettings, Offload
from hybrid_router.engines.task import EngineFailed, Output, Task

GIB = 2**30
CELL_BYTES = LAYERS_COUNT * 2 * 2 * WIDTH // 2  # keys and values of half the width, two bytes a number
KINDS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]


class Recurrent(Weights):
    """A model whose memory cannot be cut."""

    @property
    def whole_only(self) -> bool:
        return True


def tiny(path: Path, **changed: Any) -> LlamaSettings:
    return LlamaSettings(
        path=str(write(path, **changed)), context=64, parallel=2, threads=1, prefill_chunk=16
    )


def drafting(settings: LlamaSettings, path: Path, **changed: Any) -> LlamaSettings:
    """`settings` with a tiny draft model."""
    draft = Drafting(most_tokens=4, model_path=str(write(path, **changed)))
    return msgspec.structs.replace(settings, drafting=draft)


PROMPTS = ("aab", "b aba b", "what a day")


def answers(settings: LlamaSettings, *prompts: str) -> tuple[list[str], list[Usage]]:
    """What all of them together say, and what it cost."""
    engine = LlamaEngine(settings)
    said, usages = dict.fromkeys(range(len(prompts)), ""), []
    for at, prompt in enumerate(prompts):
        sampling = Sampling(temperature=0, max_tokens=40, ignore_eos=True)
        engine.begin(Task(id=at, operation=Operation.COMPLETE, prompts=(prompt,), sampling=sampling))
    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output), answer
            said[answer.id] += "".join(event.text for event in answer.events if isinstance(event, Text))
            usages += [event for event in answer.events if isinstance(event, Usage)]
    engine.close()
    return list(said.values()), usages


def test_looking_up_finds_what_followed_last_time() -> None:
    """The latest place, the longest run; nothing where nothing repeats."""
    assert looked_up([1, 2, 3, 4, 9, 8, 7, 1, 2, 3, 4], 2) == [9, 8]
    assert looked_up([1, 2, 5, 5, 1, 2, 6, 6, 1, 2], 2) == [6, 6]
    assert looked_up([1, 2, 3, 4, 5, 6], 2) == []
    assert looked_up([300, 1, 2, 7, 256, 1, 2], 0) == []


@given(st.lists(st.integers(0, 3), max_size=60), st.integers(0, 8))
def test_what_is_looked_up_was_said(tokens: list[int], most_count: int) -> None:
    """For any tokens: no more than is wanted, and it stood behind the last two tokens before."""
    guesses = looked_up(tokens, most_count)

    assert len(guesses) <= max(0, most_count)
    if guesses:
        wanted = [*tokens[-2:], *guesses]
        assert any(tokens[at : at + len(wanted)] == wanted for at in range(len(tokens) - 2))


def test_another_vocabulary_is_named(tmp_path: Path) -> None:
    """Both files, the first token that differs, and what to do."""
    settings = drafting(
        tiny(tmp_path / "large.gguf"),
        tmp_path / "small.gguf",
        tokenizer__ggml__tokens=[*KINDS, "▁", "b", "▁a"],
    )

    with pytest.raises(EngineFailed) as failed:
        LlamaEngine(settings)

    said = str(failed.value)
    assert "small.gguf: cannot draft for" in said
    assert "large.gguf: token 260 is 'b', the model's is 'a'" in said
    assert "choose `drafting.weights` of the same family" in said


def test_another_kind_of_vocabulary_is_named(tmp_path: Path) -> None:
    """The same numbers mean other things then."""
    settings = drafting(
        tiny(tmp_path / "large.gguf"),
        tmp_path / "small.gguf",
        tokenizer__ggml__model="gpt2",
        tokenizer__ggml__pre="gpt-2",
        tokenizer__ggml__merges=["a a"],
    )

    with pytest.raises(EngineFailed, match="vocabularies are of different kinds"):
        LlamaEngine(settings)


def test_a_larger_vocabulary_may_draft(tmp_path: Path) -> None:
    """Families pad theirs differently: what counts is what both have."""
    models = [
        Weights(str(write(tmp_path / f"{count}.gguf", tokenizer__ggml__tokens=tokens)), Offload())
        for count, tokens in enumerate([[*KINDS, "▁", "a", "▁a"], [*KINDS, "▁", "a", "▁a"]])
    ]

    check_kin(*models)

    assert models[0].vocabulary_count == VOCABULARY_COUNT
    for model in models:
        model.close()


def test_a_memory_that_cannot_be_cut_is_refused(tmp_path: Path) -> None:
    """As a draft model, and as the model it should draft for: wrong guesses would stay in it."""
    settings = drafting(tiny(tmp_path / "large.gguf"), tmp_path / "small.gguf")
    large, small = Weights(settings.path, Offload()), Recurrent(str(tmp_path / "small.gguf"), Offload())
    found = Fit(64, 2, 0, 0)

    with pytest.raises(EngineFailed, match=r"small\.gguf: cannot draft for .*large\.gguf: wrong guesses"):
        check_kin(small, large)
    with pytest.raises(EngineFailed, match=r"small\.gguf: cannot use `drafting.weights`.* leave it out"):
        Drafter(msgspec.structs.replace(settings, path=small.path), small, found)
    assert Drafter(tiny(tmp_path / "alone.gguf"), small, found).most_count == 0
    large.close()
    small.close()


def test_a_draft_that_is_no_model_is_named(tmp_path: Path) -> None:
    """Before anything is opened."""
    settings = drafting(tiny(tmp_path / "large.gguf"), tmp_path / "small.gguf", general__type="adapter")

    with pytest.raises(EngineFailed, match=r"small\.gguf: a LoRA adapter, not a model"):
        opening.fitted(settings)


def test_the_cells_of_a_draft_model_take_room(tmp_path: Path) -> None:
    """In memory fewer calls at a time fit beside it, on a GPU fewer layers, and too much is refused."""
    settings = msgspec.structs.replace(tiny(tmp_path / "m.gguf"), parallel=None, threads=8)
    model, alone = opening.fitted(settings)
    assert alone.parallel == 8
    each_bytes = CELL_BYTES * alone.context
    there = Machine(free_bytes=model.size_bytes + 16 * each_bytes)

    assert fit(settings, model, there).parallel == 8
    assert fit(settings, model, there, beside_cell_bytes=CELL_BYTES).parallel == 4
    full = msgspec.structs.replace(settings, parallel=64)
    with pytest.raises(EngineFailed, match="the KV cache of 64 × 64 tokens"):
        fit(full, model, Machine(free_bytes=64 * each_bytes), beside_cell_bytes=CELL_BYTES)

    gpu = Machine(8 * GIB, devices=(Device("gpu", GIB),))
    auto = msgspec.structs.replace(settings, parallel=2, offload=Offload(layers=None))
    assert fit(auto, model, gpu).gpu_layers == LAYERS_COUNT + 1
    assert fit(auto, model, gpu, beside_cell_bytes=GIB // 128).gpu_layers == 0


def test_exact_arithmetic_gives_exact_answers(tmp_path: Path) -> None:
    """Weights and cells of 32 bits know no near-ties: every answer is the same to its last token, with a
    draft that is right, with one that is sometimes wrong, and alone or beside others."""
    exact = msgspec.structs.replace(tiny(tmp_path / "m.gguf"), key_type="f32", value_type="f32")
    plain = [tokens for prompt in PROMPTS for tokens in answers(exact, prompt)[0]]
    counts = []
    for name, base in (("right", 10000.0), ("wrong", 20.0)):
        settings = drafting(exact, tmp_path / f"{name}.gguf", llama__rope__freq_base=base)
        alone = [answers(settings, prompt) for prompt in PROMPTS]
        assert [said for (said,), _ in alone] == plain
        assert answers(settings, *PROMPTS)[0] == plain
        counts += [(usage.drafted_tokens, usage.accepted_tokens) for _, (usage,) in alone]

    assert sum(accepted for _, accepted in counts) > 0


def test_a_draft_is_counted_with_its_cells(tmp_path: Path) -> None:
    """Two bytes a number, of every layer."""
    path = str(write(tmp_path / "m.gguf"))

    assert draft_cell_bytes(outline(path, gguf.read(path))) == CELL_BYTES
