"""One generation of a worker: a process, its pipe, its last words."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import IO, cast

from hybrid_router.engines.settings import AnySettings
from hybrid_router.engines.task import Opened, Task
from hybrid_router.workers import protocol
from hybrid_router.workers.answer import PendingAnswer, WorkerGone
from hybrid_router.workers.environment import child_environment
from hybrid_router.workers.protocol import (
    Answers,
    Begin,
    Cancel,
    Failed,
    Open,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Up,
)

PROGRAM = (sys.executable, "-I", "-m", "hybrid_router.workers.main")
_LAST_WORDS_COUNT = 40
_SHOWN_COUNT = 300
_TELLING = re.compile(r"ASSERT|ABORT|what\(\):|[Ee]rror\b|Error: ")
# Others end a process in these ways: the kernel when memory is short, its owner, our own hanging up.
_NOT_ITS_OWN = frozenset({0, -signal.SIGKILL, -signal.SIGTERM})
OnLine = Callable[[str], None]


class Child(asyncio.Protocol):
    """The parent's end.  Everything here runs on the event loop; nothing waits but `ended` and `opened`.

    Attributes:
        opened: resolves when the model is open.
        ended: resolves to why the process ended; never fails.
        hopeless: whether starting again cannot help: it said so, or the file was its end.
        struck: whether it was killed by somebody else: no one of us sent that signal.
        on_idle: hears that its last task has ended.
        lines: what hears its standard error.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], hatch: socket.socket, path: str, on_line: OnLine
    ) -> None:
        loop = asyncio.get_running_loop()
        self.hopeless = False
        self.struck = False
        self.on_idle: Callable[[], None] = _tell_nobody
        self._sentenced = False
        self._process = process
        self._stderr = cast("IO[bytes]", process.stderr)
        os.set_blocking(self._stderr.fileno(), False)  # what it leaves behind may hold it open for ever
        self._hatch = hatch
        self._path = path
        self._on_line = on_line
        self.lines = _Lines(self)
        self._unframer = protocol.Unframer()
        self._answers: dict[int, PendingAnswer] = {}
        self._pongs: dict[int, asyncio.Future[Pong]] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._last_words: deque[str] = deque(maxlen=_LAST_WORDS_COUNT)
        self._failed: str | None = None
        self.opened: asyncio.Future[Opened] = loop.create_future()
        self.ended: asyncio.Future[str] = loop.create_future()
        self._pidfd = os.pidfd_open(process.pid)
        loop.add_reader(self._pidfd, self._exited)

    @property
    def pid(self) -> int:
        """The process's id, also its group's."""
        return self._process.pid

    @property
    def in_flight_count(self) -> int:
        """Tasks begun and not ended."""
        return len(self._answers)

    def begin(self, task_of: Callable[[int], Task]) -> tuple[int, PendingAnswer]:
        """Send a task; `task_of` makes it from the id it gets.

        Raises:
            WorkerGone: the process has ended, or does not take files any more.
            protocol.HatchFull: it has many files to take before; it goes on with the tasks that it has.
            protocol.ProtocolError: the task is too large for a frame, or has too many files.
        """
        if self.ended.done():
            raise WorkerGone(self.ended.result())
        self._next_id += 1
        task = task_of(self._next_id)
        framed = protocol.framed(Begin(task))
        self._pass_files(task)
        answer = self._answers[self._next_id] = PendingAnswer()
        self._send(framed)
        return self._next_id, answer

    def _pass_files(self, task: Task) -> None:
        """Send the task's files."""
        if not task.uploads:
            return
        try:
            protocol.pass_through(self._hatch, [upload.fd for upload in task.uploads])
        except OSError as error:
            self.kill()
            raise WorkerGone(f"the worker took no more files ({error.strerror})") from error

    def cancel(self, task_id: int) -> None:
        """Stop working on a task; fine if it has ended."""
        if self._answers.pop(task_id, None) is not None:
            self._send(protocol.framed(Cancel(task_id)))
            self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if not self._answers:
            self.on_idle()

    async def ping(self) -> Pong:
        """Ask the listening thread how the engine gets on.

        Raises:
            WorkerGone: the process ended meanwhile.
        """
        self._next_id += 1
        pong: asyncio.Future[Pong] = asyncio.get_running_loop().create_future()
        self._pongs[self._next_id] = pong
        self._send(protocol.framed(Ping(self._next_id)))
        await asyncio.wait((pong, self.ended), return_when=asyncio.FIRST_COMPLETED)
        if not pong.done():
            raise WorkerGone(self.ended.result())
        return pong.result()

    def kill(self) -> None:
        """SIGKILL the whole group; `ended` tells when it is gone."""
        self._sentenced = True
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def hang_up(self) -> None:
        """Close the pipe: a healthy child exits by itself."""
        if self._transport is not None:
            self._transport.abort()

    def _send(self, framed: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(framed)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            for body in self._unframer.feed(data):
                self._hear(protocol.up(body))
        except ProtocolError as error:
            self.heard_line(f"killed: {error}")
            self.kill()

    def _hear(self, frame: Up) -> None:
        match frame:
            case Answers(answers):
                for answer in answers:
                    pending = self._answers.get(answer.id)  # None: cancelled, its last events crossed over
                    if pending is not None and pending.take(answer):
                        del self._answers[answer.id]
                        self._tell_if_idle()
            case Ready(opened):
                self._open(opened)
            case Failed(reason):
                self._failed, self.hopeless = reason, True
            case Pong():
                if (pong := self._pongs.pop(frame.number, None)) is not None and not pong.done():
                    pong.set_result(frame)

    def _open(self, opened: Opened) -> None:
        if self.opened.done():
            raise ProtocolError("the model was opened twice")
        self.opened.set_result(opened)

    # its end

    def heard_line(self, line: str) -> None:
        """A line of the child's standard error."""
        self._last_words.append(line)
        self._on_line(line)

    def _exited(self) -> None:
        """The process is gone.  What it sent before is read first, so that no event is lost."""
        loop = asyncio.get_running_loop()
        loop.remove_reader(self._pidfd)
        os.close(self._pidfd)
        status = self._process.wait()
        self.struck = status == -signal.SIGKILL and not self._sentenced
        self.kill()  # whatever it started: nobody else knows about them
        self._read_out()
        self._hear_out()
        self._hatch.close()
        self.hang_up()
        self.ended.set_result(self._failed or self._why(status))
        for answer in self._answers.values():
            answer.fail(WorkerGone(self.ended.result()))
        self._answers.clear()
        if not self.opened.done():
            self.opened.cancel()

    def _why(self, status: int) -> str:
        """A return code in words; that of a file which was its end, with the file and the last words."""
        how = _how_it_ended(status)
        opened = self.opened.done() and not self.opened.cancelled()
        if opened and status == -signal.SIGBUS:
            return f"{how}: {self._path} was cut short while it was in use, or cannot be read any more"
        if opened or status in _NOT_ITS_OWN:
            return how
        self.hopeless = True
        return f"{self._path}: {how} while it opened this file: {last_words(self._last_words)}"

    def _hear_out(self) -> None:
        """Take what is still in standard error; never more than a pipe holds."""
        with contextlib.suppress(OSError, ValueError):  # nothing there, or closed already
            self.lines.data_received(os.read(self._stderr.fileno(), 1 << 16))
        self.lines.finish()

    def _read_out(self) -> None:
        """Take what is still in the pipe; the loop may not have been told of it yet."""
        if self._transport is None or self._transport.is_closing():
            return
        fd = self._transport.get_extra_info("socket").fileno()
        duplicate = socket.fromfd(fd, socket.AF_UNIX, socket.SOCK_STREAM)
        with duplicate, contextlib.suppress(OSError):
            duplicate.setblocking(False)
            duplicate.shutdown(socket.SHUT_RD)  # what outlived it adds nothing while we read
            while received := duplicate.recv(1 << 18):
                self.data_received(received)


def _tell_nobody() -> None:
    """Until somebody wants to hear."""


class _Lines(asyncio.Protocol):
    """Cuts a child's standard error into lines."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._pending = b""

    def data_received(self, data: bytes) -> None:
        *lines, rest = (self._pending + data).split(b"\n")
        self._pending = rest[-4096:]
        for line in lines:
            self._hear(line)

    def finish(self) -> None:
        """Take the last line, which nothing ends."""
        if self._pending:
            self._hear(self._pending)
            self._pending = b""

    def _hear(self, line: bytes) -> None:
        self._child.heard_line(line.decode("utf-8", "replace")[:1000])


def last_words(lines: Iterable[str]) -> str:
    """What a process said of its end: its last line that speaks of an error, else its last line at all."""
    said = [line.strip() for line in lines if line.strip()]
    telling = [line for line in said if _TELLING.search(line)]
    words = (telling or said or ["it said nothing"])[-1][:_SHOWN_COUNT]
    return "".join(c if c.isprintable() else "?" for c in words)


def _how_it_ended(status: int) -> str:
    """A return code in words."""
    if status >= 0:
        return f"worker exited with status {status}"
    try:
        return f"worker was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"worker was killed by signal {-status}"


async def spawn(settings: AnySettings, on_line: OnLine, program: Sequence[str] = PROGRAM) -> Child:
    """Start a child that opens a model.

    Args:
        program: what it runs, given the descriptors of pipe and hatch and our process id as its last
            arguments.

    Raises:
        OSError: the system is out of processes, descriptors or memory.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    hatch, their_hatch = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    hatch.setblocking(False)
    try:
        with theirs, their_hatch:
            process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own module; the fork takes milliseconds
                [*program, str(theirs.fileno()), str(their_hatch.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                pass_fds=(theirs.fileno(), their_hatch.fileno()),
                process_group=0,
                env=child_environment(os.environ),
                cwd="/",
            )
    except OSError:
        ours.close()
        hatch.close()
        raise
    child = Child(process, hatch, settings.path, on_line)
    await loop.connect_read_pipe(lambda: child.lines, process.stderr)
    await loop.create_connection(lambda: child, sock=ours)
    child._send(protocol.framed(Open(settings)))  # noqa: SLF001 - part of being born
    return child
