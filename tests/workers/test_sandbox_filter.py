"""The filter of system calls, run instruction by instruction: also for architectures that this is not."""

from __future__ import annotations

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.workers.syscalls import MACHINES, NUMBERS, Machine, program, refusals

OWN_PID = 4711
ALLOWED, KILLED = 0x7FFF_0000, 0x8000_0000
EVERY = pytest.mark.parametrize("machine", MACHINES.values(), ids=MACHINES)
# Calls without which nothing runs: (x86-64, aarch64).
NEEDED = {
    "read": (0, 63),
    "write": (1, 64),
    "mmap": (9, 222),
    "openat": (257, 56),
    "futex": (202, 98),
    "recvmsg": (47, 212),
    "sched_setaffinity": (203, 122),
    "memfd_create": (319, 279),
    "exit_group": (231, 94),
}
CONDITIONAL = {
    "socketpair",
    "sendto",
    "clone",
    "kill",
    "tgkill",
    "rt_sigqueueinfo",
    "rt_tgsigqueueinfo",
    "prlimit64",
    "prctl",
    "ioctl",
}


def verdict(
    machine: Machine, number: int, *arguments: int, gpu: bool = False, arch: int | None = None
) -> int:
    """What the kernel would do with a call, by its own rules for such programs."""
    padded = (*arguments, *[0] * (6 - len(arguments)))
    call = struct.pack("<IIQ6Q", number, machine.arch if arch is None else arch, 0, *padded)
    steps, at, held = program(machine, refusals(OWN_PID, gpu=gpu)), 0, 0
    assert len(steps) < 4096
    while True:
        code, if_true, if_false, operand = steps[at]
        assert max(if_true, if_false) < 256
        at += 1
        match code:
            case 0x20:
                (held,) = struct.unpack_from("<I", call, operand)
            case 0x54:
                held &= operand
            case 0x15:
                at += if_true if held == operand else if_false
            case 0x35:
                at += if_true if held >= operand else if_false
            case 0x06:
                return operand
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def number_of(machine: Machine, name: str) -> int | None:
    return {**NUMBERS, **NEEDED}[name][machine.column]


def refused(answer: int) -> bool:
    """Whether a verdict is an error for the caller."""
    return answer & 0xFFFF_0000 == 0x0005_0000 and answer & 0xFFFF in (errno.EACCES, errno.ENOSYS)


@EVERY
def test_what_is_listed_is_refused_and_what_is_needed_is_not(machine: Machine) -> None:
    """On every architecture: each number of the list whatever its arguments, none of those below all life."""
    for name in NUMBERS:
        number = number_of(machine, name)
        if number is not None and name not in CONDITIONAL:
            assert refused(verdict(machine, number, 1, 2, 3)), name
    for name in NEEDED:
        number = number_of(machine, name)
        assert number is not None
        assert verdict(machine, number, 1, 2, 3) == ALLOWED, name


@EVERY
@given(number=st.integers(0, 600), arguments=st.lists(st.integers(0, 2**64 - 1), min_size=6, max_size=6))
def test_what_is_not_listed_is_allowed(machine: Machine, number: int, arguments: list[int]) -> None:
    """The filter gets in nobody's way whom it does not mean."""
    listed = {number_of(machine, name) for name in NUMBERS}

    assert number in listed or verdict(machine, number, *arguments) == ALLOWED


@EVERY
def test_numbers_of_other_architectures_are_no_way_around(machine: Machine) -> None:
    """A 32-bit call, whose number means another one, ends the process; x32 has no calls here."""
    assert verdict(machine, 41, arch=0x4000_0003) == KILLED
    assert refused(verdict(machine, 0x4000_0000 | 41))


@EVERY
def test_a_process_may_signal_itself_alone(machine: Machine) -> None:
    """Also not its group, and not everybody; limits of its own it may lower."""
    for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        number = number_of(machine, name)
        assert number is not None
        assert verdict(machine, number, OWN_PID) == ALLOWED
        assert all(refused(verdict(machine, number, pid)) for pid in (0, 1, OWN_PID + 1, 2**64 - 1))
    limit = number_of(machine, "prlimit64")
    assert limit is not None
    assert verdict(machine, limit, 0) == verdict(machine, limit, OWN_PID) == ALLOWED
    assert refused(verdict(machine, limit, 1))


@EVERY
def test_a_new_thread_is_no_new_process(machine: Machine) -> None:
    """Threads as C libraries start them; no fork, and none that is a thread in name only."""
    clone = number_of(machine, "clone")
    assert clone is not None
    assert verdict(machine, clone, 0x003D_0F00) == ALLOWED
    assert refused(verdict(machine, clone, 0x0120_0011))
    assert refused(verdict(machine, clone, 0x0000_4111))


@EVERY
def test_a_message_names_no_receiver(machine: Machine) -> None:
    """An address anywhere in 64 bits is one."""
    send = number_of(machine, "sendto")
    assert send is not None
    assert verdict(machine, send, 3, 4, 5, 0, 0, 0) == ALLOWED
    assert refused(verdict(machine, send, 3, 4, 5, 0, 0x7FFF_0000_1000, 16))
    assert refused(verdict(machine, send, 3, 4, 5, 0, 1 << 32, 16))


@EVERY
def test_a_driver_gets_sockets_that_reach_nobody(machine: Machine) -> None:
    """With a GPU: unix streams, as drivers open them; still no network, no datagram, no connection."""
    made, connect, pair = (number_of(machine, name) for name in ("socket", "connect", "socketpair"))
    assert made is not None
    assert connect is not None
    assert pair is not None
    stream = socket.SOCK_STREAM | socket.SOCK_CLOEXEC
    for kind in (stream, socket.SOCK_SEQPACKET):
        assert verdict(machine, made, socket.AF_UNIX, kind, gpu=True) == ALLOWED
        assert refused(verdict(machine, made, socket.AF_UNIX, kind))
    assert refused(verdict(machine, made, socket.AF_UNIX, socket.SOCK_DGRAM, gpu=True))
    assert all(
        refused(verdict(machine, made, family, stream, gpu=True))
        for family in range(64)
        if family != socket.AF_UNIX
    )
    assert refused(verdict(machine, connect, 3, gpu=True))
    assert verdict(machine, pair, socket.AF_UNIX, stream) == ALLOWED
    assert refused(verdict(machine, pair, socket.AF_INET, stream))


@EVERY
def test_nothing_is_typed_into_a_terminal_and_no_parent_outlived(machine: Machine) -> None:
    """TIOCSTI, and switching off the signal that comes with the router's death; other requests pass."""
    ioctl, prctl = number_of(machine, "ioctl"), number_of(machine, "prctl")
    assert ioctl is not None
    assert prctl is not None
    assert refused(verdict(machine, ioctl, 0, 0x5412))
    assert refused(verdict(machine, prctl, 1, 0))
    assert verdict(machine, ioctl, 0, 0x5401) == verdict(machine, prctl, 15, 0) == ALLOWED
