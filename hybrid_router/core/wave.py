"""How long a WAVE file plays, from its head alone.

Source: Multimedia Programming Interface and Data Specifications 1.0 (IBM and Microsoft, 1991).
"""

from __future__ import annotations

import struct

HEAD_BYTES = 4096  # the sound begins earlier in all but odd files
_CHUNK = struct.Struct("<4sI")
_FORMAT_BYTES = 16
_BYTE_RATE = struct.Struct("<I")


def length_s(head: bytes, size_bytes: int) -> float | None:
    """Seconds of a file of `size_bytes` that begins with `head`; None: it is no WAVE file, or a broken one.

    A length that the file does not have, such as the one that programs write into a pipe, is cut to what is
    there; where the sound begins behind `head`, all that is left is taken to be sound.
    """
    if head[:4] != b"RIFF" or head[8:12] != b"WAVE":
        return None
    at, bytes_per_s = 12, 0
    while at + _CHUNK.size <= len(head):
        name, chunk_bytes = _CHUNK.unpack_from(head, at)
        at += _CHUNK.size
        if name == b"data":
            break
        if name == b"fmt " and at + _FORMAT_BYTES <= len(head):
            (bytes_per_s,) = _BYTE_RATE.unpack_from(head, at + 8)
        at += chunk_bytes + chunk_bytes % 2
    else:
        at, chunk_bytes = min(at, size_bytes), size_bytes
    left_bytes = max(0, size_bytes - at)
    return min(chunk_bytes, left_bytes) / bytes_per_s if bytes_per_s else None
