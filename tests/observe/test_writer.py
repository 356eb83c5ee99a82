"""Lines reach their reader in order, or are counted; whoever writes never waits."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from hybrid_router.observe.writer import Writer


def lost_line(count: int) -> bytes:
    """What the tests' writers say about losses."""
    return f"lost {count}\n".encode()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe's ends: (read, write); a test may close either."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        with suppress(OSError):
            os.close(fd)


def read_all(fd: int) -> bytes:
    """Everything until the writers are gone."""
    return b"".join(iter(lambda: os.read(fd, 65_536), b""))


def test_lines_arrive_whole_and_in_order(pipe: tuple[int, int]) -> None:
    """Whatever the batches, the reader sees every line, in the order of writing."""
    writer = Writer(pipe[1], lost_line, batch_s=0.001)
    os.close(pipe[1])
    for number in range(200):
        writer.write(b"line %d\n" % number)
    writer.close()

    assert read_all(pipe[0]).splitlines() == [b"line %d" % number for number in range(200)]
    assert writer.lost_count == 0


def test_an_urgent_line_does_not_wait_for_company(pipe: tuple[int, int]) -> None:
    """An error is readable at once, however long a batch may wait."""
    writer = Writer(pipe[1], lost_line, batch_s=3600)
    writer.write(b"first\n")
    writer.write(b"error\n", urgent=True)

    assert os.read(pipe[0], 100) == b"first\nerror\n"
    writer.close()


def test_a_full_batch_does_not_wait(pipe: tuple[int, int]) -> None:
    """A batch of the named size is written at once."""
    writer = Writer(pipe[1], lost_line, batch_s=3600, batch_bytes=10)
    writer.write(b"0123456789\n")

    assert os.read(pipe[0], 100) == b"0123456789\n"
    writer.close()


def test_a_closed_reader_costs_lines_only(pipe: tuple[int, int]) -> None:
    """When the reader is gone, writing goes on without an error and every line is counted."""
    os.close(pipe[0])
    writer = Writer(pipe[1], lost_line)
    for _ in range(3):
        writer.write(b"nobody reads this\n", urgent=True)
    writer.close()
    writer.write(b"too late\n")

    assert writer.lost_count == 4


def test_no_place_to_write_costs_lines_only() -> None:
    """Started with standard error closed, all lines are lost and counted."""
    writer = Writer(None, lost_line)
    writer.write(b"nowhere\n")
    writer.close()

    assert writer.lost_count == 1


def test_our_descriptor_survives_the_original(pipe: tuple[int, int]) -> None:
    """Closing standard error and reusing its number sends no line to the new owner."""
    writer = Writer(pipe[1], lost_line)
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), pipe[1])
    writer.write(b"private\n")
    writer.close()

    assert read_all(pipe[0]) == b"private\n"
    theirs.setblocking(False)
    with pytest.raises(BlockingIOError):
        theirs.recv(100)
    ours.close()
    theirs.close()


@pytest.mark.parametrize("blocking", [True, False])
def test_a_blocked_reader_never_blocks_the_caller(pipe: tuple[int, int], blocking: bool) -> None:
    """A reader that has stopped costs what does not fit; when it is back it learns how much."""
    os.set_blocking(pipe[1], blocking)
    writer = Writer(pipe[1], lost_line, batch_s=0.001, limit_bytes=100_000)
    line = b"x" * 999 + b"\n"
    for _ in range(400):  # 400 kB: the pipe takes 64, the buffer 100
        writer.write(line)
    lost_count = writer.lost_count
    assert lost_count > 200

    gathered: list[bytes] = []
    reader = threading.Thread(target=lambda: gathered.append(read_all(pipe[0])))
    os.close(pipe[1])  # the writer's own copy stays
    reader.start()
    writer.close(timeout_s=10)
    reader.join()

    lines = gathered[0].splitlines(keepends=True)
    told = [one for one in lines if one.startswith(b"lost")]
    assert sum(int(one.split()[1]) for one in told) == lost_count == writer.lost_count
    assert lines.count(line) == 400 - lost_count
    assert len(lines) == 400 - lost_count + len(told)


def test_closing_on_a_blocked_reader_is_bounded(pipe: tuple[int, int]) -> None:
    """The end of the process does not wait for a reader that has stopped; the rest is counted."""
    writer = Writer(pipe[1], lost_line, limit_bytes=10_000_000)
    for _ in range(1000):
        writer.write(b"x" * 999 + b"\n")
    writer.close(timeout_s=0.2)

    assert writer.lost_count > 0


def test_a_torn_line_does_not_spoil_the_next(pipe: tuple[int, int]) -> None:
    """After a write that failed inside a long line, the next line starts on its own."""
    sender, receiver = socket.socketpair()
    with sender, receiver:
        sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4608)
        writer = Writer(sender.fileno(), lost_line, batch_s=0.001)
        sender.close()
        writer.write(b"y" * 60_000 + b"\n", urgent=True)
        taken = receiver.recv(65_536)
        assert taken.startswith(b"y")
        gathered: list[bytes] = []
        reader = threading.Thread(target=lambda: gathered.extend(iter(lambda: receiver.recv(65_536), b"")))
        reader.start()
        writer.write(b"next\n", urgent=True)
        writer.close(timeout_s=10)
        reader.join()

    assert (taken + b"".join(gathered)).splitlines() == [b"y" * 60_000, b"next"]
