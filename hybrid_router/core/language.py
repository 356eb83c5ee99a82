"""Which languages a prompt is written in, told by py3langid from its first letters.

A few words are no proof: below some 20 Latin, 10 Cyrillic or 7 Chinese letters nothing is said.  A prompt
may be written in several: each language counts that has a quarter of the likelihood.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, Final

from hybrid_router.core.call import Call

_NAMES = (  # hundreds of millions write in these, or a country does
    "ar bg bn ca cs da de el en es et fa fi fr gu he hi hr hu hy id it ja ka kk kn ko lt lv mk ml mr "
    "ms ne nl no pa pl pt ro ru sk sl sq sr sv sw ta te th tl tr uk ur vi zh"
)
COMMON: Final = frozenset(_NAMES.split())
_READ_CHARS = 2_000
_READ_BYTES = 2_000
_FEWEST_LETTERS_BYTES = 20
_LEAST_LIKELIHOOD = 0.25
_HALF = 0.5


class Detector:
    """Tells the common languages and some others apart.  Loading the first one takes most of a second."""

    __slots__ = ("_identifier",)

    def __init__(self, more: frozenset[str]) -> None:
        self._identifier = copy.copy(_model())
        self._identifier.set_languages(COMMON | more)

    def languages(self, text: str) -> frozenset[str]:
        """Those that `text` is written in; none if it is too short to tell."""
        read = text[:_READ_CHARS]
        letters = "".join(filter(str.isalpha, read))
        if len(letters.encode("utf-8", "replace")) < _FEWEST_LETTERS_BYTES:
            return frozenset()
        ranked = self._identifier.rank(read.encode("utf-8", "replace")[:_READ_BYTES])
        return frozenset(name for name, likelihood in ranked if likelihood >= _LEAST_LIKELIHOOD)

    def likeliest(self, text: str) -> tuple[str, float] | None:
        """The one that `text` is likelier written in than in all others together, and how likely; however
        short it is.  None: there is none."""
        name, likelihood = self._identifier.classify(text.encode("utf-8", "replace")[:_READ_BYTES])
        return (str(name), float(likelihood)) if likelihood > _HALF else None


@functools.cache
def detector(more: frozenset[str]) -> Detector:
    """The one that can tell `more` besides the common languages."""
    return Detector(more - COMMON)


@functools.cache
def _model() -> Any:
    # Only where a policy asks: numpy, and 90 MB of tables.
    from py3langid.langid import (  # type: ignore[import-untyped] # noqa: PLC0415
        MODEL_FILE,
        LanguageIdentifier,
    )

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def said_by_the_user(call: Call) -> str:
    """What tells the language of a call: its user's messages or its prompts, as far as they are read."""
    pieces = [message.text for message in call.messages if message.role == "user"]
    pieces += [prompt for prompt in call.prompts if isinstance(prompt, str)]
    return "\n".join(pieces)[:_READ_CHARS]
