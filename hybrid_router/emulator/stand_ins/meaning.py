"""Vectors, scores and labels without a model: texts with the same words are alike, and nothing else is."""

from __future__ import annotations

import hashlib
import math
import re
import struct

_WORD = re.compile(r"\w+")
_MOST_WORDS = 2000
_MIDDLE = 127.5
_LANE_BYTES = 4
_GOOD = frozenset(
    {"best", "brilliant", "excellent", "good", "great", "happy", "like", "love", "nice", "wonderful"}
)
_BAD = frozenset({"awful", "bad", "hate", "horrible", "poor", "sad", "terrible", "ugly", "worst", "wrong"})
_HARM = frozenset({"attack", "bomb", "kill", "murder", "poison", "weapon"})
_THINGS = (
    "TABBY CAT",
    "GOLDEN RETRIEVER",
    "TEAPOT",
    "SPORTS CAR",
    "DAISY",
    "ACOUSTIC GUITAR",
    "LIGHTHOUSE",
    "PIZZA",
)


def words(text: str) -> list[str]:
    """The words of a text, in lower case."""
    return _WORD.findall(text.lower())[:_MOST_WORDS]


def vector(text: str, dimensions: int) -> bytes:
    """The sum of its words' directions, of length 1: 32-bit floats, little-endian."""
    found = words(text) or [""]
    # One integer with room for every sum: a loop over the numbers takes 0.1 s for a long text.
    lanes, sums = bytearray(_LANE_BYTES * dimensions), 0
    for word in found:
        lanes[::_LANE_BYTES] = hashlib.shake_256(word.encode()).digest(dimensions)
        sums += int.from_bytes(lanes, "little")
    summed = struct.unpack(f"<{dimensions}I", sums.to_bytes(len(lanes), "little"))
    total = [value - len(found) * _MIDDLE for value in summed]
    length = math.sqrt(math.fsum(value * value for value in total)) or 1.0
    return struct.pack(f"<{dimensions}f", *(value / length for value in total))


def relevance(query: str, document: str) -> float:
    """Between 0 and 1: how many of the query's words the document has."""
    wanted = set(words(query))
    found = wanted & set(words(document))
    return (0.01 + len(found)) / (0.02 + len(wanted))


def sentiment(text: str) -> float:
    """How good it sounds, 0 to 1."""
    said = set(words(text))
    good, bad = len(said & _GOOD), len(said & _BAD)
    return (1.0 + 9 * good) / (2.0 + 9 * (good + bad))


def harmful(text: str) -> bool:
    """Whether it holds one of a few plain words."""
    return not _HARM.isdisjoint(words(text))


def things(content: bytes) -> list[tuple[str, float]]:
    """What a picture may show, the likeliest first; always the same for the same bytes."""
    first = hashlib.sha256(content).digest()[0]
    order = [_THINGS[(first + place) % len(_THINGS)] for place in range(len(_THINGS))]
    return [(name, 0.5 ** (place + 1)) for place, name in enumerate(order)]
