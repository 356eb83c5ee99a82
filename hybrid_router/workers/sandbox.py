"""What a child gives up before it touches a model file, and what it inherits."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from collections.abc import Mapping

_PR_SET_PDEATHSIG = 1
_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_DUMPABLE = 4

# What inference libraries read; never a token.  Prefixes end in an underscore.
_ALLOWED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH")
_ALLOWED_PREFIXES = ("GGML_", "CUDA_", "NVIDIA_", "HIP_", "ROCR_", "OMP_")


class ParentGone(Exception):
    """The router died between starting this process and this call."""


def child_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables a child may see."""
    return {
        name: value
        for name, value in environ.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES)
    }


def tie_to(parent_pid: int) -> None:
    """Die with the parent.

    Raises:
        ParentGone: it is dead already; the signal would never come.
        OSError: the kernel refused.
    """
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:
        raise ParentGone


def restrict() -> None:
    """No new privileges, no core file, nothing for a debugger of the same user."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)
    _prctl(_PR_SET_DUMPABLE, 0)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")
