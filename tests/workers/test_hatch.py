"""Files of calls on their way into a child: the right ones, once, and none left open."""

from __future__ import annotations

import os
import resource
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from msgspec.structs import replace
from open_uploads import open_uploads

from hybrid_router.core.call import Operation
from hybrid_router.core.upload import upload_of
from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.task import WORKER_BUSY, Answer, Opened, Refused, Task
from hybrid_router.workers import protocol
from hybrid_router.workers.inbox import Inbox, close_files
from hybrid_router.workers.main import Loop, Pipe
from hybrid_router.workers.protocol import Answers, Begin, Cancel, Down, Open


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
        if uploads:
            protocol.pass_through(self.hatch, [upload.fd for upload in uploads])
        task = Task(id=number, operation=Operation.TRANSCRIBE, uploads=uploads)
        self.ours.sendall(protocol.framed(Begin(task)))
        for upload in uploads:
            upload.close()

    def close(self) -> None:
        for end in (self.ours, self.hatch, *self._theirs):
            end.close()


@contextmanager
def no_descriptors() -> Iterator[None]:
    """This process can open nothing more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest_free = os.dup(0)
    os.close(lowest_free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


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
        assert isinstance(frame, Begin | Cancel)
        loop._take(frame)
    ends.close()

    assert engine.read == [b"one", b"two", b"three"]
    assert len(open_uploads()) == 0


def test_files_are_closed_whatever_the_engine_does() -> None:
    """What it needs later it has mapped; a bug of its own leaves no descriptor."""
    ends = Ends()
    ends.begin(13, b"content")
    (frame,) = ends.pipe.receive()
    assert isinstance(frame, Begin)
    with pytest.raises(RuntimeError):
        Loop(Reader(), ends.pipe)._take(frame)
    ends.close()

    assert len(open_uploads()) == 0


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


def test_files_without_room_are_their_own_task_s_end() -> None:
    """A process that has too many open refuses that task; the next one gets its files, and no others."""
    ends, engine = Ends(), Reader()
    ends.begin(1, b"one", b"two")
    ends.ours.sendall(protocol.framed(Cancel(7)))
    with no_descriptors():
        assert ends.pipe.receive() == [Cancel(7)]
    ends.begin(2, b"three")
    (frame,) = ends.pipe.receive()
    assert isinstance(frame, Begin)
    Loop(engine, ends.pipe)._take(frame)
    (body,) = protocol.Unframer().feed(ends.ours.recv(4096))
    answers = protocol.up(body)
    ends.close()

    assert isinstance(answers, Answers)
    assert [(type(answer), answer.id) for answer in answers.answers] == [(Refused, 1)]
    assert isinstance(answers.answers[0], Refused)
    assert answers.answers[0].code == WORKER_BUSY
    assert engine.read == [b"three"]
    assert len(open_uploads()) == 0


def test_a_task_that_was_not_taken_is_cancelled_with_its_files() -> None:
    """At once, whatever the engine computes meanwhile, and the engine never hears of it."""
    ends, inbox = Ends(), Inbox()
    ends.begin(1, b"one")
    ends.begin(2, b"two", b"three")
    frames: list[Down] = []
    while len(frames) < 2:
        frames += ends.pipe.receive()
    for frame in frames:
        assert isinstance(frame, Begin)
        inbox.put(frame)
    inbox.put(Cancel(2))
    assert len(open_uploads()) == 1
    inbox.put(Cancel(5))
    first = inbox.take(wait=True)
    assert isinstance(first, Begin)
    close_files(first)
    ends.close()

    assert first.task.id == 1
    assert inbox.take(wait=True) == Cancel(5)
    assert inbox.take(wait=False) is None
    assert len(open_uploads()) == 0


def test_nobody_waits_for_an_inbox_that_is_closed() -> None:
    """The router is gone: what came is given out, then nothing."""
    inbox = Inbox()
    inbox.put(Cancel(1))
    inbox.close()

    assert [inbox.take(wait=True), inbox.take(wait=True)] == [Cancel(1), None]


def test_a_task_s_files_are_passed_all_or_none() -> None:
    """A full hatch passes nothing; once there is room the next files are their own task's."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    upload = upload_of(b"x")
    passed_count = taken_count = 0
    with suppress(protocol.HatchFull):
        while True:
            protocol.pass_through(ours, [upload.fd] * 2)
            passed_count += 1
    with pytest.raises(protocol.ProtocolError, match="limit"):
        protocol.pass_through(ours, [upload.fd] * (protocol.MOST_FILES + 1))
    theirs.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            for fd in protocol.taken_from(theirs, 2):
                os.close(fd)
            taken_count += 1
    protocol.pass_through(ours, [upload.fd] * protocol.MOST_FILES)
    for fd in protocol.taken_from(theirs, protocol.MOST_FILES):
        os.close(fd)
    upload.close()
    ours.close()
    theirs.close()

    assert taken_count == passed_count > 0


def test_a_descriptor_is_not_inherited() -> None:
    """Whatever a library starts, it does not get the calls' files."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    upload = upload_of(b"x")
    protocol.pass_through(ours, [upload.fd])
    (fd,) = protocol.taken_from(theirs, 1)
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
