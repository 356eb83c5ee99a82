"""What a model is estimated to take, and what it is seen to take."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_gguf
from msgspec.structs import replace

from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.engines.needs import needed
from hybrid_router.engines.settings import (
    Drafting,
    EncoderSettings,
    LlamaSettings,
    Offload,
    PainterSettings,
    WhisperSettings,
)
from hybrid_router.workers.memory import Machine
from hybrid_router.workers.worker import Worker

MIB = 2**20
ROOM = Space(64 * 2**30)


def llama(path: Path, **changed: object) -> LlamaSettings:
    settings = LlamaSettings(path=str(path), context=64, parallel=2, threads=1, prefill_chunk=64)
    return replace(settings, **changed)


def ram(settings: LlamaSettings, room: Space = ROOM) -> int:
    return needed(settings, room=room, gpus=False).ram_bytes


def test_a_context_costs_its_cells(tmp_path: Path) -> None:
    """Of each of two sequences: two layers of 2 × 16 numbers in two bytes for each token."""
    path = tiny_gguf.write(tmp_path / "m.gguf", llama__context_length=1 << 20)
    grown = ram(llama(path, context=4096)) - ram(llama(path, context=1024))

    assert grown == 2 * (4096 - 1024) * 2 * 32 * 2


def test_files_beside_the_model_count(tmp_path: Path) -> None:
    """A projector as much as it is long."""
    path, beside = tiny_gguf.write(tmp_path / "m.gguf"), tmp_path / "p.gguf"
    beside.write_bytes(bytes(5 * MIB))

    assert ram(llama(path, projector_path=str(beside))) - ram(llama(path)) == 5 * MIB


def test_a_draft_model_counts_with_what_it_keeps(tmp_path: Path) -> None:
    """Its file, what it computes in, and its cells of every sequence, as far as its own context goes."""
    path = tiny_gguf.write(tmp_path / "m.gguf", llama__context_length=4096)
    draft = tiny_gguf.write(tmp_path / "d.gguf", llama__context_length=1024)
    computing = 512 * 4 * (tiny_gguf.VOCABULARY_COUNT + 16 * tiny_gguf.WIDTH)
    alone = llama(path, context=4096)
    drafting = replace(alone, drafting=Drafting(most_tokens=4, model_path=str(draft)))

    cells_bytes = 2 * 1024 * 2 * 32 * 2  # of two sequences, two layers, 2 × 16 numbers in two bytes
    assert ram(drafting) - ram(alone) == draft.stat().st_size + computing + cells_bytes


def test_a_draft_model_leaves_room_for_fewer_calls(tmp_path: Path) -> None:
    """The calls at a time are estimated as the engine will decide on them: with the draft model's cells."""
    path = tiny_gguf.write(tmp_path / "m.gguf", llama__context_length=1 << 20)
    alone = llama(path, context=1 << 20, parallel=None, threads=8)
    drafting = replace(alone, drafting=Drafting(most_tokens=4, model_path=str(path)))
    cells_bytes = (1 << 20) * 2 * 32 * 2  # of one sequence
    room = Space(16 * cells_bytes + 8 * MIB)

    # Eight calls, or four with the cells of both models, are what half of this room has place for.
    assert ram(drafting, room) - ram(alone, room) < cells_bytes


def test_what_the_engine_would_refuse_is_estimated_all_the_same(tmp_path: Path) -> None:
    """So that the reason can say both numbers."""
    path = tiny_gguf.write(tmp_path / "m.gguf", llama__context_length=1 << 20)

    assert ram(llama(path, context=1 << 20), Space(64 * MIB)) > 256 * MIB


def test_a_file_that_is_no_model_takes_nothing(tmp_path: Path) -> None:
    """Its engine says what is wrong with it."""
    path = tmp_path / "m.gguf"
    path.write_bytes(b"not a model")

    assert needed(llama(path), room=UNLIMITED, gpus=False) == Space()
    assert needed(WhisperSettings(path=str(tmp_path / "none")), room=UNLIMITED, gpus=False) == Space()


def test_a_folder_counts_by_its_weights(tmp_path: Path) -> None:
    """Of several formats of the same weights one is loaded; pictures' are widened on a CPU."""
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "model.safetensors").write_bytes(bytes(3 * MIB))
    (tmp_path / "model.safetensors").write_bytes(bytes(MIB))
    (tmp_path / "pytorch_model.bin").write_bytes(bytes(2 * MIB))
    (tmp_path / "README.md").write_bytes(bytes(9 * MIB))
    empty = tmp_path / "empty"
    empty.mkdir()

    for settings, weights_bytes in (
        (EncoderSettings(path=str(tmp_path)), 4 * MIB),
        (PainterSettings(path=str(tmp_path)), 8 * MIB),
    ):
        libraries = needed(replace(settings, path=str(empty)), room=ROOM, gpus=False)
        assert needed(settings, room=ROOM, gpus=False) == libraries + Space(weights_bytes)


def test_what_runs_on_gpus_takes_their_memory(tmp_path: Path) -> None:
    """Where there are any, and the model is not told to stay off them."""
    path = tiny_gguf.write(tmp_path / "m.gguf")

    assert needed(llama(path, offload=Offload(layers=None)), room=ROOM, gpus=True).vram_bytes > 0
    assert needed(llama(path, offload=Offload(layers=0)), room=ROOM, gpus=True).vram_bytes == 0
    assert needed(llama(path, offload=Offload(layers=None)), room=ROOM, gpus=False).vram_bytes == 0


@pytest.mark.model
@pytest.mark.parametrize("drafted", [False, True])
async def test_the_estimate_is_on_the_safe_side(model_settings: LlamaSettings, drafted: bool) -> None:
    """Of the starter model, alone and with a draft model: not less than its process has once it is open, and
    not twice that."""
    if drafted:
        drafting = Drafting(most_tokens=4, model_path=model_settings.path)
        model_settings = replace(model_settings, drafting=drafting)
    worker = Worker(model_settings)
    worker.start(load=True)
    try:
        await worker.child()
        assert worker.pid is not None
        taken = Machine().taken(worker.pid)
    finally:
        await worker.close()

    assert taken is not None
    estimated = needed(model_settings, room=ROOM, gpus=False).ram_bytes
    assert taken.all.ram_bytes <= estimated <= 2 * taken.all.ram_bytes
