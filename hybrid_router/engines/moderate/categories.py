"""What models call kinds of harm, in the words of OpenAI's moderations.

A kind that OpenAI has no word for keeps its own name, and counts: a guard that finds a text unsafe is not
silenced because its reason is not on a list.

Sources: OpenAI's API description, `CreateModerationResponse`; MLCommons' hazards as the model cards of Llama
Guard 2 and 3 number them; the labels of text and image classifiers that are published under open licences.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType

OPENAI = (
    "hate",
    "hate/threatening",
    "harassment",
    "harassment/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
_NOT_A_LETTER = re.compile(r"[^a-z0-9]+")
_UNNAMED = re.compile(r"label[0-9]+")

HARMLESS = frozenset(
    {
        "safe", "ok", "okay", "normal", "neutral", "none", "clean", "benign", "nottoxic", "nontoxic",
        "nothate", "nonhate", "notoffensive", "nonoffensive", "notharmful", "noharm", "sfw", "drawings",
        "acceptable",
    }
)  # fmt: skip
_KNOWN: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        # hazards of Llama Guard, by name: their numbers change with its version
        "violentcrimes": ("violence", "illicit/violent"),
        "nonviolentcrimes": ("illicit",),
        "sexcrimes": ("sexual", "illicit"),
        "sexrelatedcrimes": ("sexual", "illicit"),
        "childexploitation": ("sexual/minors", "sexual"),
        "childsexualexploitation": ("sexual/minors", "sexual"),
        "indiscriminateweapons": ("illicit/violent",),
        "defamation": ("harassment",),
        "suicideandselfharm": ("self-harm",),
        "suicideselfharm": ("self-harm",),
        "sexualcontent": ("sexual",),
        "violenceandhate": ("violence", "hate"),
        "gunsandillegalweapons": ("illicit/violent",),
        "regulatedorcontrolledsubstances": ("illicit",),
        "criminalplanning": ("illicit",),
        # labels of classifiers
        "toxic": ("harassment",),
        "toxicity": ("harassment",),
        "severetoxic": ("harassment",),
        "severetoxicity": ("harassment",),
        "obscene": ("harassment",),
        "insult": ("harassment",),
        "offensive": ("harassment",),
        "abusive": ("harassment",),
        "bullying": ("harassment",),
        "threat": ("harassment/threatening",),
        "identityhate": ("hate",),
        "identityattack": ("hate",),
        "hatespeech": ("hate",),
        "sexualexplicit": ("sexual",),
        "nsfw": ("sexual",),
        "porn": ("sexual",),
        "hentai": ("sexual",),
        "sexy": ("sexual",),
        "violent": ("violence",),
        "gore": ("violence/graphic",),
        "suicide": ("self-harm",),
        "suicidal": ("self-harm/intent",),
        # the short names of a common text classifier
        "s": ("sexual",),
        "h": ("hate",),
        "v": ("violence",),
        "hr": ("harassment",),
        "sh": ("self-harm",),
        "s3": ("sexual/minors",),
        "h2": ("hate/threatening",),
        "v2": ("violence/graphic",),
    }
)


def of_label(label: str) -> tuple[str, ...]:
    """The categories that a model's label means; none: it is harmless."""
    plain = _plain(label)
    if plain in HARMLESS:
        return ()
    for category in OPENAI:
        if plain == _plain(category):
            return (category,)
    return _KNOWN.get(plain) or (_named(label),)


def is_named(label: str) -> bool:
    """Whether a label says anything: `LABEL_1` is a number."""
    return _UNNAMED.fullmatch(_plain(label)) is None


def is_known(label: str) -> bool:
    """Whether it is a word for harm, or for its absence, that is known here."""
    plain = _plain(label)
    return plain in HARMLESS or plain in _KNOWN or any(plain == _plain(category) for category in OPENAI)


def scored(scores: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Each label's score as categories': all of OpenAI's are there; of several, the highest counts."""
    found = dict.fromkeys(OPENAI, 0.0)
    for label, score in scores:
        for category in of_label(label):
            found[category] = max(found.get(category, 0.0), score)
    return found


def _plain(name: str) -> str:
    return _NOT_A_LETTER.sub("", name.casefold())


def _named(label: str) -> str:
    """A label as a category of its own, written as OpenAI writes its: `specialized-advice`."""
    return _NOT_A_LETTER.sub("-", label.casefold()).strip("-") or "unsafe"
