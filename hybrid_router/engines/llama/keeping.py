"""Where states of sequences are kept that left the context, by a model's settings."""

from __future__ import annotations

import sys

import llama_cpp as llama

from hybrid_router.engines.llama.prefix.disk import Disk
from hybrid_router.engines.llama.prefix.kept import Kept
from hybrid_router.engines.llama.prefix.ram import States
from hybrid_router.engines.settings import LlamaSettings


def kept(settings: LlamaSettings, length: int, *, whole_only: bool) -> Kept:
    """Memory, and the disk behind it if a folder is named.  `length`: the context of one sequence."""
    keeping = settings.keeping
    disk = None
    if keeping.folder is not None and keeping.disk_bytes:
        disk = Disk(
            keeping.folder,
            keeping.disk_bytes,
            _key(settings, length),
            whole_only=whole_only,
            on_trouble=_say,
        )
    return Kept(States(keeping.ram_bytes, whole_only=whole_only), disk)


def _key(settings: LlamaSettings, length: int) -> str:
    """What a state depends on beside its tokens."""
    parts = (
        settings.sha256 or settings.path,
        length,
        settings.key_type,
        settings.value_type,
        settings.flash_attention,
        llama.__version__,
    )
    return "\n".join(str(part) for part in parts)


def _say(reason: str) -> None:
    """The worker's log takes what is said here."""
    sys.stderr.write(f"prefix cache: {reason}\n")
    sys.stderr.flush()
