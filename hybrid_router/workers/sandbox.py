"""What a child gives up before it touches a model file.

Two steps: `restrict` needs to know nothing and comes first; `confine` needs to know the model.  Whatever the
system does not grant is returned in words, for the log: a child with less around it serves all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
import struct
from pathlib import Path

from hybrid_router.engines.settings import Settings
from hybrid_router.workers import landlock
from hybrid_router.workers.reach import gpu_devices, kept_folders, reach
from hybrid_router.workers.syscalls import filter_calls

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_NO_NEW_PRIVS = 38
_CAPABILITY_VERSION = 0x2008_0522

_OPEN_FILES_COUNT = 4096
# Room for what libraries make in memory with a file's means; a model's files are never written.
_FILE_BYTES = 16 * 2**20
_OOM_SCORE = "500"


class ParentGone(Exception):
    """The router died between starting this process and this call."""


def tie_to(parent_pid: int) -> None:
    """Die with the parent.

    Raises:
        ParentGone: it is dead already; the signal would never come.
        OSError: the kernel refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ParentGone


def restrict() -> list[str]:
    """No privileges, no core file, nothing for a debugger; no network, no other process, no program.

    Returns:
        What this system does not grant.

    Raises:
        OSError: the kernel refused what every kernel has.
    """
    # Before the next line makes it root's: if memory is short, this process goes, not the router.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE, encoding="ascii")
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _lower(resource.RLIMIT_NOFILE, _OPEN_FILES_COUNT)
    return [reason for reason in (_drop_capabilities(), filter_calls(gpu=bool(gpu_devices()))) if reason]


def confine(settings: Settings) -> list[str]:
    """Reach no file but those that this model's engine needs, and write none but what it keeps.

    To be called while there is one thread: others would not be confined.

    Returns:
        What this system does not grant.
    """
    kept = kept_folders(settings)
    for folder in kept:
        with contextlib.suppress(OSError):  # the engine says so, if it matters
            Path(folder).mkdir(mode=0o700, parents=True, exist_ok=True)
    if not kept and not gpu_devices():
        _lower(resource.RLIMIT_FSIZE, _FILE_BYTES)
    if not gpu_devices():  # drivers reserve far more than there is
        _lower(resource.RLIMIT_DATA, _most_bytes())
    reason = landlock.confine(reach(settings))
    return [] if reason is None else [reason]


def _most_bytes() -> int:
    """Twice the machine's memory: no model needs more, and a wild request fails instead of the machine."""
    return 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _lower(limit: int, value: int) -> None:
    """Set a limit for good, unless it is lower already."""
    _, hard = resource.getrlimit(limit)
    lowest = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(limit, (lowest, lowest))


def _drop_capabilities() -> str | None:
    """A router that runs as root has children that may do no more than its files' owner."""
    if not _has_capabilities():
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    header, none = struct.pack("Ii", _CAPABILITY_VERSION, 0), bytes(24)
    if libc.capset(header, none) != 0:
        return f"root's capabilities were not dropped ({os.strerror(ctypes.get_errno())})"
    return None


def _has_capabilities() -> bool:
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    return any(
        line.startswith(("CapPrm:", "CapEff:")) and line.split()[1].strip("0") for line in status.splitlines()
    )


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
