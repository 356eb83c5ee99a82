"""What a child may not ask of the kernel: a seccomp filter, written here instruction by instruction.

It lists what is refused, not what is allowed: inference libraries and GPU drivers ask for much that no list
of ours would hold.  Refused calls fail with EACCES, as a missing permission would, so that a library goes
on without.  Numbers are of x86-64 and aarch64; elsewhere there is no filter, and the log says so.

Source: seccomp(2); the kernel's Documentation/userspace-api/seccomp_filter.rst.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import socket
import struct
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from msgspec import Struct

_PR_SET_PDEATHSIG = 1
_CLONE_THREAD = 0x0001_0000
_TIOCSTI = 0x5412
_SOCKET_TYPE_MASK = 0xF

_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_TSYNC = 1
_RET_ALLOW = 0x7FFF_0000
_RET_ERRNO = 0x0005_0000
_RET_KILL_PROCESS = 0x8000_0000
# struct seccomp_data: int nr, __u32 arch, __u64 instruction_pointer, __u64 args[6]; little-endian.
_AT_NUMBER, _AT_ARCH, _AT_ARGUMENTS = 0, 4, 16
_LOAD, _AND, _IF_EQUAL, _IF_AT_LEAST, _RETURN = 0x20, 0x54, 0x15, 0x35, 0x06
_X32_BIT = 0x4000_0000
_WHOLE = 0xFFFF_FFFF


class Machine(Struct, frozen=True):
    """An architecture: its AUDIT_ARCH, which of a pair of numbers is its own, and that of seccomp(2)."""

    arch: int
    column: int
    seccomp: int


MACHINES: Mapping[str, Machine] = MappingProxyType(
    {"x86_64": Machine(0xC000_003E, 0, 317), "aarch64": Machine(0xC000_00B7, 1, 277)}
)

NUMBERS: Mapping[str, tuple[int | None, int | None]] = MappingProxyType(
    {
        # a network, and whom one could talk to without one
        "socket": (41, 198),
        "socketpair": (53, 199),
        "connect": (42, 203),
        "sendto": (44, 206),
        "shmget": (29, 194),
        "semget": (64, 190),
        "msgget": (68, 186),
        "mq_open": (240, 180),
        # other programs
        "fork": (57, None),
        "vfork": (58, None),
        "clone": (56, 220),
        "clone3": (435, 435),
        "execve": (59, 221),
        "execveat": (322, 281),
        # other processes
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
        "kcmp": (312, 272),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "pidfd_send_signal": (424, 424),
        "kill": (62, 129),
        "tkill": (200, 130),
        "tgkill": (234, 131),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "prlimit64": (302, 261),
        "setpgid": (109, 154),
        "setsid": (112, 157),
        "prctl": (157, 167),
        "ioctl": (16, 29),
        # what does all of that by other means, or has been the kernel's weak side
        "io_uring_setup": (425, 425),
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "bpf": (321, 280),
        "perf_event_open": (298, 241),
        "userfaultfd": (323, 282),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
        "unshare": (272, 97),
        "setns": (308, 268),
        "mount": (165, 40),
        "umount2": (166, 39),
        "move_mount": (429, 429),
        "open_tree": (428, 428),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_by_handle_at": (304, 265),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
    }
)


class Check(Struct, frozen=True):
    """A condition on 32 bits of a call's arguments: their `word`-th, two to an argument, the lower first.

    After `mask`, they must be one of `among`; with `forbidden`, none of them.
    """

    word: int
    among: tuple[int, ...]
    mask: int = _WHOLE
    forbidden: bool = False


class Refusal(Struct, frozen=True):
    """A system call that fails with `error`, unless it passes every check; without checks, always."""

    name: str
    checks: tuple[Check, ...] = ()
    error: int = errno.EACCES


Instruction = tuple[int, int, int, int]


def refusals(own_pid: int, *, gpu: bool) -> list[Refusal]:
    """What is refused.

    `gpu`: a driver is to be loaded.  CUDA listens on a nameless unix socket of its own; it may have that, as
    long as it can connect to nobody.
    """
    own, unix = (Check(0, (own_pid,)),), Check(0, (socket.AF_UNIX,))
    streams = Check(2, (socket.SOCK_STREAM, socket.SOCK_SEQPACKET), mask=_SOCKET_TYPE_MASK)
    special = [
        Refusal("socket", (unix, streams) if gpu else ()),
        Refusal("socketpair", (unix,)),
        Refusal("sendto", (Check(8, (0,)), Check(9, (0,)))),  # without an address
        Refusal("clone", (Check(0, (_CLONE_THREAD,), mask=_CLONE_THREAD),)),
        # Its flags lie where a filter cannot look.  Told that there is none, libraries fall back on clone.
        Refusal("clone3", error=errno.ENOSYS),
        Refusal("io_uring_setup", error=errno.ENOSYS),
        *(Refusal(name, own) for name in ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")),
        Refusal("prlimit64", (Check(0, (0, own_pid)),)),
        Refusal("prctl", (Check(0, (_PR_SET_PDEATHSIG,), forbidden=True),)),
        Refusal("ioctl", (Check(2, (_TIOCSTI,), forbidden=True),)),
    ]
    named = {refusal.name for refusal in special}
    return [*special, *(Refusal(name) for name in NUMBERS if name not in named)]


def program(machine: Machine, refused: Sequence[Refusal]) -> list[Instruction]:
    """The filter: (code, jump if true, jump if false, operand) each."""
    return [
        (_LOAD, 0, 0, _AT_ARCH),
        (_IF_EQUAL, 1, 0, machine.arch),
        (_RETURN, 0, 0, _RET_KILL_PROCESS),  # 32-bit calls have other numbers
        (_LOAD, 0, 0, _AT_NUMBER),
        (_IF_AT_LEAST, 0, 1, _X32_BIT),
        (_RETURN, 0, 0, _RET_ERRNO | errno.ENOSYS),
        *(step for refusal in refused for step in _refusing(machine, refusal)),
        (_RETURN, 0, 0, _RET_ALLOW),
    ]


def _refusing(machine: Machine, refusal: Refusal) -> list[Instruction]:
    number = NUMBERS[refusal.name][machine.column]
    if number is None:
        return []
    refuse = (_RETURN, 0, 0, _RET_ERRNO | refusal.error)
    block = [step for check in refusal.checks for step in _checking(check, refuse)]
    block.append((_RETURN, 0, 0, _RET_ALLOW) if refusal.checks else refuse)
    return [(_IF_EQUAL, 0, len(block), number), *block]


def _checking(check: Check, refuse: Instruction) -> Iterator[Instruction]:
    """Fall through if the check is passed."""
    yield (_LOAD, 0, 0, _AT_ARGUMENTS + 4 * check.word)
    if check.mask != _WHOLE:
        yield (_AND, 0, 0, check.mask)
    left = len(check.among)
    for value in check.among:
        left -= 1
        if check.forbidden:
            yield (_IF_EQUAL, 0, 1, value)
            yield refuse
        else:
            yield (_IF_EQUAL, left + 1, 0, value)
    if not check.forbidden:
        yield refuse


def filter_calls(*, gpu: bool) -> str | None:
    """Refuse them from now on, in all threads.  Returns why that cannot be done; None: it is.

    Needs `no_new_privs`.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None or struct.calcsize("P") != 8:  # noqa: PLR2004 - bytes of a pointer
        return f"there is no filter of system calls for {platform.machine()}"
    return install(machine, program(machine, refusals(os.getpid(), gpu=gpu)))


def install(machine: Machine, steps: Sequence[Instruction]) -> str | None:
    """Put a filter upon all threads, beside those they have.  Returns why that cannot be done."""
    packed = b"".join(struct.pack("HBBI", *step) for step in steps)
    instructions = ctypes.create_string_buffer(packed)
    filter_program = struct.pack("HxxxxxxP", len(steps), ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    result = libc.syscall(
        ctypes.c_long(machine.seccomp),
        ctypes.c_ulong(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_ulong(_SECCOMP_FILTER_FLAG_TSYNC),
        ctypes.c_char_p(filter_program),
    )
    if result == 0:
        return None
    reason = os.strerror(ctypes.get_errno()) if result < 0 else "a thread has a filter of its own"
    return f"the kernel takes no filter of system calls ({reason})"
