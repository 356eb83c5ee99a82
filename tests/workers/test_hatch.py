"""Files of calls on their way into a child: the right ones, once, and none left open."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from msgspec.structs import replace

from hybrid_router.core.call import Operation
from hybrid_router.core.upload import upload_of
from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.task import Answer, Opened, Task
from hybrid_router.workers import protocol
from hybrid_router.workers.main import Loop, Pipe
from hybrid_router.workers.protocol import Begin, Cancel, Down, Open


class Reader:
    """An engine that reads the files of its tasks, and forgets to close them."""

    busy = False

    def __init__(self) -> None:
        self.read: list[bytes] = []

    def opened(self) -> Opened:
        return Opened(description="reader", parallel=1)

    def begin(self, task: Task) -> list[Answer]:
        self.read += [bytes(upload.mapped()) for upload in task.uploads]
        if task.id == 13:
            raise RuntimeError("a bug")
        return []

    def cancel(self, task_id: int) -> None:
        """Nothing runs."""

    def step(self) -> list[Answer]:
        return []

    def idle(self) -> bool:
        return False

    def close(self) -> None:
        """Nothing is held."""


class Ends:
    """Both ends of a pipe and its hatch."""

    def __init__(self) -> None:
        self.ours, theirs = socket.socketpair()
        self.hatch, their_hatch = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.hatch.setblocking(False)
        self.pipe = Pipe(theirs, their_hatch)
        self._theirs = theirs, their_hatch

    def begin(self, number: int, *contents: bytes) -> None:
        """Send a task with files, as the router does."""
        uploads = tuple(upload_of(content) for content in contents)
        for upload in uploads:
            protocol.pass_through(self.hatch, upload.fd)
        task = Task(id=number, operation=Operation.TRANSCRIBE, uploads=uploads)
        self.ours.sendall(protocol.framed(Begin(task)))
        for upload in uploads:
            upload.close()

    def close(self) -> None:
        for end in (self.ours, self.hatch, *self._theirs):
            end.close()


def open_uploads() -> int:
    """How many files of calls this process has open."""
    links = (path.readlink() for path in Path("/proc/self/fd").iterdir() if path.is_symlink())
    return sum("memfd:upload" in str(link) for link in links)


def test_every_task_gets_its_own_files() -> None:
    """In their order, also where others without files come in between and frames arrive together."""
    ends, engine = Ends(), Reader()
    ends.begin(1, b"one", b"two")
    ends.begin(2)
    ends.ours.sendall(protocol.framed(Cancel(1)))
    ends.begin(3, b"three")
    loop = Loop(engine, ends.pipe)
    frames: list[Down] = []
    while len(frames) < 4:
        frames += ends.pipe.receive()
    for frame in frames:
        loop._take(frame)
    ends.close()

    assert engine.read == [b"one", b"two", b"three"]
    assert open_uploads() == 0


def test_files_are_closed_whatever_the_engine_does() -> None:
    """What it needs later it has mapped; a bug of its own leaves no descriptor."""
    ends = Ends()
    ends.begin(13, b"content")
    (frame,) = ends.pipe.receive()
    with pytest.raises(RuntimeError):
        Loop(Reader(), ends.pipe)._take(frame)
    ends.close()

    assert open_uploads() == 0


def test_a_file_that_does_not_arrive_is_an_error() -> None:
    """Not the next call's file, and not a wait for ever: the router is gone."""
    ends = Ends()
    upload = upload_of(b"x")
    task = Task(id=1, operation=Operation.TRANSCRIBE, uploads=(upload,))
    ends.ours.sendall(protocol.framed(Begin(task)))
    upload.close()
    ends.hatch.close()
    with pytest.raises(protocol.ProtocolError, match="did not arrive"):
        ends.pipe.receive()
    ends.close()


def test_a_descriptor_is_not_inherited() -> None:
    """Whatever a library starts, it does not get the calls' files."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    upload = upload_of(b"x")
    protocol.pass_through(ours, upload.fd)
    fd = protocol.taken_from(theirs)
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)
        upload.close()
        ours.close()
        theirs.close()


def test_settings_of_every_engine_pass_the_pipe() -> None:
    """The tag says which engine opens the model."""
    settings = WhisperSettings(path="/models/whisper", threads=2, beam_size=7)
    framed = protocol.framed(Open(settings))
    (body,) = protocol.Unframer().feed(framed)
    read = protocol.down(body)

    assert read == Open(settings)
    assert replace(settings).engine == "whisper"
