"""Filters of a gateway's log, as the address of its list brings them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct

from hybrid_router.core.errors import CallRefused

T = TypeVar("T")
MOST_VALUES = 100  # each may be compared with each entry
_KEYS = frozenset(
    {"id", "created_at", "request_content_type", "response_content_type", "request_type", "success", "cached",
     "provider", "model", "model_type", "cost", "tokens", "tokens_in", "tokens_out", "duration", "feedback",
     "event_id", "metadata.key", "metadata.value", "status_code", "step", "path"}
)  # fmt: skip


class Filter(Struct, frozen=True, kw_only=True):
    """One condition: the value is one of these (`eq`), none of them (`neq`), holds, or is beyond one."""

    key: str
    operator: Literal["eq", "neq", "contains", "lt", "gt"]
    value: list[str | int | float | bool | None]

    def __post_init__(self) -> None:
        if self.key not in _KEYS:
            raise ValueError(f"no filter of {self.key!r}; one of {', '.join(sorted(_KEYS))}")

    def among(self, entries: Iterable[T]) -> Iterator[T]:
        """Those that are meant.  The filter's own values are read once for all of them."""
        holds = self._condition()
        return (entry for entry in entries if holds(_values(entry, self.key)))

    def _condition(self) -> Callable[[list[Any]], bool]:
        match self.operator:
            case "eq":
                wanted = frozenset(map(_plain, self.value))
                return lambda values: any(_plain(one) in wanted for one in values)
            case "neq":
                unwanted = frozenset(map(_plain, self.value))
                return lambda values: all(_plain(one) not in unwanted for one in values)
            case "contains":
                texts = [_text(value).lower() for value in self.value]
                return lambda values: any(text in _text(one).lower() for one in values for text in texts)
            case "lt":
                bounds = [_ranked(value) for value in self.value]
                return lambda values: any(_beyond(b, one) for one in map(_ranked, values) for b in bounds)
            case "gt":
                bounds = [_ranked(value) for value in self.value]
                return lambda values: any(_beyond(one, b) for one in map(_ranked, values) for b in bounds)


def value_of(entry: Any, name: str) -> Any:
    """An entry's value of a key that has one."""
    return entry.total_tokens if name == "tokens" else getattr(entry, name)


def _values(entry: Any, name: str) -> list[Any]:
    if name == "metadata.key":
        return list(entry.metadata)
    if name == "metadata.value":
        return list(entry.metadata.values())
    return [value_of(entry, name)]


def _text(value: Any) -> str:
    """As an address would write it."""
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)


def _plain(value: Any) -> float | str:
    """As values are compared: addresses know text alone, so `true` is true, and `200` is 200."""
    number = _number(value)
    return _text(value) if number is None else number


def _ranked(value: Any) -> tuple[float | None, str | None]:
    """A value as a number and as text, as far as it is one."""
    return _number(value), value if isinstance(value, str) else None


def _beyond(one: tuple[float | None, str | None], bound: tuple[float | None, str | None]) -> bool:
    """Whether `one` is more: as numbers, or as text, which is how dates compare."""
    (number, text), (other, other_text) = one, bound
    if number is not None and other is not None:
        return number > other
    return text is not None and other_text is not None and text > other_text


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    try:
        return float(value)
    except ValueError:
        return None
    except OverflowError:  # JSON knows whole numbers of any length
        return math.inf if value > 0 else -math.inf


def filters(query: Sequence[tuple[str, str]]) -> tuple[Filter, ...]:
    """Filters of an address's query: as JSON, or a key, an operator and a value by the names of their own.

    The official packages write the second; of several filters the first of each belong together.

    Raises:
        CallRefused: one is no filter, or they have too many values.
    """
    found: dict[str, list[str]] = {"key": [], "operator": [], "value": []}
    written: list[Any] = []
    for name, value in query:
        field = name.replace("[", ".").replace("]", "").rstrip(".").removeprefix("filters.")
        if name == "filters":
            written += _json(value)
        elif name.startswith("filters") and (plain := field.strip("0123456789.")) in found:
            found[plain].append(value)
    read = tuple(_filter(one) for one in [*written, *_joined(**found)])
    if sum(len(one.value) for one in read) > MOST_VALUES:
        raise CallRefused(f"filters: {MOST_VALUES} values are taken in all", param="filters")
    return read


def _joined(key: list[str], operator: list[str], value: list[str]) -> list[dict[str, Any]]:
    if len(key) != len(operator) or len(value) < len(key):
        raise CallRefused("filters: each needs key, operator and value", param="filters")
    if len(key) == 1:  # its values are one list
        return [{"key": key[0], "operator": operator[0], "value": value}]
    if len(value) != len(key):
        raise CallRefused("filters: several of them have one value each", param="filters")
    return [
        {"key": name, "operator": how, "value": [what]}
        for name, how, what in zip(key, operator, value, strict=True)
    ]


def _json(value: str) -> list[Any]:
    try:
        told = msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CallRefused("filters: not JSON", param="filters") from None
    return told if isinstance(told, list) else [told]


def _filter(written: Any) -> Filter:
    if isinstance(written, dict) and not isinstance(written.get("value"), list):
        written = {**written, "value": [written.get("value")]}
    try:
        return msgspec.convert(written, Filter)
    except msgspec.ValidationError as error:
        raise CallRefused(f"filters: {error}", param="filters") from None
