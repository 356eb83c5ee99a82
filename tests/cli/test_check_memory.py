"""What this machine's memory cannot hold is refused by `check`, and left out of every plan."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from hybrid_router.cli import check, plan
from hybrid_router.cli.doubts import doubts
from hybrid_router.cli.mistakes import mistakes
from hybrid_router.cli.room import counted
from hybrid_router.config.load import load
from hybrid_router.config.schema import Loaded
from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.workers.memory import Boundless

MIB = 2**20
GIB = 2**30
LIBRARIES_MIB = 220  # what is counted for faster-whisper itself


class Fixed(Boundless):
    """Scales of a machine of a known size."""

    def __init__(self, ram_bytes: int, vram_bytes: int = UNLIMITED.vram_bytes) -> None:
        self._total = Space(ram_bytes, vram_bytes)

    def total(self) -> Space:
        return self._total


SMALL = Fixed(4 * GIB)


def written(folder: Path, residency: str, **models: str) -> Path:
    """A router.yaml with models of 100 MiB each, whose files are there, and a cloud behind them."""
    (folder / "models/heard").mkdir(parents=True, exist_ok=True)
    with (folder / "models/heard/model.bin").open("wb") as weights:
        weights.truncate(100 * MIB)
    files = {"model.bin": {"sha256": "0" * 64, "size_bytes": 100 * MIB}}
    entry = {"engine": "whisper", "folder": "heard", "files": files}
    (folder / "models/manifest.yaml").write_text(yaml.safe_dump({"models": {"heard": entry}}))
    lines = [f"      {name}: {{engine: whisper, weights: heard, {keys}}}" for name, keys in models.items()]
    path = folder / "router.yaml"
    path.write_text(
        f"residency: {{{residency}}}\nbackends:\n  local:\n    type: local\n    models:\n"
        + "\n".join(lines)
        + "\n  cf: {type: workers_ai, account_id: {env: A}, token: {env: T}}\n"
        + "aliases: {x: {try: ["
        + ", ".join(f"local/{name}" for name in models)
        + ", cf/@cf/meta/m2m100-1.2b]}}\n"
    )
    return path


def run(path: Path) -> Result:
    """`hybrid-router check` of it."""
    return CliRunner().invoke(check.command, ["--config", str(path)])


def refused(path: Path) -> list[str]:
    """What `check` refuses, as `line: key: why`."""
    result = run(path)
    assert (result.exit_code, result.stdout) == (2, "")
    return [line.removeprefix(f"{path}:") for line in result.stderr.splitlines()]


@pytest.fixture
def at(tmp_path: Path) -> Callable[..., Loaded]:
    """A configuration that loads."""
    return lambda residency, **models: load(written(tmp_path, residency, **models), {})


def test_a_budget_smaller_than_a_models_files(tmp_path: Path) -> None:
    """Refused at the model, with both sizes and with what to do."""
    path = written(tmp_path, "ram: 300MiB", ears="preload: false")

    assert refused(path) == [
        "6:13: backends.local.models.ears: it needs about 320 MiB of memory, `residency.ram` is 300 MiB; "
        "raise that if there is more, choose smaller weights, or write `memory` if it needs less"
    ]


def test_a_budget_smaller_than_what_a_model_is_said_to_take(tmp_path: Path) -> None:
    """Refused at `memory`, whether its files are there or not."""
    path = written(tmp_path, "ram: 400MiB", ears="memory: 500MiB", gone="weights: heard, memory: 2GiB")
    path.write_text(path.read_text().replace("gone: {engine: whisper, weights: heard, ", "gone: {"))

    ears, gone = refused(path)

    assert "backends.local.models.ears.memory: it needs about 500 MiB" in ears
    assert ears.endswith("or lower its `memory` if it needs less")
    assert "backends.local.models.gone.memory: it needs about 2.0 GiB" in gone


def test_what_a_model_is_said_to_take_replaces_the_estimate(tmp_path: Path) -> None:
    """Who writes `memory` knows better than the files: it is enough then."""
    assert run(written(tmp_path, "ram: 300MiB", ears="memory: 250MiB")).exit_code == 0


def test_pinned_models_that_do_not_fit_together(tmp_path: Path) -> None:
    """The one that would find no room is refused; not pinned, they take turns."""
    path = written(tmp_path, "ram: 600MiB", ears="pinned: true", more="pinned: true")
    assert refused(path) == [
        "7:13: backends.local.models.more: it needs about 320 MiB of memory, 280 MiB are free beside pinned "
        "models; unpin one, or raise `residency.ram`"
    ]

    told = run(written(tmp_path, "ram: 600MiB", ears="preload: true", more="preload: true"))
    assert told.exit_code == 0
    assert (
        "residency.ram: local/ears, local/more are to be loaded at start, need about 640 MiB and have "
        "600 MiB, so they take turns: write preload: false for those that may wait"
    ) in told.stderr

    quiet = run(written(tmp_path, "ram: 600MiB", ears="preload: true", more="preload: false"))
    assert "take turns" not in quiet.stderr


def test_more_memory_than_there_is(at: Callable[..., Loaded]) -> None:
    """A size beyond the machine's is refused, in memory and on GPUs; a share never is."""
    model = {"ears": "preload: false"}
    gpu = Fixed(4 * GIB, 8 * GIB)

    (ram,) = mistakes(counted(at("ram: 5GiB", **model), SMALL))
    (vram,) = mistakes(counted(at("vram: 9GiB", **model), gpu))

    assert ram.path == "residency.ram"
    assert ram.message == (
        "5GiB is more than the 4.0 GiB that this process may use: write less, or a share as in 90%"
    )
    assert vram.path == "residency.vram"
    assert vram.message.startswith("9GiB is more than the 8.0 GiB that the GPUs have")
    assert mistakes(counted(at("ram: 4GiB, vram: 8GiB", **model), gpu)) == ()
    assert mistakes(counted(at("ram: 100%, vram: 100%", **model), gpu)) == ()


