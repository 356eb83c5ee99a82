"""What is weighed, from files as the kernel writes them, and of a real process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_router.core.space import UNLIMITED
from hybrid_router.workers.memory import Boundless, Machine

MEMINFO = "MemTotal: 16000 kB\nMemFree: 1000 kB\nMemAvailable: 9000 kB\nSwapFree: 500 kB\n"
KIB = 1024


def tree(root: Path, **files: str) -> Machine:
    """A machine with these files; `__` is a slash."""
    for name, text in {"proc__meminfo": MEMINFO, **files}.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Machine(root)


def test_without_a_group_the_machine_is_the_limit(tmp_path: Path) -> None:
    """All of it in total; what is free counts what is only cached, and swap."""
    machine = tree(tmp_path)

    assert machine.total().ram_bytes == 16000 * KIB
    assert machine.available().ram_bytes == 9500 * KIB


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_group_around_counts(tmp_path: Path, version: int) -> None:
    """Also one further up; files in memory are not used, whoever reads them."""
    if version == 2:
        files = {
            "proc__self__cgroup": "0::/service/router\n",
            "sys__fs__cgroup__service__memory.max": f"{8000 * KIB}\n",
            "sys__fs__cgroup__service__memory.current": f"{5000 * KIB}\n",
            "sys__fs__cgroup__service__memory.stat": f"anon 1\nactive_file {KIB}\ninactive_file {2 * KIB}\n",
            "sys__fs__cgroup__service__router__memory.max": "max\n",
        }
    else:
        folder = "sys__fs__cgroup__memory__service__"
        files = {
            "proc__self__cgroup": "4:memory:/service\n3:cpu:/\n",
            f"{folder}memory.limit_in_bytes": f"{8000 * KIB}\n",
            f"{folder}memory.usage_in_bytes": f"{5000 * KIB}\n",
            f"{folder}memory.stat": f"active_file {KIB}\ninactive_file {2 * KIB}\n",
            "sys__fs__cgroup__memory__memory.limit_in_bytes": "9223372036854771712\n",
        }
    machine = tree(tmp_path, **files)

    assert machine.total().ram_bytes == 8000 * KIB
    assert machine.available().ram_bytes == 3003 * KIB


@pytest.mark.parametrize(
    ("line", "name"),
    [("0::/router\n", "sys__fs__cgroup__router__memory.events"),
     ("4:memory:/router\n", "sys__fs__cgroup__memory__router__memory.oom_control")],
)  # fmt: skip
def test_what_the_kernel_killed_is_counted_in_the_childs_group(tmp_path: Path, line: str, name: str) -> None:
    """The group is remembered: it can be asked when the child is gone."""
    machine = tree(tmp_path, proc__7__cgroup=line, **{name: "low 0\noom 1\noom_kill 2\n"})
    count = machine.kills(7)
    (tmp_path / "proc/7/cgroup").unlink()
    assert count() == 2

    tree(tmp_path, **{name: "low 0\noom 1\noom_kill 3\n"})
    assert count() == 3


def test_a_process_is_weighed_with_and_without_its_files(tmp_path: Path) -> None:
    """What can be read from a file again is part of the whole, not of what it keeps."""
    machine = tree(
        tmp_path, proc__7__status="Name:\tpython\nVmRSS:\t 900 kB\nRssAnon: 500 kB\nRssFile: 300 kB\n"
    )
    taken = machine.taken(7)

    assert taken is not None
    assert (taken.all.ram_bytes, taken.kept.ram_bytes) == (900 * KIB, 600 * KIB)
    assert machine.taken(8) is None


def test_this_machine_can_be_weighed() -> None:
    """Real figures in a sane order."""
    machine = Machine()
    own = machine.taken(os.getpid())

    assert own is not None
    assert 0 < own.kept.ram_bytes <= own.all.ram_bytes < machine.total().ram_bytes < UNLIMITED.ram_bytes
    assert machine.available().ram_bytes > 0
    assert machine.kills(os.getpid())() >= 0


def test_a_worker_alone_is_not_weighed() -> None:
    """Without a budget nothing is counted."""
    scales = Boundless()

    assert scales.total() == scales.available() == UNLIMITED
    assert scales.taken(os.getpid()) is None
    assert scales.kills(os.getpid())() == 0
