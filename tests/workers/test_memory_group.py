"""A child that takes more memory than its control group has, killed by the kernel itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

LIMIT_BYTES = 120 * 2**20
ROUTER = """
import asyncio, sys
from hybrid_router.core.space import Space
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Opened
from hybrid_router.workers.house import House
from hybrid_router.workers.life import Dead, Resident
from hybrid_router.workers.memory import Machine
from hybrid_router.workers.protocol import Ready, framed
from hybrid_router.workers.tenant import Budget
from hybrid_router.workers.worker import Worker, WorkerDown

GLUTTON = '''
import socket, sys, time
pipe = socket.socket(fileno=int(sys.argv[2]))
pipe.recv(65536)
pipe.sendall(bytes.fromhex(sys.argv[1]))
eaten = []
while True:
    eaten.append(bytearray(b"x" * 2**20))
    time.sleep(0)
'''

async def main():
    opened = Opened(description="odd", context=64, parallel=1, has_template=False, vocabulary_count=9)
    states = []
    worker = Worker(
        LlamaSettings(path="/nowhere", context=64, parallel=1, threads=1, prefill_chunk=64),
        program=[sys.executable, "-I", "-S", "-c", GLUTTON, framed(Ready(opened)).hex()],
        house=House(Budget(space=Space(2**40, 2**40)), Machine()),
        on_state=states.append,
    )
    worker.start(load=True)
    while not (states and isinstance(states[-1], Dead)):
        await asyncio.sleep(0.01)
    try:
        await worker.child()
    except WorkerDown as down:
        print(sum(isinstance(state, Resident) for state in states), states[-1].reason, "|", down)
    await worker.close()

asyncio.run(main())
"""


@pytest.fixture
def group() -> Iterator[Path]:
    """A control group with little memory; not everybody may make one."""
    unified = Path("/sys/fs/cgroup/cgroup.controllers").exists()
    folder = (
        Path("/sys/fs/cgroup" if unified else "/sys/fs/cgroup/memory") / f"hybrid-router-test-{os.getpid()}"
    )
    try:
        folder.mkdir()
    except OSError as error:
        pytest.skip(f"no control group can be made here ({error.strerror})")
    try:
        (folder / ("memory.max" if unified else "memory.limit_in_bytes")).write_text(str(LIMIT_BYTES))
        with suppress(OSError):  # where there is swap
            (folder / "memory.swap.max").write_text("0")
        yield folder
    except OSError as error:
        pytest.skip(f"no memory can be counted here ({error.strerror})")
    finally:
        folder.rmdir()


def test_a_child_that_the_kernel_kills_for_memory_is_named_and_left(group: Path) -> None:
    """Its reason says memory, it is loaded once and not again, and what it had is told."""
    told = subprocess.run(
        ["/bin/sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh", sys.executable, "-c", ROUTER],
        capture_output=True,
        text=True,
        timeout=18,
        check=False,
    )

    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("1 the kernel killed the worker for memory"), told.stdout
    assert "| it is too big: it was killed when memory ran out, with" in told.stdout