def test_a_share_is_counted_of_this_machine(at: Callable[..., Loaded]) -> None:
    """5% of 4 GiB hold no model of 320 MiB; 10% do."""
    (problem,) = mistakes(counted(at("ram: 5%", ears="preload: false"), SMALL))

    assert "`residency.ram` is 205 MiB" in problem.message
    assert mistakes(counted(at("ram: 10%", ears="preload: false"), SMALL)) == ()


def test_a_gpu_that_is_not_there_is_doubted(at: Callable[..., Loaded]) -> None:
    """`vram` does nothing where no GPU is counted: warned of where it is written, and only there."""
    model = {"ears": "preload: false"}

    def told(residency: str, scales: Fixed) -> list[str]:
        return [
            each.message for each in doubts(counted(at(residency, **model), scales)) if "vram" in each.path
        ]

    assert told("vram: 50%", SMALL) == [
        "no GPU is counted here (NVIDIA's are with nvidia-ml-py): it does nothing"
    ]
    assert told("vram: 50%", Fixed(4 * GIB, 8 * GIB)) == []
    assert told("ram: 50%", SMALL) == []


def test_a_model_on_a_gpu_is_counted_there(at: Callable[..., Loaded]) -> None:
    """Its libraries need memory, its weights the GPU's."""
    gpu = Fixed(4 * GIB, 8 * GIB)

    assert mistakes(counted(at("ram: 250MiB, vram: 200MiB", ears="device: cuda"), gpu)) == ()
    (problem,) = mistakes(counted(at("ram: 250MiB, vram: 50MiB", ears="device: cuda"), gpu))
    assert "it needs about 100 MiB of GPU memory, `residency.vram` is 50 MiB" in problem.message
    (problem,) = mistakes(counted(at("ram: 250MiB, vram: 200MiB", ears="device: cpu"), gpu))
    assert f"it needs about {LIBRARIES_MIB + 100} MiB of memory" in problem.message


def test_a_plan_leaves_out_what_is_never_loaded(tmp_path: Path) -> None:
    """With the sentence of `check`; the next step answers instead."""
    path = written(tmp_path, "ram: 300MiB", ears="preload: false", small="memory: 250MiB")

    result = CliRunner().invoke(
        plan.command, ["x", "--config", str(path), "--json", "--operation", "transcribe"]
    )

    decided = json.loads(result.stdout)
    left_out = {each["step"]: each["because"] for each in decided["left_out"]}
    assert result.exit_code == 0
    assert [step["model"] for step in decided["steps"]] == ["small"]
    assert left_out["local/ears"] == refused(path)[0].partition(".ears: ")[2]
