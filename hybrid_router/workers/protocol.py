"""Frames between the router and a child: four bytes of length, then msgpack.

Each child has a socketpair of its own, so a late frame of a dead child cannot be taken for its
successor's.  Lengths are checked before anything is read.  A second socketpair, the hatch, brings open
descriptors: a byte stream through asyncio cannot carry them.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from typing import TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from hybrid_router.engines.settings import AnySettings
from hybrid_router.engines.task import Answer, Opened, Task

T = TypeVar("T")

FRAME_LIMIT_BYTES = 64 * 2**20
MOST_FILES = 128  # of one task; the kernel passes no more than 253 at a time
_HEAD_BYTES = 4
_FULL = frozenset({errno.EAGAIN, errno.ENOBUFS, errno.ETOOMANYREFS})


class Open(Struct, frozen=True, array_like=True, tag="open"):
    """First frame: which model to open."""

    settings: AnySettings


class Begin(Struct, frozen=True, array_like=True, tag="begin"):
    """A task.  The descriptors of its uploads, in their order, come through the hatch before it, at once."""

    task: Task


class Cancel(Struct, frozen=True, array_like=True, tag="cancel"):
    """Nobody wants this task any more."""

    task_id: int


class Ping(Struct, frozen=True, array_like=True, tag="ping"):
    """Are you there?"""

    number: int


Down: TypeAlias = Open | Begin | Cancel | Ping


class Ready(Struct, frozen=True, array_like=True, tag="ready"):
    """The model is open."""

    opened: Opened


class Failed(Struct, frozen=True, array_like=True, tag="failed"):
    """It cannot be opened; trying again will not help."""

    reason: str


class Answers(Struct, frozen=True, array_like=True, tag="answers"):
    """What one decode step brought, for all tasks."""

    answers: list[Answer]


class Pong(Struct, frozen=True, array_like=True, tag="pong"):
    """Yes.  `step_count` grows while the engine gets on with its work; `computing`: it has some."""

    number: int
    step_count: int
    computing: bool = False


Up: TypeAlias = Ready | Failed | Answers | Pong

_DOWN: msgspec.msgpack.Decoder[Down] = msgspec.msgpack.Decoder(Down)
_UP: msgspec.msgpack.Decoder[Up] = msgspec.msgpack.Decoder(Up)


def pass_through(hatch: socket.socket, fds: Sequence[int]) -> None:
    """Give the other side of the hatch a task's descriptors: all of them or, with an error, none.

    Raises:
        ProtocolError: more than `MOST_FILES`.
        HatchFull: it has not taken those of tasks before.
        OSError: it is gone.
    """
    if len(fds) > MOST_FILES:
        raise ProtocolError(f"{len(fds)} files are over the limit of {MOST_FILES}")
    try:
        socket.send_fds(hatch, [b"."], fds)
    except OSError as error:
        if error.errno in _FULL:
            raise HatchFull("it has many files to take before") from error
        raise


def taken_from(hatch: socket.socket, count: int) -> list[int]:
    """The next task's descriptors; waits for them.

    Raises:
        ProtocolError: the other side is gone.
        FilesLost: some did not arrive, because this process has too many open.
    """
    received, fds, _, _ = socket.recv_fds(hatch, 1, count)
    if not received:
        raise ProtocolError("a file that belongs to a task did not arrive")
    if len(fds) != count:
        for fd in fds:
            os.close(fd)
        raise FilesLost("the worker holds too many files at the moment")
    for fd in fds:
        os.set_inheritable(fd, False)
    return fds


class ProtocolError(Exception):
    """The other side sent what it should not."""


class HatchFull(Exception):
    """No files can be passed now; nothing was."""


class FilesLost(Exception):
    """A task's files did not all arrive; those of the next are not affected."""


def framed(frame: Down | Up) -> bytes:
    """A frame with its length in front.

    Raises:
        ProtocolError: longer than `FRAME_LIMIT_BYTES`.
    """
    body = msgspec.msgpack.encode(frame)
    if len(body) > FRAME_LIMIT_BYTES:
        raise ProtocolError(f"a frame of {len(body)} bytes is over the limit of {FRAME_LIMIT_BYTES}")
    return len(body).to_bytes(_HEAD_BYTES, "big") + body


class Unframer:
    """Cuts a byte stream into frame bodies."""

    def __init__(self) -> None:
        self._pending = bytearray()

    def feed(self, received: bytes) -> list[bytes]:
        """Take bytes, give whole bodies.

        Raises:
            ProtocolError: a length over the limit.
        """
        self._pending += received
        bodies, at = [], 0
        while len(self._pending) - at >= _HEAD_BYTES:
            length = int.from_bytes(self._pending[at : at + _HEAD_BYTES], "big")
            if length > FRAME_LIMIT_BYTES:
                raise ProtocolError(f"a frame of {length} bytes is over the limit of {FRAME_LIMIT_BYTES}")
            end = at + _HEAD_BYTES + length
            if len(self._pending) < end:
                break
            bodies.append(bytes(self._pending[at + _HEAD_BYTES : end]))
            at = end
        del self._pending[:at]
        return bodies


def down(body: bytes) -> Down:
    """Read a frame for the child.

    Raises:
        ProtocolError: not one of ours.
    """
    return _read(_DOWN, body)


def up(body: bytes) -> Up:
    """Read a frame for the router.

    Raises:
        ProtocolError: not one of ours.
    """
    return _read(_UP, body)


def _read(decoder: msgspec.msgpack.Decoder[T], body: bytes) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"a frame does not parse: {error}") from error
