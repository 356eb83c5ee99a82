"""What memory there is, and what a process of ours has of it.

Source: proc_meminfo(5), proc_pid_status(5); cgroup-v2.rst and cgroup-v1/memory.rst of Linux; NVML.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from msgspec import Struct

from hybrid_router.core.kernel_files import lines_of, number_in, sizes_in
from hybrid_router.core.space import NO_SPACE, UNLIMITED, Space

_MOST_BYTES = 1 << 60  # what version 1 of cgroups says where there is no limit is more
_CACHED = frozenset({"active_file", "inactive_file"})
T = TypeVar("T")


class Taken(Struct, frozen=True):
    """What a process has.  `kept`: as far as it cannot be read from a file again."""

    all: Space
    kept: Space


class Scales(Protocol):
    """What weighs.  Nothing here waits."""

    def total(self) -> Space:
        """What there is, used or not; a kind that cannot be weighed is unlimited."""
        ...

    def available(self) -> Space:
        """What can be had without pushing others out."""
        ...

    def taken(self, pid: int) -> Taken | None:
        """What a process has; None: it is gone."""
        ...

    def kills(self, pid: int) -> Callable[[], int]:
        """What counts the processes that the kernel has killed for memory in the group of this one."""
        ...


class Machine:
    """This machine, within what this process may use."""

    def __init__(self, root: Path = Path("/")) -> None:
        """Looks for NVIDIA's library, which may take a while the first time."""
        self._root = root
        self._gpus = _Gpus.found()

    def total(self) -> Space:
        memory = sizes_in(self._root / "proc/meminfo")
        limits = [limit for _, limit in self._groups()]
        ram_bytes = min((memory.get("MemTotal", UNLIMITED.ram_bytes), *limits))
        return Space(ram_bytes, UNLIMITED.vram_bytes if self._gpus is None else self._gpus.total_bytes())

    def available(self) -> Space:
        memory = sizes_in(self._root / "proc/meminfo")
        free_bytes = memory.get("MemAvailable", UNLIMITED.ram_bytes) + memory.get("SwapFree", 0)
        rooms = [max(0, limit - _used_bytes(group)) for group, limit in self._groups()]
        ram_bytes = min((free_bytes, *rooms))
        return Space(ram_bytes, UNLIMITED.vram_bytes if self._gpus is None else self._gpus.free_bytes())

    def taken(self, pid: int) -> Taken | None:
        found = sizes_in(self._root / f"proc/{pid}/status")
        if "VmRSS" not in found:
            return None
        vram_bytes = 0 if self._gpus is None else self._gpus.taken_bytes(pid)
        kept_bytes = found["VmRSS"] - found.get("RssFile", 0)
        return Taken(Space(found["VmRSS"], vram_bytes), Space(kept_bytes, vram_bytes))

    def kills(self, pid: int) -> Callable[[], int]:
        groups = list(_group_folders(self._root, pid))

        def count() -> int:
            return sum(_killed_count(group) for group in groups)

        return count

    def _groups(self) -> Iterator[tuple[Path, int]]:
        """Groups around this process that have a limit, and the limit."""
        for group in _group_folders(self._root, "self"):
            for folder in (group, *group.parents):
                limit = number_in(folder / "memory.max") or number_in(folder / "memory.limit_in_bytes")
                if limit is not None and limit < _MOST_BYTES:
                    yield folder, limit


def _group_folders(root: Path, pid: int | str) -> Iterator[Path]:
    """Folders of the groups that a process is in, as far as they count memory."""
    for line in lines_of(root / f"proc/{pid}/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0":
            yield root / "sys/fs/cgroup" / group.lstrip("/")
        elif "memory" in controllers.split(","):
            yield root / "sys/fs/cgroup/memory" / group.lstrip("/")


def _used_bytes(group: Path) -> int:
    """Bytes that a group uses, without what are only files in memory."""
    used = number_in(group / "memory.current") or number_in(group / "memory.usage_in_bytes") or 0
    counts = (line.split() for line in lines_of(group / "memory.stat"))
    return used - sum(int(words[1]) for words in counts if len(words) > 1 and words[0] in _CACHED)


def _killed_count(group: Path) -> int:
    for line in (
        *lines_of(group / "memory.events"),
        *lines_of(group / "memory.oom_control"),
    ):
        name, _, count = line.partition(" ")
        if name == "oom_kill" and count.strip().isdecimal():
            return int(count)
    return 0


class _Gpus:
    """NVIDIA's GPUs, as NVML counts them."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        nvml.nvmlInit()
        self._devices = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]

    @classmethod
    def found(cls) -> _Gpus | None:
        """None: there are none, or `nvidia-ml-py` is not installed."""
        try:
            import pynvml  # noqa: PLC0415 - only where it is installed
        except ImportError:
            return None
        try:
            gpus = cls(pynvml)
        except pynvml.NVMLError:
            return None
        return gpus if gpus._devices else None

    def total_bytes(self) -> int:
        return sum(int(self._nvml.nvmlDeviceGetMemoryInfo(device).total) for device in self._devices)

    def free_bytes(self) -> int:
        return sum(int(self._nvml.nvmlDeviceGetMemoryInfo(device).free) for device in self._devices)

    def taken_bytes(self, pid: int) -> int:
        """What a process has; 0 also where the driver does not tell."""
        taken = 0
        for device in self._devices:
            with contextlib.suppress(self._nvml.NVMLError):
                for process in self._nvml.nvmlDeviceGetComputeRunningProcesses(device):
                    taken += int(process.usedGpuMemory or 0) if process.pid == pid else 0
        return taken


class Boundless:
    """Scales that weigh nothing: for a worker outside a house with a budget."""

    def total(self) -> Space:
        return UNLIMITED

    def available(self) -> Space:
        return UNLIMITED

    def taken(self, pid: int) -> Taken | None:
        return None

    def kills(self, pid: int) -> Callable[[], int]:
        return lambda: 0


NOTHING_TAKEN = Taken(NO_SPACE, NO_SPACE)
