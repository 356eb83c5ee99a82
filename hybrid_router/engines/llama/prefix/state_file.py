"""One state as a file: a fixed beginning, a head that says what it is, the state.

Both checksums are keyed with the folder's secret.  So a file that was torn, changed, or brought from another
folder or machine is told from ours before anything of it is parsed, here or in C++.  The secret also stands
between a file and the name of the principal in it.
"""

from __future__ import annotations

import hmac
import struct
import sys
from hashlib import blake2b
from typing import BinaryIO

import msgspec

SECRET_BYTES = 32
_MAGIC, _VERSION = b"\x89HRstate", 1
_SUM_BYTES, _NAME_BYTES = 32, 16
_MOST_HEAD_BYTES = 16 * 2**20
_FIXED = struct.Struct(f"<{len(_MAGIC)}sII{_SUM_BYTES}s")  # magic, version, bytes of the head, its checksum


class Unusable(Exception):
    """The file is not one of ours, or not whole."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """What a file holds.

    Attributes:
        space: `space_name` of whose it is.
        tokens: packed.
        state_bytes: how long the state is.
        state_sum: its checksum.
    """

    space: str
    tokens: bytes
    state_bytes: int
    state_sum: bytes


def shelf_name(key: str) -> str:
    """The folder for everything computed under `key`."""
    return blake2b(f"{sys.byteorder}\0{key}".encode(), digest_size=_NAME_BYTES).hexdigest()


def space_name(space: str, secret: bytes) -> str:
    """A space so that it cannot be read."""
    return blake2b(
        space.encode("utf-8", "surrogatepass"), key=secret, digest_size=_NAME_BYTES, person=b"space"
    ).hexdigest()


def file_name(shelf: str, space: str, tokens: bytes, secret: bytes) -> str:
    """What a state of these tokens is called, for shelf and space as the two above give them."""
    held = f"{shelf}\0{space}\0".encode() + tokens
    return blake2b(held, key=secret, digest_size=_NAME_BYTES, person=b"file").hexdigest()


def beginning(space: str, tokens: bytes, state: bytes, secret: bytes) -> bytes:
    """All of a file but the state itself."""
    head = msgspec.msgpack.encode(Head(space, tokens, len(state), _sum(state, secret)))
    return _FIXED.pack(_MAGIC, _VERSION, len(head), _sum(head, secret)) + head


def read_head(file: BinaryIO, size_bytes: int, secret: bytes) -> Head:
    """Read a file of `size_bytes` up to where the state begins.

    Raises:
        Unusable: it is not ours or not whole.
        OSError: it cannot be read.
    """
    start = file.read(_FIXED.size)
    if len(start) != _FIXED.size:
        raise Unusable("too short")
    magic, version, head_bytes, checksum = _FIXED.unpack(start)
    if magic != _MAGIC or version != _VERSION:
        raise Unusable("not a state of this version")
    if head_bytes > min(_MOST_HEAD_BYTES, size_bytes):
        raise Unusable("longer than the file")
    raw = file.read(head_bytes)
    if not hmac.compare_digest(_sum(raw, secret), checksum):
        raise Unusable("its head was changed")
    try:
        head = msgspec.msgpack.decode(raw, type=Head)
    except msgspec.DecodeError as error:
        raise Unusable("its head has another form") from error
    if _FIXED.size + head_bytes + head.state_bytes != size_bytes:
        raise Unusable("not whole")
    return head


def read_state(file: BinaryIO, head: Head, secret: bytes) -> bytes:
    """Read the state behind a head that was just read.

    Raises:
        Unusable: it is not what was written.
        OSError: it cannot be read.
    """
    state = file.read(head.state_bytes)
    if not hmac.compare_digest(_sum(state, secret), head.state_sum):
        raise Unusable("its state was changed")
    return state


def _sum(content: bytes, secret: bytes) -> bytes:
    return blake2b(content, key=secret, digest_size=_SUM_BYTES).digest()
