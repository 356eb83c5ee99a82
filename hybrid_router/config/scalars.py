"""One YAML scalar → one value of the schema, or a sentence that says how to write it."""

from __future__ import annotations

import re
from collections.abc import Callable

import re2
import yaml

from hybrid_router.config.hints import Hint
from hybrid_router.config.marks import Bounds, NonEmpty, Pattern, Unit
from hybrid_router.config.problems import meant
from hybrid_router.core.units import duration_text, seconds, size_bytes

_NUMBER = re.compile(r"-?(0|[1-9][0-9_]*)(\.[0-9]+)?", re.ASCII)
_INTEGER = re.compile(r"-?(0|[1-9][0-9_]*)", re.ASCII)


class Unfit(ValueError):
    """Not a value for this key.  The text never repeats what might be a secret."""


def scalar(node: yaml.ScalarNode, hint: Hint) -> object:
    """Read `node` as `hint` asks.

    What is written counts, not what YAML makes of it: `on` is text where text is wanted.

    Raises:
        Unfit: it is not such a value.
    """
    if hint.choices:
        return _choice(node.value, hint.choices)
    unit = hint.note(Unit)
    if unit is not None:
        return _within(_measure(node.value, unit), hint, unit)
    if hint.base is bool:
        return _truth(node)
    if hint.base is int:
        return _within(_whole(node), hint, None)
    if hint.base is float:
        return _within(_number(node), hint, None)
    return _text(node.value, hint)


def _choice(text: str, choices: tuple[str, ...]) -> str:
    if text not in choices:
        raise Unfit(f"{text!r} is not one of {', '.join(choices)}{meant(text, choices)}")
    return text


def _measure(text: str, unit: Unit) -> float | int:
    read: Callable[[str], float | int] = seconds if unit.name == "duration" else size_bytes
    try:
        return read(text)
    except ValueError as error:
        raise Unfit(str(error)) from None


def _truth(node: yaml.ScalarNode) -> bool:
    if node.style is not None or node.value not in {"true", "false"}:
        raise Unfit("write true or false, without quotes")
    return bool(node.value == "true")


def _whole(node: yaml.ScalarNode) -> int:
    if node.style is not None or not _INTEGER.fullmatch(node.value):
        raise Unfit("write a whole number, without quotes or unit")
    return int(node.value)


def _number(node: yaml.ScalarNode) -> float:
    if node.style is not None or not _NUMBER.fullmatch(node.value):
        raise Unfit("write a number, without quotes or unit, as in 0.25")
    return float(node.value)


def _within(number: float | int, hint: Hint, unit: Unit | None) -> float | int:
    """Check a number's bounds; the sentence uses the unit it is written in."""

    def spell(limit: float) -> str:
        if unit is None:
            return f"{limit:g}"
        return duration_text(limit) if unit.name == "duration" else f"{int(limit)}B"

    bounds = hint.note(Bounds) or Bounds()
    if bounds.at_least is not None and number < bounds.at_least:
        raise Unfit(f"must be at least {spell(bounds.at_least)}, not {spell(number)}")
    if bounds.at_most is not None and number > bounds.at_most:
        raise Unfit(f"must be at most {spell(bounds.at_most)}, not {spell(number)}")
    return number


def _text(text: str, hint: Hint) -> str:
    pattern = hint.note(Pattern)
    if pattern is not None and pattern.regex == "re2":
        _compiles(text)
    elif pattern is not None and not re.fullmatch(pattern.regex, text, re.ASCII):
        raise Unfit(f"must be {pattern.hint}")
    if hint.has(NonEmpty) and not text.strip():
        raise Unfit("must not be empty")
    return text


def _compiles(text: str) -> None:
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error as error:
        why = error.args[0]
        said = why.decode(errors="replace") if isinstance(why, bytes) else str(why)
        raise Unfit(f"is not a regular expression that RE2 accepts: {said}") from None
