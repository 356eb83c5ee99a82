"""Values back into the words router.yaml uses: `30s`, `8MiB`, lists and mappings."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from hybrid_router.config.hints import Hint, fields, tag, tag_key
from hybrid_router.config.marks import Unit
from hybrid_router.core.units import duration_text

_SIZES = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"), (1, "B"))


def size_text(size_bytes: int) -> str:
    """The shortest spelling that is exact: 8388608 is `8MiB`."""
    count, unit = next((count, unit) for count, unit in _SIZES if size_bytes % count == 0)
    return f"{size_bytes // count}{unit}"


def plain(value: Any, hint: Hint) -> Any:
    """`value` as YAML may write it; keys that are not set are left out."""
    unit = next((unit for member in hint.members if (unit := member.note(Unit))), None)
    if unit is not None and isinstance(value, int | float):
        return duration_text(value) if unit.name == "duration" else size_text(int(value))
    if isinstance(value, tuple):
        return [plain(item, hint.item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item, hint.item) for name, item in value.items()}
    if isinstance(value, Struct):
        return mapping(value)
    return value


def mapping(struct: Struct) -> dict[str, Any]:
    """A struct of the schema as a mapping, its keys spelled as in the file."""
    kind = tag(type(struct))
    spelled = {} if kind is None else {tag_key(type(struct)): kind}
    for field in fields(type(struct)):
        value = plain(getattr(struct, field.attribute), field.hint)
        if value is not None and not (isinstance(value, dict) and not value):
            spelled[field.key] = value
    return spelled


def setting(value: Any, hint: Hint) -> str:
    """A default, in one word or a few."""
    match plain(value, hint):
        case None | {}:
            return "none"
        case bool() as truth:
            return str(truth).lower()
        case list() as items:
            return ", ".join(map(str, items)) or "none"
        case word:
            return str(word)
