"""Every key of router.yaml with type, default and meaning: for `check --keys` and the documentation.

`<name>` in a path is a name of your choice, `[]` an entry of a list; `<local>` and `<workers_ai>` are
backends of that type, `<whisper>` and the like models of that engine.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import UNSET, Struct

from hybrid_router.config.hints import Field, Hint, fields, is_struct, tag, tag_key
from hybrid_router.config.marks import Bounds, Doc, Pattern, Unit, Untagged
from hybrid_router.config.schema import Config
from hybrid_router.config.spelling import setting


class Key(Struct, frozen=True, kw_only=True):
    """One key as the documentation shows it."""

    path: str
    type: str
    default: str
    meaning: str


def listing() -> tuple[Key, ...]:
    """All keys, in the order of the schema."""
    return tuple(_below(Config, "", None, ()))


def _below(
    struct: type[Struct],
    prefix: str,
    inherited: Struct | None,
    around: tuple[type[Struct], ...],
    untagged: str | None = None,
) -> Iterator[Key]:
    """Keys of a struct and of what they hold; a struct inside itself is shown once.

    Args:
        untagged: the kind of struct that needs not say which it is.
    """
    kind = tag(struct)
    if kind is not None:
        written = kind if kind == untagged else "required"
        yield Key(path=f"{prefix}{tag_key(struct)}", type=kind, default=written, meaning=_summary(struct))
    for field in fields(struct):
        path = f"{prefix}{field.key}"
        default = field.default if inherited is None else getattr(inherited, field.attribute)
        yield _key(path, field, default)
        for inner, below in _inner(field.hint, path):
            if inner not in (*around, struct):
                start = default if isinstance(default, inner) else None
                yield from _below(inner, f"{below}.", start, (*around, struct), _untagged(field.hint))


def _key(path: str, field: Field, default: Any) -> Key:
    doc = field.hint.note(Doc)
    meaning = "" if doc is None else doc.text
    return Key(path=path, type=_kind(field.hint), default=_default(field, default), meaning=meaning)


def _inner(hint: Hint, path: str) -> Iterator[tuple[type[Struct], str]]:
    """Structs that a key holds, each with the path below which its keys are."""
    if hint.is_list:
        yield from _inner(hint.item, f"{path}[]")
    elif hint.is_mapping:
        for struct in hint.item.structs:
            yield struct, f"{path}.<{tag(struct) or 'name'}>"
    else:
        for struct in hint.structs:
            yield struct, path


def _untagged(hint: Hint) -> str | None:
    note = (hint.item if hint.is_mapping else hint).note(Untagged)
    return None if note is None else tag(note.struct)


def _summary(struct: type[Struct]) -> str:
    """The first line of a struct's docstring."""
    return (struct.__doc__ or "").splitlines()[0]


def _default(field: Field, default: Any) -> str:
    if field.required:
        return "required"
    if isinstance(default, Struct) or default is UNSET:
        return ""
    return setting(default, field.hint)


def _kind(hint: Hint) -> str:
    """A type in the words of whoever writes the file."""
    if hint.is_list:
        return f"list of {_kind(hint.item)}"
    if hint.is_mapping:
        return f"mapping of names to {_kind(hint.item)}"
    if hint.choices:
        return f"one of {', '.join(hint.choices)}"
    return " or ".join(dict.fromkeys(" or ".join(member.choices) or _one(member) for member in hint.members))


def _one(hint: Hint) -> str:
    unit, pattern = hint.note(Unit), hint.note(Pattern)
    if unit is not None:
        return unit.name
    if is_struct(hint.base):
        return "mapping"
    if hint.base is bool:
        return "true or false"
    if hint.base is int:
        return f"whole number{_bounds(hint.note(Bounds))}"
    if hint.base is float:
        return f"number{_bounds(hint.note(Bounds))}"
    return "pattern" if pattern is not None and pattern.regex == "re2" else "text"


def _bounds(bounds: Bounds | None) -> str:
    limits = () if bounds is None else (("at least", bounds.at_least), ("at most", bounds.at_most))
    return "".join(f", {word} {limit:g}" for word, limit in limits if limit is not None)
