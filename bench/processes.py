"""Child processes: pinned to a core, asked by lines, weighed by their CPU time."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self, TypeVar, cast

import msgspec

ROOT = Path(__file__).parents[1]
_START_S = 90.0
_STOP_S = 10.0
_TICKS = os.sysconf("SC_CLK_TCK")
T = TypeVar("T")


class BenchError(Exception):
    """The measurement cannot go on; says why."""


def python(module: str, *arguments: object) -> list[str]:
    """A command line that runs `module` with this interpreter."""
    return [sys.executable, "-m", module, *map(str, arguments)]


class Child:
    """A child process.  Leaving the context ends it: SIGTERM, and SIGKILL after a grace."""

    def __init__(self, command: Sequence[str], *, cores: Iterable[int], stderr: Path | None = None) -> None:
        self._log = stderr
        self._name = command[2] if command[1:2] == ["-m"] else command[0]
        with pinned(cores), (stderr or Path(os.devnull)).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603 - our own command lines
                command,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=None if stderr is None else log,
            )
        self._process = process
        self._questions = cast(IO[bytes], process.stdin)
        self._answers = cast(IO[bytes], process.stdout)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def pids(self) -> list[int]:
        """The whole tree."""
        return list(_tree(self.pid))

    def ask(self, question: Any, answer: type[T], timeout_s: float) -> T:
        """Write a line of JSON, read one.

        Raises:
            BenchError: the child has ended, or gave no line in time.
        """
        self._questions.write(msgspec.json.encode(question) + b"\n")
        self._questions.flush()
        return msgspec.json.decode(self._line(timeout_s), type=answer)

    def _line(self, timeout_s: float) -> bytes:
        ready, _, _ = select.select([self._answers], [], [], timeout_s)
        line = self._answers.readline() if ready else b""
        if not line:
            raise BenchError(f"{self._name} ended, or gave no answer within {timeout_s:g} s")
        return line

    def wait_for(self, port: int) -> None:
        """Wait until it listens.

        Raises:
            BenchError: it has ended, or does not listen in time.
        """
        until_s = time.monotonic() + _START_S
        while time.monotonic() < until_s:
            if self._process.poll() is not None:
                said = "" if self._log is None else self._log.read_text()[-2000:]
                raise BenchError(f"{self._name} ended at its start, {self._process.returncode}: {said}")
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.02)
        raise BenchError(f"{self._name} does not listen")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        try:
            self._process.communicate(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()


@contextmanager
def pinned(cores: Iterable[int]) -> Iterator[None]:
    """Keep what is started here on these cores."""
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def _tree(pid: int) -> Iterator[int]:
    """A process and all below it."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _tree(int(child))


def cpu_s(pids: Iterable[int]) -> float:
    """User and system time of processes, threads included."""
    return sum(_cpu_s(Path(f"/proc/{pid}")) for pid in pids)


def _cpu_s(process: Path) -> float:
    """To the nanosecond where the kernel tells it, else to the tick."""
    try:
        threads = [(thread / "schedstat").read_text() for thread in (process / "task").iterdir()]
        return sum(int(one.split()[0]) for one in threads) / 1e9
    except OSError:
        fields = (process / "stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
