"""What the emulator says when no model does: a pure function of the call, for every operation but text.

Of one family and operation there is one answer, so a test knows it in advance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.api.workers_ai.forms.sound import COMPLETE, INCOMPLETE
from hybrid_router.catalogue.families import Family
from hybrid_router.catalogue.usual import usual
from hybrid_router.core.asks import Classification, Painting, Speech, Transcription, Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import (
    Batch,
    Embedding,
    Event,
    Finish,
    Heard,
    Label,
    Picture,
    Relevance,
    Segment,
    Sound,
    Text,
    Usage,
    Verdict,
    Word,
)
from hybrid_router.core.upload import Upload
from hybrid_router.emulator import tokens
from hybrid_router.emulator.stand_ins import jpeg, meaning, mp3, png, recordings, wav

DIMENSIONS = 384
BOX = (16.0, 16.0, 240.0, 240.0)
VIOLENT = "S1"
_PIECE_BYTES = 4096
_MOST_SIDE = 4096
_CERTAIN = 0.99


class Part(Struct, frozen=True):
    """Whom the emulator plays: the family of the model, and how wide its vectors are."""

    family: Family
    dimensions: int = DIMENSIONS


Act = Callable[[Call, Part], list[Batch]]


def _texts(call: Call) -> list[str]:
    return [prompt if isinstance(prompt, str) else str(prompt) for prompt in call.prompts]


def _bytes(upload: Upload) -> bytes:
    with upload.mapped() as pages:
        return pages[:]


def _counted(texts: list[str], written: int = 0) -> Usage:
    return Usage(sum(tokens.count(text) for text in texts), written)


def embed(call: Call, part: Part) -> list[Batch]:
    """A vector for each text."""
    texts = _texts(call)
    batches: list[Batch] = [
        [Embedding(meaning.vector(text, part.dimensions), index), Finish("stop", index)]
        for index, text in enumerate(texts)
    ]
    return [*batches, [_counted(texts)]]


def rerank(call: Call, part: Part) -> list[Batch]:
    """A score for each document."""
    texts = _texts(call)
    events: list[Event] = []
    for index, text in enumerate(texts):
        events += [Relevance(meaning.relevance(call.query, text), index), Finish("stop", index)]
    return [events, [_counted([call.query, *texts])]]


def transcribe(call: Call, part: Part) -> list[Batch]:
    """The words that the recording holds, or the usual ones, spread evenly over it."""
    ask = call.ask if isinstance(call.ask, Transcription) else Transcription()
    said, duration_s = recordings.heard(_bytes(call.uploads[0]))
    each_s = duration_s / max(1, len(said.split()))
    words = tuple(
        Word(f" {word}", place * each_s, (place + 1) * each_s, _CERTAIN)
        for place, word in enumerate(said.split())
    )
    segment = Segment(f" {said}", 0.0, duration_s, words=words)
    heard = Heard(ask.language or "en", duration_s, _CERTAIN)
    return [[heard], [segment, Finish("stop"), Usage(0, 0, sound_s=duration_s)]]


def speak(call: Call, part: Part) -> list[Batch]:
    """A file that holds the words and lasts as long as they do, in pieces."""
    ask = call.ask if isinstance(call.ask, Speech) else Speech()
    text = "".join(_texts(call))
    duration_s = recordings.spoken_s(text)
    match ask.format:
        case "mp3":
            content = mp3.sound(text, duration_s)
        case "wav":
            content = wav.sound(text, duration_s)
        case "pcm":
            content = wav.samples(duration_s)
        case other:
            raise CallRefused(f"the emulator makes no {other}; ask for mp3 or linear16", param="/encoding")
    pieces: list[Batch] = [
        [Sound(content[place : place + _PIECE_BYTES])] for place in range(0, len(content), _PIECE_BYTES)
    ]
    return [*pieces, [Finish("stop"), Usage(tokens.count(text), 0, sound_s=duration_s)]]


def paint(call: Call, part: Part) -> list[Batch]:
    """Stripes in the prompt's own colours; the seed counts as part of the prompt."""
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    said = f"{''.join(_texts(call))}|{call.sampling.seed or 0}"
    usually = usual(call.alias)
    width = min(ask.width or usually.width, _MOST_SIDE)
    height = min(ask.height or usually.height, _MOST_SIDE)
    make = png.picture if ask.format == "png" else jpeg.picture
    events: list[Event] = [Picture(make(f"{said}|{index}", width, height), index) for index in range(call.n)]
    return [[*events, Finish("stop"), Usage(0, 0)]]


def classify(call: Call, part: Part) -> list[Batch]:
    """Labels of a picture, a text or the end of a turn."""
    count = call.ask.top_k if isinstance(call.ask, Classification) else 5
    events: list[Event] = [*_labels(call, part)[:count]]
    return [[*events, Finish("stop"), _counted(_texts(call))]]


def _labels(call: Call, part: Part) -> list[Label]:
    if not call.uploads:
        good = meaning.sentiment("".join(_texts(call)))
        found = [Label("POSITIVE", good), Label("NEGATIVE", 1.0 - good)]
        return sorted(found, key=lambda label: -label.score)
    content = _bytes(call.uploads[0])
    if part.family is Family.TURN:
        done = _CERTAIN if len(content) % 2 == 0 else 1.0 - _CERTAIN
        return [Label(COMPLETE, done), Label(INCOMPLETE, 1.0 - done)]
    box = BOX if part.family is Family.IMAGE_BOXES else None
    return [Label(name, score, box=box) for name, score in meaning.things(content)]


def translate(call: Call, part: Part) -> list[Batch]:
    """`[de] ` and the text."""
    target = call.ask.target if isinstance(call.ask, Translation) else "en"
    texts = [f"[{target}] {text}" for text in _texts(call)]
    events: list[Event] = []
    for index, text in enumerate(texts):
        events += [Text(text, index), Finish("stop", index)]
    return [events, [_counted(_texts(call), sum(tokens.count(text) for text in texts))]]


def moderate(call: Call, part: Part) -> list[Batch]:
    """Whether a text holds one of a few words; images are all harmless."""
    events: list[Event] = []
    for index, text in enumerate([*_texts(call), *("" for _ in call.uploads)]):
        flagged = (VIOLENT,) if meaning.harmful(text) else ()
        events += [Verdict(flagged, ((VIOLENT, 1.0 if flagged else 0.0),), index), Finish("stop", index)]
    return [events, [_counted(_texts(call))]]


ACTS: Mapping[Operation, Act] = MappingProxyType(
    {
        Operation.EMBED: embed,
        Operation.RERANK: rerank,
        Operation.TRANSCRIBE: transcribe,
        Operation.SPEAK: speak,
        Operation.IMAGE: paint,
        Operation.CLASSIFY: classify,
        Operation.TRANSLATE: translate,
        Operation.MODERATE: moderate,
    }
)
