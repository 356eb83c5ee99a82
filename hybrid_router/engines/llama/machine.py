"""What this machine has: free memory, within what this process may use, and GPUs.

Source: proc_meminfo(5); cgroup-v2.rst and cgroup-v1/memory.rst of Linux; ggml-backend.h of llama.cpp.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hybrid_router.core.kernel_files import lines_of, number_in, sizes_in
from hybrid_router.engines.llama.fit import Device, Machine

_GPU, _INTEGRATED = 1, 2  # ggml_backend_dev_type


def look(*, with_devices: bool, root: Path = Path("/")) -> Machine:
    """Read what is free now.

    Args:
        with_devices: ask for GPUs too, which wakes their drivers.
        root: where `proc` and `sys` are.
    """
    memory = sizes_in(root / "proc/meminfo")
    free = memory.get("MemAvailable") or _half()  # a service may not see the file
    limited = min((free, *_group_rooms(root)))
    swap = memory.get("SwapFree", 0) if limited == free else 0
    return Machine(limited, swap, tuple(_devices(free)) if with_devices else ())


def _half() -> int:
    """Half of the machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2


def _group_rooms(root: Path) -> Iterator[int]:
    """What each group around this process may still use; page cache counts as free."""
    for line in lines_of(root / "proc/self/cgroup"):
        number, _, rest = line.partition(":")
        controllers, _, group = rest.partition(":")
        if number == "0":
            top, limit, used = root / "sys/fs/cgroup", "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            top, limit, used = (
                root / "sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
            )
        else:
            continue
        parts = Path(group.lstrip("/"))
        for folder in (parts, *parts.parents):
            most, now = number_in(top / folder / limit), number_in(top / folder / used)
            if most is not None and now is not None:
                yield max(0, most - now + _cached(top / folder / "memory.stat"))


def _cached(path: Path) -> int:
    """Bytes of files in memory that nobody used lately."""
    names = {"inactive_file", "total_inactive_file"}
    counts = (line.split() for line in lines_of(path))
    return max((int(words[1]) for words in counts if len(words) > 1 and words[0] in names), default=0)


def _devices(free_bytes: int) -> Iterator[Device]:
    """The GPUs that llama.cpp takes by itself: integrated ones only where there are no others."""
    found = list(_registered())
    kind = _GPU if any(each == _GPU for each, _ in found) else _INTEGRATED
    for each, device in found:
        if each == kind == _INTEGRATED:
            yield Device(device.name, min(device.free_bytes or free_bytes, free_bytes))
        elif each == kind:
            yield device


def _registered() -> Iterator[tuple[int, Device]]:
    """Every device that was compiled into the library and is there, with its type."""
    library = _library()
    for index in range(library.ggml_backend_dev_count()):
        device = library.ggml_backend_dev_get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        name = library.ggml_backend_dev_name(device) or b"?"
        yield (
            int(library.ggml_backend_dev_type(device)),
            Device(name.decode("utf-8", "replace"), int(free.value)),
        )


def _library() -> Any:
    """ggml, whose functions llama-cpp-python does not declare."""
    from llama_cpp._ggml import libggml  # noqa: PLC0415 - only where GPUs are asked for

    device = ctypes.c_void_p
    for name, result, arguments in (
        ("count", ctypes.c_size_t, ()),
        ("get", device, (ctypes.c_size_t,)),
        ("name", ctypes.c_char_p, (device,)),
        ("type", ctypes.c_int, (device,)),
        ("memory", None, (device, ctypes.c_void_p, ctypes.c_void_p)),
    ):
        function = getattr(libggml, f"ggml_backend_dev_{name}")
        function.restype, function.argtypes = result, list(arguments)
    return libggml
