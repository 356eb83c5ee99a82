"""What the steps say in a drill: words that tell who said them and which they are, as in `b7.`"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import groupby
from typing import NamedTuple

from hybrid_router.core.call import Call

WORDS_COUNT = 12
_WORD = re.compile(r"([a-z]+)(\d+)\.")


class Part(NamedTuple):
    """Consecutive words of one step."""

    step: str
    first: int
    last: int


def letters(steps: Iterable[str]) -> dict[str, str]:
    """Step → its letter; the twenty-seventh step has two."""
    return {step: chr(ord("a") + at % 26) * (1 + at // 26) for at, step in enumerate(dict.fromkeys(steps))}


def words(letter: str, call: Call) -> Iterator[str]:
    """The answer to `call`, or the rest of one that was begun."""
    begun_count = len(_WORD.findall(_begun(call)))
    for number in range(begun_count + 1, WORDS_COUNT + 1):
        yield f" {letter}{number}." if number > 1 else f"{letter}{number}."


def _begun(call: Call) -> str:
    """The beginning of an answer, given as such or at the end of a raw prompt.

    A last message of the assistant is none: most chat models take it for a turn that is over.
    """
    return call.written or "".join(prompt for prompt in call.prompts if isinstance(prompt, str))


def parts(text: str, steps: Mapping[str, str]) -> tuple[Part, ...]:
    """Who said what of a text; `steps` is letter → step."""
    found = [(steps.get(letter, letter), int(number)) for letter, number in _WORD.findall(text)]
    spoken = (list(group) for _, group in groupby(found, key=lambda word: word[0]))
    return tuple(Part(group[0][0], group[0][1], group[-1][1]) for group in spoken)
