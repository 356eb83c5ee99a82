"""What the task API answers: lists of objects, sometimes within one more list."""

from __future__ import annotations

from typing import TypeVar

from msgspec import Struct

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.openai import reply

T = TypeVar("T")


class _Label(Struct, gc=False):
    label: str
    score: float


class _Texts(Struct, gc=False):
    generated_text: str | None = None
    summary_text: str | None = None
    translation_text: str | None = None


def found(body: bytes, kind: type[T], what: str) -> T:
    """The answer.

    Args:
        what: what was wanted, for messages.

    Raises:
        Unreadable: it is something else.
    """
    try:
        return reply.read(body, kind)
    except Unreadable as no:
        if no.reported:
            raise
        raise Unreadable(f"answered without {what}", detail=no.detail) from None


def text(body: bytes, names: tuple[str, ...]) -> str:
    """The text of an answer, by the first of `names` that it has."""
    told = found(body, list[_Texts] | _Texts, "a text")  # type: ignore[arg-type]
    one = (told[0] if told else None) if isinstance(told, list) else told
    said = next((said for name in names if (said := getattr(one, name, None)) is not None), None)
    if said is None:
        raise Unreadable("answered without a text")
    return str(said)


def labels(body: bytes) -> list[tuple[str, float]]:
    """Labels and their scores, in the order they came."""
    told = found(body, list[list[_Label] | _Label], "labels")
    flat = [one for each in told for one in (each if isinstance(each, list) else [each])]
    return [(one.label, one.score) for one in flat]
