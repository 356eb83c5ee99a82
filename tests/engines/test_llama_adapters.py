"""LoRA adapters, on the real starter model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest

from hybrid_router.core.call import Adapter, Operation, Sampling
from hybrid_router.core.event import Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.settings import AdapterFile, LlamaSettings
from hybrid_router.engines.task import EngineFailed, Output, Refused, Task

pytestmark = pytest.mark.model
WIDTH, RANK = 576, 4
PROMPT = "The capital of France is"


def adapter_file(path: Path, seed: int, width: int = WIDTH) -> Path:
    """A LoRA of random numbers for one matrix of the starter model."""
    numbers = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(RANK))
    for name, shape in (("lora_a", (RANK, width)), ("lora_b", (width, RANK))):
        values = numbers.normal(0, 0.5, shape).astype(np.float32)
        writer.add_tensor(f"blk.3.attn_q.weight.{name}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def complete(task_id: int, *adapters: Adapter, prompt: str = PROMPT) -> Task:
    return Task(
        id=task_id,
        operation=Operation.COMPLETE,
        prompts=(prompt,),
        sampling=Sampling(temperature=0, max_tokens=24),
        adapters=adapters,
    )


def run(engine: LlamaEngine, *tasks: Task) -> tuple[list[str], list[Usage]]:
    """What each says, and what it cost."""
    said = {task.id: "" for task in tasks}
    usages: dict[int, Usage] = {}
    for task in tasks:
        assert engine.begin(task) == []
    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output), answer
            said[answer.id] += "".join(event.text for event in answer.events if isinstance(event, Text))
            if isinstance(answer.events[-1], Usage):
                usages[answer.id] = answer.events[-1]
    return list(said.values()), list(usages.values())


@pytest.fixture(scope="module")
def dressed(model_settings: LlamaSettings, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaEngine]:
    folder = tmp_path_factory.mktemp("adapters")
    files = tuple(
        AdapterFile(name, str(adapter_file(folder / f"{name}.gguf", seed)))
        for seed, name in enumerate(["terse", "poet"])
    )
    engine = LlamaEngine(msgspec.structs.replace(model_settings, adapters=files, parallel=3))
    yield engine
    engine.close()


def test_each_call_wears_what_it_names(dressed: LlamaEngine) -> None:
    """Alone and together: neighbours with other adapters, or none, change nothing."""
    worn = [(), (Adapter("terse"),), (Adapter("poet", 0.5),)]
    alone = [run(dressed, complete(at, *adapters))[0][0] for at, adapters in enumerate(worn)]

    together, _ = run(dressed, *(complete(10 + at, *adapters) for at, adapters in enumerate(worn)))

    assert len(set(alone)) == 3
    assert together == alone


def test_cells_are_shared_only_under_the_same_adapters(dressed: LlamaEngine) -> None:
    """What another adapter computed is of no use."""
    long = PROMPT + " so, " * 40 + PROMPT
    first, again, other = (
        run(dressed, complete(20 + at, Adapter(name), prompt=long))[1][0]
        for at, name in enumerate(["terse", "terse", "poet"])
    )

    assert first.cached_tokens == other.cached_tokens == 0
    assert again.cached_tokens > 0


def test_an_unknown_adapter_is_refused_by_name(dressed: LlamaEngine) -> None:
    """Not left out in silence."""
    (refused,) = dressed.begin(complete(30, Adapter("nobody")))

    assert isinstance(refused, Refused)
    assert "'nobody'" in refused.message


def test_an_adapter_of_another_model_is_named(model_settings: LlamaSettings, tmp_path: Path) -> None:
    """When the model opens."""
    file = adapter_file(tmp_path / "wide.gguf", 1, width=64)
    settings = msgspec.structs.replace(model_settings, adapters=(AdapterFile("wide", str(file)),))

    with pytest.raises(EngineFailed, match=r"wide\.gguf"):
        LlamaEngine(settings)
