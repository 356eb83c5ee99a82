"""GPUs are weighed through NVIDIA's library; here a stand-in for it, since few machines have one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hybrid_router.core.space import UNLIMITED
from hybrid_router.workers.memory import Machine

MIB = 2**20
PYNVML = """
from types import SimpleNamespace as Figures

class NVMLError(Exception):
    pass

GPUS = [
    Figures(total=8000, free=6000, taken={7: 1500}),
    Figures(total=4000, free=1000, taken={7: None, 8: 900}),
]

def nvmlInit():
    if not GPUS:
        raise NVMLError("no driver")

def nvmlDeviceGetCount():
    return len(GPUS)

def nvmlDeviceGetHandleByIndex(index):
    return GPUS[index]

def nvmlDeviceGetMemoryInfo(gpu):
    return Figures(total=gpu.total * 2**20, free=gpu.free * 2**20)

def nvmlDeviceGetComputeRunningProcesses(gpu):
    if gpu.taken is None:
        raise NVMLError("not allowed")
    return [
        Figures(pid=pid, usedGpuMemory=None if mib is None else mib * 2**20) for pid, mib in gpu.taken.items()
    ]
"""


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The stand-in's file; found when a machine looks for the library."""
    path = tmp_path / "library" / "pynvml.py"
    path.parent.mkdir()
    path.write_text(PYNVML)
    monkeypatch.syspath_prepend(str(path.parent))
    monkeypatch.setitem(sys.modules, "pynvml", None)  # so that it is as before at the end
    monkeypatch.delitem(sys.modules, "pynvml")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A machine with two processes."""
    for pid in (7, 8):
        folder = tmp_path / "machine" / "proc" / str(pid)
        folder.mkdir(parents=True)
        (folder / "status").write_text("VmRSS: 900 kB\n")
    return tmp_path / "machine"


@pytest.mark.usefixtures("library")
def test_all_gpus_count_together(root: Path) -> None:
    """What they have, and what is free of it now, whoever has the rest."""
    machine = Machine(root)

    assert machine.total().vram_bytes == 12_000 * MIB
    assert machine.available().vram_bytes == 7_000 * MIB


@pytest.mark.usefixtures("library")
def test_a_process_is_weighed_on_every_gpu(root: Path) -> None:
    """Its own alone; what the driver does not tell is nothing."""
    machine = Machine(root)

    weights = [taken.kept.vram_bytes for pid in (7, 8) if (taken := machine.taken(pid)) is not None]
    assert weights == [1_500 * MIB, 900 * MIB]


def test_a_driver_that_tells_no_processes_costs_nothing(library: Path, root: Path) -> None:
    """In containers it may not say who has what: the rest still counts."""
    library.write_text(PYNVML.replace("taken={7: 1500}", "taken=None"))
    machine = Machine(root)
    taken = machine.taken(8)

    assert taken is not None
    assert taken.all.vram_bytes == 900 * MIB
    assert machine.total().vram_bytes == 12_000 * MIB


def test_without_a_gpu_its_memory_is_not_counted(library: Path, root: Path) -> None:
    """A library without a driver, as images bring it, is no GPU."""
    library.write_text(PYNVML + "\nGPUS = []\n")

    assert Machine(root).total().vram_bytes == UNLIMITED.vram_bytes
    assert Machine(root).available().vram_bytes == UNLIMITED.vram_bytes
