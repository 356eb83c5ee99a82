"""English text → phonemes, in pieces that a voice says at once."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from hibari.g2p import G2P
from hibari.tts import Hibari

# What one look at the rules may cost.  Their time grows with the third power of a word's parts:
# `a-a-a-…` of 64 characters takes 0.3 s, of 4,000 a day; and numbers of 40 digits have no name.
_LONGEST_RUN = 24
_LONGEST_WORD = 64
_LONGEST_SENTENCE = 200
_RUN = re.compile(rf"\S{{{_LONGEST_RUN + 1},}}")
_PART = re.compile(rf"\S{{1,{_LONGEST_RUN - 1}}}[-/_.,]|\S{{1,{_LONGEST_RUN}}}")
_CLAUSE = re.compile(r"(?<=[,;:—])\s+")


class Reader:
    """Reads by misaki's rules, with the words that they do not know guessed; American or British.

    Source: hibari's own reader, which is without spaCy and espeak-ng.  Kokoro's voices know the
    same phonemes.
    """

    def __init__(self) -> None:
        self._rules: dict[bool, G2P] = {}

    def warm(self, *, british: bool) -> None:
        """Read the lexicon and the rules, which takes a third of a second."""
        self._of(british).oov("lexicon")

    def pieces(self, text: str, *, british: bool, most: int) -> Iterator[str]:
        """What is to be said, a sentence at a time, or less where one has more than `most` phonemes.

        Signs that no English reader has a sound for are left out; what has none at all gives no piece.
        """
        rules = self._of(british)
        for sentence in sentences(text):
            phonemes = rules(sentence)
            yield from (piece for piece in cut(phonemes, most) if any(map(str.isalpha, piece)))

    def _of(self, british: bool) -> G2P:
        if british not in self._rules:
            self._rules[british] = G2P(british=british)
        return self._rules[british]


def sentences(text: str) -> Iterator[str]:
    """Sentences, none so long, and no word so long, that reading it would take long."""
    eased = _RUN.sub(lambda run: _eased(run[0]), text)
    for sentence in Hibari.split_sentences(eased):
        yield from cut(sentence, _LONGEST_SENTENCE)


def _eased(run: str) -> str:
    """What is written without a space, with spaces; a long word is left whole."""
    if run.isalpha() and len(run) <= _LONGEST_WORD:
        return run
    return " ".join(_PART.findall(run))


def cut(line: str, most: int) -> Iterator[str]:
    """Parts of at most `most` characters, cut behind a comma if there is one, else at a space."""
    parts = itertools.chain.from_iterable(_bounded(clause, most) for clause in _CLAUSE.split(line))
    return _joined(parts, most)


def _bounded(clause: str, most: int) -> Iterator[str]:
    if len(clause) <= most:
        return iter((clause,))
    words = itertools.chain.from_iterable(
        (word[at : at + most] for at in range(0, len(word), most)) for word in clause.split()
    )
    return _joined(words, most)


def _joined(parts: Iterator[str], most: int) -> Iterator[str]:
    """Neighbours together, as long as they fit."""
    held = ""
    for part in parts:
        if held and len(held) + 1 + len(part) > most:
            yield held
            held = part
        else:
            held = f"{held} {part}" if held else part
    if held:
        yield held
