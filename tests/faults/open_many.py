"""Open model files, each in a process of its own; say on one line a file what came of it.

`open_many.py FILE…`: `opened`, `failed: …` (an `EngineFailed`), or `signal N`.  The library is imported once.
"""

from __future__ import annotations

import os
import signal
import sys

from hybrid_router.engines.llama import opening
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import EngineFailed

LIMIT_S = 10


def open_one(path: str) -> str:
    """As the engine does: header, fit, weights, context, one token."""
    settings = LlamaSettings(path=path, context=None, parallel=None, threads=1, prefill_chunk=16)
    try:
        _, found = opening.fitted(settings)
        weights = Weights(path, settings.offload, checked=True)
        context = Context(
            weights,
            settings,
            cells_count=found.context * found.parallel,
            sequences_count=found.parallel,
            batch_count=17,
        )
    except EngineFailed as failed:
        return f"failed: {failed}"
    context.decode([(1, 0, 0, True)])
    return "opened"


def apart(path: str) -> str:
    """Open a file in a process that may die of it."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(LIMIT_S)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.write(writing, open_one(path).encode()[:4096])
        os._exit(0)
    os.close(writing)
    said = os.read(reading, 4096).decode()
    os.close(reading)
    _, status = os.waitpid(pid, 0)
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else said or "died"


def main() -> None:
    """Open every file."""
    for path in sys.argv[1:]:
        sys.stdout.write(apart(path).replace("\n", " ") + "\n")


main()
