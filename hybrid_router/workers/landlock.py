"""Which files a child can reach: Landlock, which any process may put upon itself.

Kernels know more or less of it; what one does not know is left out.

Source: landlock(7); the kernel's Documentation/userspace-api/landlock.rst.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every architecture
_VERSION = 1
_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 1 << 1, 1 << 2, 1 << 3
_MAKE_AND_REMOVE = sum(1 << bit for bit in range(4, 13))
_REFER, _TRUNCATE, _IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV
_ALL_TCP = 0b11
_ALL_SCOPES = 0b11  # abstract unix sockets and signals

_READ = _READ_FILE | _READ_DIR
_KEEP = _READ | _WRITE_FILE | _TRUNCATE | _REFER | 1 << 5 | 1 << 7 | 1 << 8  # remove and make files, folders
_DEVICE = _READ | _WRITE_FILE | _IOCTL_DEV


class Reach(Struct, frozen=True):
    """Files and folders, with all that lies below them.  What is not there is not missed.

    `readable`: to read; `kept`: folders to make files in and to remove them; `devices`: to read, write and
    control.
    """

    readable: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()


class _Knows(Struct, frozen=True):
    """What a version of Landlock can restrict."""

    files: int
    tcp: int = 0
    scopes: int = 0


_BASE = _EXECUTE | _WRITE_FILE | _READ | _MAKE_AND_REMOVE
_VERSIONS: Mapping[int, _Knows] = MappingProxyType(
    {
        1: _Knows(_BASE),
        2: _Knows(_BASE | _REFER),
        3: _Knows(_BASE | _REFER | _TRUNCATE),
        4: _Knows(_BASE | _REFER | _TRUNCATE, _ALL_TCP),
        5: _Knows(_BASE | _REFER | _TRUNCATE | _IOCTL_DEV, _ALL_TCP),
        6: _Knows(_BASE | _REFER | _TRUNCATE | _IOCTL_DEV, _ALL_TCP, _ALL_SCOPES),
    }
)


def known_version() -> int:
    """What the kernel knows of Landlock; below 0: nothing, and `errno` says why."""
    return _syscall(_CREATE_RULESET, None, 0, _VERSION)


def confine(reach: Reach) -> str | None:
    """Reach nothing else from now on, in this thread and those it starts.  Returns why that cannot be done.

    Needs `no_new_privs`.
    """
    version = known_version()
    if version < 0:
        return _why_not(ctypes.get_errno())
    try:
        _restrict(reach, _VERSIONS[min(version, max(_VERSIONS))])
    except OSError as error:  # as in the seventeenth of nested sandboxes
        return f"files are not confined ({error})"
    return None


def _restrict(reach: Reach, knows: _Knows) -> None:
    attributes = struct.pack("QQQ", knows.files, knows.tcp, knows.scopes)
    ruleset = _done(_syscall(_CREATE_RULESET, attributes, _size_bytes(knows), 0))
    try:
        for paths, rights in ((reach.readable, _READ), (reach.kept, _KEEP), (reach.devices, _DEVICE)):
            _allow(ruleset, paths, rights & knows.files)
        _done(_syscall(_RESTRICT_SELF, ruleset, 0))
    finally:
        os.close(ruleset)


def _why_not(number: int) -> str:
    if number == errno.EOPNOTSUPP:
        return "files are not confined: Landlock is switched off (the kernel's lsm= parameter)"
    return f"files are not confined: the kernel has no Landlock ({os.strerror(number)})"


def _size_bytes(knows: _Knows) -> int:
    """How much of the attributes this version reads: a kernel refuses what it does not know, even zeros."""
    return 8 * (1 + (knows.tcp > 0) + (knows.scopes > 0))


def _allow(ruleset: int, paths: Iterable[str], rights: int) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                folder = stat.S_ISDIR(os.fstat(fd).st_mode)
                rule = struct.pack("=Qi", rights if folder else rights & _OF_FILES, fd)
                _done(_syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0))
            finally:
                os.close(fd)


def _syscall(number: int, *arguments: bytes | int | None) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    passed = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    return int(libc.syscall(ctypes.c_long(number), *passed))


def _done(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"Landlock: {os.strerror(number)}")
    return result
