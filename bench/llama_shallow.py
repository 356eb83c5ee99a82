"""A model with only its first layers: a draft model of the same vocabulary.

Written by hand: the gguf library takes seconds for so large a vocabulary.
"""

from __future__ import annotations

import struct
from pathlib import Path

_ALIGNMENT = 32
_STRING, _ARRAY = 8, 9
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}


def shallow(source: Path, target: Path, layers_count: int) -> Path:
    """Write `source` to `target`, without the layers from `layers_count` on."""
    packed = source.read_bytes()
    _, version, tensors_count, keys_count = struct.unpack_from("<4sIQQ", packed)
    keys_end = 24
    for _ in range(keys_count):
        keys_end = _over_value(packed, _over_text(packed, keys_end))
    keys = bytearray(packed[24:keys_end])
    count_at = keys.index(b"llama.block_count") + len(b"llama.block_count") + 4
    struct.pack_into("<I", keys, count_at, layers_count)
    described, numbers = _tensors(packed, keys_end, tensors_count, layers_count)
    header = struct.pack("<4sIQQ", b"GGUF", version, len(described), keys_count) + keys + b"".join(described)
    with target.open("wb") as file:
        file.write(_padded(header))
        file.writelines(numbers)
    return target


def _tensors(packed: bytes, at: int, count: int, layers_count: int) -> tuple[list[bytes], list[bytes]]:
    """The descriptions of the tensors that stay, and their numbers."""
    found: list[tuple[bytes, bytes, int]] = []
    for _ in range(count):
        end = _over_text(packed, at)
        name = packed[at + 8 : end]
        (dimensions_count,) = struct.unpack_from("<I", packed, end)
        offset_at = end + 4 + 8 * dimensions_count + 4
        found.append((name, packed[at:offset_at], struct.unpack_from("<Q", packed, offset_at)[0]))
        at = offset_at + 8
    start = len(_padded(packed[:at]))
    ends = sorted([*(offset for _, _, offset in found), len(packed) - start])
    described: list[bytes] = []
    numbers: list[bytes] = []
    end = 0
    for name, description, offset in found:
        if not name.startswith(b"blk.") or int(name.split(b".")[1]) < layers_count:
            described.append(description + struct.pack("<Q", end))
            numbers.append(_padded(packed[start + offset : start + ends[ends.index(offset) + 1]]))
            end += len(numbers[-1])
    return described, numbers


def _over_text(packed: bytes, at: int) -> int:
    return int(at + 8 + struct.unpack_from("<Q", packed, at)[0])


def _over_value(packed: bytes, at: int) -> int:
    (kind,) = struct.unpack_from("<I", packed, at)
    if kind == _STRING:
        return _over_text(packed, at + 4)
    if kind != _ARRAY:
        return at + 4 + _SIZES[kind]
    inner, count = struct.unpack_from("<IQ", packed, at + 4)
    at += 16
    if inner != _STRING:
        return int(at + count * _SIZES[inner])
    for _ in range(count):
        at = _over_text(packed, at)
    return at


def _padded(packed: bytes) -> bytes:
    return packed + b"\0" * (-len(packed) % _ALIGNMENT)
