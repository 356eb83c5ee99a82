"""Cutting texts where a sentence ends: translation models were trained on single ones.

What stands between sentences (line breaks, empty lines) is kept as it is, so a translated document looks like
the one it was.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from msgspec import Struct

# A full stop and its like, maybe closed by a quotation mark or bracket, before a space; or of a script that
# needs none.
_END = re.compile(r"(?<=[.!?…])[\"'”’»)\]]*(?=[ \t])|(?<=[。！？；])[」』”’）]*|(?<=[।։؟])(?=[ \t])")
_BREAK = re.compile(r"(\s*\n\s*)")
# Not an end: a single letter, or a usual short form.
_SHORT = re.compile(r"(?:\b\w|\b(?:Mr|Mrs|Ms|Dr|Prof|St|vs|etc|z\.\s?B|bzw|Nr|Sr|Sra|e\.g|i\.e|p\.\s?ej))\.$")


class Sentence(Struct, frozen=True):
    """Something to translate; `before`: what stands between it and the one before."""

    text: str
    before: str = ""


def sentences(text: str) -> list[Sentence]:
    """The sentences of a text, without the space around it.  None of a text that is empty."""
    found: list[Sentence] = []
    gap = ""
    for number, piece in enumerate(_BREAK.split(text.strip())):
        if number % 2:
            gap = piece
            continue
        for sentence in _line(piece):
            found.append(Sentence(sentence, gap))
            gap = " "
    return found


def _line(line: str) -> list[str]:
    """The sentences of one line."""
    found, begin = [], 0
    for match in _END.finditer(line):
        piece = line[begin : match.end()].strip()
        if piece and not _SHORT.search(piece):
            found.append(piece)
            begin = match.end()
    rest = line[begin:].strip()
    return [*found, rest] if rest else found


def portions(pieces: list[str], most: int, begins_word: Callable[[str], bool]) -> list[list[str]]:
    """A sentence's tokens in portions of at most `most`, cut before a word where there is one."""
    found = []
    while len(pieces) > most:
        cut = next((at for at in range(most, most // 2, -1) if begins_word(pieces[at])), most)
        found.append(pieces[:cut])
        pieces = pieces[cut:]
    return [*found, pieces] if pieces else found
