"""The child process: `python -m hybrid_router.workers.main FD HATCH_FD PARENT_PID`.

One thread computes, one listens, so a cancellation is known within one step and a ping is answered
while a step runs.  This process holds no secret and imports no HTTP library.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time

from msgspec.structs import replace

from hybrid_router.engines.task import WORKER_BUSY, Engine, EngineFailed, Refused
from hybrid_router.workers import environment, protocol, sandbox
from hybrid_router.workers.inbox import Inbox, close_files
from hybrid_router.workers.protocol import Answers, Begin, Cancel, Down, Failed, Open, Ping, Pong, Ready, Up

_READ_BYTES = 256 * 1024
# What an engine may take to put things away before it is ended; the router's patience is a little longer.
_SAVING_S = 1.8


class Pipe:
    """The child's end of the socketpair.  Both threads send, one receives."""

    def __init__(self, connection: socket.socket, hatch: socket.socket) -> None:
        self._connection = connection
        self._hatch = hatch
        self._sending = threading.Lock()
        self._unframer = protocol.Unframer()

    def send(self, frame: Up) -> None:
        """Send a frame; waits while the router does not read."""
        with self._sending:
            self._connection.sendall(protocol.framed(frame))

    def receive(self) -> list[Down]:
        """The next frames, at least one; empty at the end."""
        while received := self._connection.recv(_READ_BYTES):
            whole = [self._with_files(protocol.down(body)) for body in self._unframer.feed(received)]
            if frames := [frame for frame in whole if frame is not None]:
                return frames
        return []

    def _with_files(self, frame: Down) -> Down | None:
        """A task with descriptors of this process; None: no room for them, and the router is told."""
        if not isinstance(frame, Begin) or not frame.task.uploads:
            return frame
        task = frame.task
        try:
            fds = protocol.taken_from(self._hatch, len(task.uploads))
        except protocol.FilesLost as error:
            self.send(Answers([Refused(id=task.id, code=WORKER_BUSY, message=str(error))]))
            return None
        uploads = tuple(replace(upload, fd=fd) for upload, fd in zip(task.uploads, fds, strict=True))
        return Begin(replace(task, uploads=uploads))


class Loop:
    """Feeds one engine from one pipe."""

    def __init__(self, engine: Engine, pipe: Pipe) -> None:
        self._engine = engine
        self._pipe = pipe
        self._inbox = Inbox()
        self._step_count = 0
        self._computing = False
        self._gone = threading.Event()

    def listen(self) -> None:
        """Receive until the router is gone; then so is this process, whatever it computes."""
        while frames := self._pipe.receive():
            for frame in frames:
                if isinstance(frame, Ping):
                    self._pipe.send(Pong(frame.number, self._step_count, self._computing))
                elif isinstance(frame, Begin | Cancel):
                    self._inbox.put(frame)
        self._gone.set()
        self._inbox.close()
        time.sleep(_SAVING_S)
        os._exit(0)

    def run(self) -> None:
        """Take what came, compute a step; until the router is gone."""
        while not self._gone.is_set():
            while (not self._engine.busy or not self._inbox.empty) and not self._gone.is_set():
                if self._inbox.empty and self._engine.idle():
                    continue
                self._take(self._next())
            if self._gone.is_set():
                return
            answers = self._engine.step()
            self._step_count += 1
            if answers:
                self._pipe.send(Answers(answers))

    def _next(self) -> Begin | Cancel | None:
        """Wait for a frame, unless there is work: what came before is done."""
        self._step_count += 1
        self._computing = False
        frame = self._inbox.take(wait=not self._engine.busy)
        self._computing = True
        return frame

    def _take(self, frame: Begin | Cancel | None) -> None:
        if isinstance(frame, Begin):
            try:
                refusals = self._engine.begin(frame.task)
            finally:
                close_files(frame)
            if refusals:
                self._pipe.send(Answers(refusals))
        elif isinstance(frame, Cancel):
            self._engine.cancel(frame.task_id)


def main(arguments: list[str]) -> int:
    """Open the model named in the first frame and serve it."""
    fd, hatch_fd, parent_pid = (int(argument) for argument in arguments)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the router's business
    try:
        sandbox.tie_to(parent_pid)
    except sandbox.ParentGone:
        return 0
    lacking = sandbox.restrict()
    pipe = Pipe(socket.socket(fileno=fd), socket.socket(fileno=hatch_fd))
    first = pipe.receive()
    if not first or not isinstance(first[0], Open):
        return 2
    settings = first[0].settings
    environment.prepare(settings)
    lacking += sandbox.confine(settings)
    from hybrid_router.engines.opening import open_engine  # noqa: PLC0415 - after the sandbox is up

    try:
        engine = open_engine(settings)
    except EngineFailed as error:
        pipe.send(Failed(str(error)))
        return 3
    pipe.send(Ready(replace(engine.opened(), unguarded=tuple(lacking))))
    loop = Loop(engine, pipe)
    threading.Thread(target=loop.listen, name="listen", daemon=True).start()
    loop.run()
    engine.close()
    os._exit(0)  # what is left to tear down the kernel does faster, and another model waits for the memory


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
