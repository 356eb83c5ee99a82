"""What came out of a model, as events: each author gives it another shape."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from typing import Any

from hybrid_router.backends import vectors
from hybrid_router.backends.errand import Unreadable
from hybrid_router.core.asks import SoundFormat
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Heard, Picture, Segment, Sound, Usage

SOUND_PIECE_BYTES = 2**16
_DATA_URL = re.compile(r"data:[^,]{0,200};base64,(.*)", re.DOTALL)
_PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")
_CODE = re.compile(r"[a-z]{2,3}")


def text(output: Any) -> str:
    """Text, whole or in pieces.

    Raises:
        Unreadable: it is something else.
    """
    if isinstance(output, str):
        return output
    if isinstance(output, list) and all(isinstance(piece, str) for piece in output):
        return "".join(output)
    raise Unreadable("answered with something that is no text")


def embedding(output: Any, index: int) -> Batch:
    """The first vector, brought to length 1.

    Raises:
        Unreadable: there is none, or it has no direction.
    """
    found = next(_vectors(output), None)
    if found is None:
        raise Unreadable("answered with something that is no vector")
    return [vectors.embedding(found, index), Finish("stop", index)]


def _vectors(output: Any) -> Iterator[list[float]]:
    if isinstance(output, dict):
        output = list(output.values())
    if not isinstance(output, list):
        return
    if output and all(isinstance(value, int | float) and not isinstance(value, bool) for value in output):
        yield [float(value) for value in output]
        return
    for inner in output:
        yield from _vectors(inner)


def address(output: Any) -> str:
    """Where the first file is: an address, or the file itself in one.

    Raises:
        Unreadable: there is none.
    """
    found = next(_addresses(output), None)
    if found is None:
        raise Unreadable("answered with something that is no file")
    return found


def _addresses(output: Any) -> Iterator[str]:
    if isinstance(output, str) and output.startswith(("http://", "https://", "data:")):
        yield output
    elif isinstance(output, dict | list):
        for inner in output.values() if isinstance(output, dict) else output:
            yield from _addresses(inner)


def within(found: str) -> bytes | None:
    """The file that an address holds; None if it only says where it is.

    Raises:
        Unreadable: it holds none.
    """
    if not found.startswith("data:"):
        return None
    match = _DATA_URL.fullmatch(found)
    try:
        return base64.b64decode(match[1], validate=True) if match else b""
    except binascii.Error:
        raise Unreadable("sent a file that is none") from None


def picture(content: bytes, index: int) -> Batch:
    """A picture of any kind that browsers show."""
    if not content.startswith(_PICTURES):
        raise Unreadable("sent a picture that is none")
    return [Picture(content, index), Finish("stop", index)]


def sound(content: bytes, wanted: SoundFormat) -> Batch:
    """A sound file of the kind that was asked for.

    Raises:
        Inexpressible: it is of another kind, which is the model's own.
    """
    found = sound_format(content)
    if found is None:
        raise Unreadable("sent a sound that is none")
    if found != wanted:
        raise Inexpressible(
            f"this model of Replicate's answers in {found}: ask for `response_format: {found}`"
        )
    pieces = range(0, len(content), SOUND_PIECE_BYTES)
    return [*(Sound(content[at : at + SOUND_PIECE_BYTES]) for at in pieces), Finish("stop")]


def sound_format(content: bytes) -> SoundFormat | None:
    """What a sound file is, by its beginning."""
    if content.startswith(b"RIFF") and content[8:12] == b"WAVE":
        return "wav"
    if content.startswith(b"OggS"):
        return "opus"
    if content.startswith(b"fLaC"):
        return "flac"
    if content.startswith((b"\xff\xf1", b"\xff\xf9")):
        return "aac"
    is_mp3 = content.startswith(b"ID3") or (content[:1] == b"\xff" and content[1:2] >= b"\xe0")
    return "mp3" if is_mp3 else None


def transcript(output: Any, language: str | None) -> Batch:
    """What was heard: a text, or a text with its parts and their times.

    Raises:
        Unreadable: it is neither.
    """
    known = output if isinstance(output, dict) else {"text": text(output)}
    told = [known.get(name) for name in ("text", "transcription", "translation")]
    whole = next((each for each in told if isinstance(each, str)), None)
    segments = [found for part in _parts(known) if (found := _segment(part)) is not None]
    if whole is None and not segments:
        raise Unreadable("answered with something that is no transcript")
    end_s = max((segment.end_s for segment in segments), default=0.0)
    if not segments and whole:
        segments = [Segment(whole, 0.0, 0.0)]
    heard = str(known.get("detected_language") or known.get("language") or language or "").lower()
    code = heard if _CODE.fullmatch(heard) else language or ""
    return [Heard(code, end_s), *segments, Finish("stop"), Usage(0, 0, sound_s=end_s)]


def _parts(known: dict[str, Any]) -> list[Any]:
    parts = known.get("segments") or known.get("chunks")
    return parts if isinstance(parts, list) else []


def _segment(part: Any) -> Segment | None:
    """A part with its times: `start` and `end`, or both in `timestamp`; the last may have no end."""
    if not isinstance(part, dict) or not isinstance(part.get("text"), str):
        return None
    start, end = part.get("start"), part.get("end")
    match part.get("timestamp"):
        case [start, end]:
            pass
    start_s = float(start) if isinstance(start, int | float) else 0.0
    return Segment(part["text"], start_s, float(end) if isinstance(end, int | float) else start_s)
