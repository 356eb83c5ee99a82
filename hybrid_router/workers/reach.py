"""Which files a child needs: Python and its packages, the system's libraries, the model's own."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

import hybrid_router
from hybrid_router.engines.settings import LlamaSettings, Settings
from hybrid_router.workers.landlock import Reach

# /proc whole: what lies below it comes and goes, and what is another process's is closed by Landlock itself.
_SYSTEM = (
    *("/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/nix/store", "/gnu/store", "/opt/rocm"),
    *("/run/opengl-driver", "/proc", "/sys"),
    *("/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime", "/etc/ssl/openssl.cnf"),
    *(
        "/etc/passwd",
        "/etc/nsswitch.conf",
        "/etc/os-release",
        "/etc/OpenCL",
        "/etc/vulkan",
        "/etc/alternatives",
    ),
)
_SOURCES_OF_NOISE = ("/dev/urandom", "/dev/random", "/dev/zero")
_GPU_PATTERNS = ("nvidia*", "dri", "kfd", "dxg")
_MOST_LINKS = 10_000


def gpu_devices() -> tuple[str, ...]:
    """Devices of GPUs that this machine has, as paths."""
    return tuple(str(path) for pattern in _GPU_PATTERNS for path in sorted(Path("/dev").glob(pattern)))


def reach(settings: Settings) -> Reach:
    """What the child that opens this model may reach."""
    model = (found for path in model_paths(settings) for found in _with_links(path))
    return Reach(
        readable=tuple(dict.fromkeys((*_SYSTEM, *_SOURCES_OF_NOISE, *_libraries(), *_python(), *model))),
        kept=kept_folders(settings),
        devices=("/dev/null", *gpu_devices()),
    )


def kept_folders(settings: Settings) -> tuple[str, ...]:
    """The folders that the engine writes into."""
    folder = settings.keeping.folder if isinstance(settings, LlamaSettings) else None
    return () if folder is None else (folder,)


def model_paths(settings: Settings) -> list[str]:
    """Files and folders that the settings name: all that are called `path`, or end in it."""
    return [path for path in _paths(settings) if path.startswith("/")]


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, tuple):
        for each in value:
            yield from _paths(each)
    elif isinstance(value, Struct):
        for each in msgspec.structs.fields(value):
            held = getattr(value, each.name)
            if not isinstance(held, str):
                yield from _paths(held)
            elif each.name == "path" or each.name.endswith("_path"):
                yield held


def _with_links(path: str) -> Iterator[str]:
    """A path, and where the links below it lead: a folder of links may stand for files elsewhere."""
    yield path
    seen_count = 0
    for folder, folders, files in os.walk(path):
        for name in (*folders, *files):
            seen_count += 1
            if seen_count > _MOST_LINKS:
                return
            below = Path(folder, name)
            if below.is_symlink():
                yield os.path.realpath(below)


def _python() -> Iterator[str]:
    """The interpreter, and every folder that modules come from; of a checkout only our own package."""
    yield from (sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix)
    yield os.path.dirname(os.path.realpath(sys.executable))  # noqa: PTH120 - beside a path, not a file
    package = Path(hybrid_router.__file__).parent
    yield str(package)
    installed = Path(msgspec.__file__).parent.parent
    for entry in sys.path:
        # Where our package lies without those it needs, there is a checkout: with a policy, a store, keys.
        if entry and (Path(entry) != package.parent or Path(entry) == installed):
            yield entry


def _libraries() -> Iterator[str]:
    """Where the environment says that libraries are."""
    for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":"):
        if entry.startswith("/") and Path(entry) != Path(entry).parent:
            yield entry
    for name in ("CUDA_HOME", "CUDA_PATH"):
        if os.environ.get(name, "").startswith("/"):
            yield os.environ[name]
