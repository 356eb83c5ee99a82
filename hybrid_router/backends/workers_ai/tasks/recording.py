"""What a recording is, told by its first bytes: clients' words for it are often wrong."""

from __future__ import annotations

import re

from hybrid_router.core import wave
from hybrid_router.core.upload import Upload

UNKNOWN = "application/octet-stream"
_HEAD_BYTES = 64
_TOLD = re.compile(r"(?:audio|video)/[\w.+-]{1,64}", re.ASCII)
_BY_HEAD = (
    (b"ID3", "audio/mpeg"),
    (b"OggS", "audio/ogg"),
    (b"fLaC", "audio/flac"),
    (b"#!AMR", "audio/amr"),
    (b"\x1a\x45\xdf\xa3", "audio/webm"),
)
_SYNC, _SYNC_BITS, _LAYER_BITS = 0xFF, 0xE0, 0x06


def media_type(upload: Upload) -> str:
    """The type that its bytes show, else the one that the client told."""
    if not upload.size_bytes:
        return UNKNOWN
    with upload.mapped() as pages:
        found = kind(pages[:_HEAD_BYTES])
    told = upload.media_type.partition(";")[0].strip().lower()
    return found or (told if _TOLD.fullmatch(told) else UNKNOWN)


def length_s(upload: Upload) -> float:
    """How long it plays, as the head of a WAVE file says; 0: it is none."""
    with upload.mapped() as pages:
        return wave.length_s(pages[: wave.HEAD_BYTES], upload.size_bytes) or 0.0


def kind(head: bytes) -> str:
    """The media type of a sound file that begins so; empty: no known one."""
    for start, found in _BY_HEAD:
        if head.startswith(start):
            return found
    if head[:4] == b"RIFF" and head[8:12] == b"WAVE":
        return "audio/wav"
    if head[4:8] == b"ftyp":
        return "audio/mp4"
    return _of_frame(head)


def _of_frame(head: bytes) -> str:
    """MPEG audio without a file's head: a frame begins with eleven bits that are set."""
    if len(head) < 2 or head[0] != _SYNC or head[1] & _SYNC_BITS != _SYNC_BITS:  # noqa: PLR2004
        return ""
    return "audio/mpeg" if head[1] & _LAYER_BITS else "audio/aac"
