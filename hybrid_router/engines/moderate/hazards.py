"""Llama Guard's prompt and verdict.

A guard model is asked by its own chat template where that has its list of hazards, for the numbers change
with its version.  Any other model is asked with the prompt of Llama Guard 3.

Source: the model cards of Llama Guard 1 to 3 (meta-llama/PurpleLlama); names of hazards by MLCommons.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hybrid_router.core.event import TokenScore, Verdict
from hybrid_router.engines.moderate import categories

LLAMA_GUARD_3: Mapping[str, str] = MappingProxyType(
    {
        "S1": "Violent Crimes",
        "S2": "Non-Violent Crimes",
        "S3": "Sex Crimes",
        "S4": "Child Exploitation",
        "S5": "Defamation",
        "S6": "Specialized Advice",
        "S7": "Privacy",
        "S8": "Intellectual Property",
        "S9": "Indiscriminate Weapons",
        "S10": "Hate",
        "S11": "Self-Harm",
        "S12": "Sexual Content",
        "S13": "Elections",
        "S14": "Code Interpreter Abuse",
    }
)
_PROMPT = """\
Task: Check if there is unsafe content in 'User' messages in conversations according our safety policy with \
the below categories.

<BEGIN UNSAFE CONTENT CATEGORIES>

{hazards}

<END UNSAFE CONTENT CATEGORIES>

<BEGIN CONVERSATION>

User: {text}

<END CONVERSATION>

Provide your safety assessment for ONLY THE LAST User message in the above conversation:
 - First line must read 'safe' or 'unsafe'.
 - If unsafe, a second line must include a comma-separated list of violated categories."""
_LISTED = re.compile(r"""(?:(?<=\\n)|\b)([SO][1-9][0-9]?)["']?\s*:\s*["']?([A-Z][A-Za-z ,&/()-]*[A-Za-z)])""")
_MARK = re.compile(r"<(?=(?:BEGIN|END) (?:CONVERSATION|UNSAFE CONTENT CATEGORIES)>)", re.IGNORECASE)
_WORDS = ("safe", "unsafe")
_IMPOSSIBLE = -9999.0  # what is told of a token that may not come
_FEWEST = 3  # hazards of a template that is a guard's


def hazards_of(template: str | None) -> Mapping[str, str] | None:
    """The hazards that a guard's chat template lists, by their numbers; None: it is no guard's."""
    if template is None or "unsafe" not in template:
        return None
    found = {number: name.strip() for number, name in _LISTED.findall(template)}
    return found if len(found) >= _FEWEST else None


def prompt(text: str) -> str:
    """What a model is asked that is no guard by itself.  A text cannot end the conversation that it is in."""
    hazards = "\n".join(f"{number}: {name}." for number, name in LLAMA_GUARD_3.items())
    return _PROMPT.format(hazards=hazards, text=_MARK.sub("< ", text))


def pattern(hazards: Mapping[str, str]) -> str:
    """The form of every verdict, as a regular expression."""
    one = f"({'|'.join(sorted(hazards, key=len, reverse=True))})"
    return rf"\n?\n?(safe|unsafe\n{one}(, ?{one}){{0,{len(hazards) - 1}}})"


def verdict(
    said: str, scores: Sequence[TokenScore], hazards: Mapping[str, str], index: int = 0
) -> Verdict | None:
    """What a model said, in OpenAI's words; None: it is no verdict, or nobody knows how likely the other was.

    A guard tells one probability: that of its first word.  The categories that it names have it.  Of a text
    that is safe nobody knows what it would have been, so all of them have it: none is likelier than that.
    """
    lines = said.strip().splitlines()
    if not lines or lines[0].strip() not in _WORDS:
        return None
    unsafe = lines[0].strip() == "unsafe"
    likelihood = unsafe_likelihood(scores)
    if likelihood is None:
        if not unsafe:  # a pass that the model may have been unsure of is none
            return None
        likelihood = 1.0
    found = dict.fromkeys(categories.OPENAI, 0.0 if unsafe else likelihood)
    named = _named(lines[1] if len(lines) > 1 else "", hazards) if unsafe else ()
    found.update(dict.fromkeys(named, likelihood))
    return Verdict(flagged=named, scores=tuple(found.items()), index=index)


def _named(line: str, hazards: Mapping[str, str]) -> tuple[str, ...]:
    """The categories of a verdict's second line; `unsafe` itself where it names none."""
    numbers = [number.strip() for number in line.split(",")]
    names = [hazards[number] for number in numbers if number in hazards]
    found = dict.fromkeys(category for name in names for category in categories.of_label(name))
    return tuple(found) or ("unsafe",)


def unsafe_likelihood(scores: Sequence[TokenScore]) -> float | None:
    """How likely `unsafe` was where the model chose between the two words, 0 to 1; None: one has no score."""
    place = next((score for score in scores if _begun(score.token) is not None), None)
    if place is None:
        return None
    chances: dict[str, list[float]] = {word: [] for word in _WORDS}
    for token, logprob in {one.token: one.logprob for one in (place, *place.top)}.items():
        word = _begun(token)
        if word is not None and logprob is not None and logprob > _IMPOSSIBLE:
            chances[word].append(logprob)
    if not all(chances.values()):
        return None
    safe, unsafe = (sum(map(math.exp, chances[word])) for word in _WORDS)
    return min(1.0, unsafe / (safe + unsafe)) if safe + unsafe > 0 else None


def _begun(token: bytes) -> str | None:
    """The word that a token begins."""
    text = token.decode("utf-8", "replace").strip()
    return next((word for word in _WORDS if text and word.startswith(text)), None)
