"""Reading files whose owner matters: router.yaml decides where prompts go, secret files hold tokens."""

from __future__ import annotations

import os
import stat
from pathlib import Path

MAX_CONFIG_BYTES = 2**20
MAX_SECRET_BYTES = 2**14


class Unreadable(Exception):
    """A file that is not there, not ours, or open to others.  The text says what to do."""


def read_config(path: Path, user_id: int) -> str:
    """The text of a configuration file that nobody but `user_id` and root can have written.

    Raises:
        Unreadable: it is not a plain UTF-8 file, too large, another user's, or writable by everyone.
    """
    content, found = _read(path, MAX_CONFIG_BYTES)
    if found.st_uid not in {user_id, 0}:
        raise Unreadable("belongs to another user, who could redirect your calls: chown it to yourself")
    if found.st_mode & stat.S_IWOTH:
        raise Unreadable("everyone may write to it, and so redirect your calls: chmod o-w it")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Unreadable(f"is not UTF-8 text (byte {error.start})") from None


def read_secret(path: Path, user_id: int, *, private: bool) -> str | None:
    """The text of a secret's file without the white space around it; None if there is no such file.

    `private` asks that only its owner may open it; systemd's credentials are guarded by their folder.

    Raises:
        Unreadable: it cannot be read, or others can.
    """
    try:
        content, found = _read(path, MAX_SECRET_BYTES)
    except _Absent:
        return None
    if private and found.st_uid not in {user_id, 0}:
        raise Unreadable("belongs to another user: chown it to yourself")
    if private and found.st_mode & 0o077:
        raise Unreadable("others can open it: chmod 600 it")
    try:
        return content.decode().strip()
    except UnicodeDecodeError:
        raise Unreadable("is not text") from None


class _Absent(Unreadable):
    """No such file."""


def _read(path: Path, limit_bytes: int) -> tuple[bytes, os.stat_result]:
    """Content and state of one open file, so that what is checked is what was read."""
    try:
        # Without O_NONBLOCK a named pipe would hold the start for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode):
                raise Unreadable("is not a plain file")
            content = os.read(descriptor, limit_bytes + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        raise _Absent("there is no such file") from None
    except OSError as error:
        raise Unreadable(f"cannot be read: {error.strerror}") from None
    except ValueError:  # a NUL in the path, which YAML can write as "\0"
        raise Unreadable("is not a path") from None
    if len(content) > limit_bytes:
        raise Unreadable(f"is larger than {limit_bytes // 1024} KiB")
    return content, found
