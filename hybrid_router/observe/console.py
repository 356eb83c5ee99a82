"""Lines for a person at a terminal: time, level, event, then what differs."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec

from hybrid_router.observe.lines import Fields, json_line
from hybrid_router.observe.redact import Redactor

_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "31"}


def console_line(fields: Fields, redact: Redactor, *, colour: bool) -> bytes:
    """`12:03:04 info    call  status=200 …`, with the same bounds and redaction as JSON."""
    # Through the JSON form, so that there is one place where values are cut and cleaned.
    shown: dict[str, Any] = msgspec.json.decode(json_line(fields, redact))
    level, event = str(shown.pop("level", "info")), str(shown.pop("event", ""))
    shown.pop("time", None)
    time = datetime.datetime.now().astimezone().strftime("%H:%M:%S")
    pairs = " ".join(
        f"{_dim(key, colour)}={_value(value)}" for key, value in shown.items() if value is not None
    )
    level_text = f"\x1b[{_COLOURS.get(level, '0')}m{level:<7}\x1b[0m" if colour else f"{level:<7}"
    return f"{time} {level_text} {_value(event, bare=True)}  {pairs}".rstrip().encode() + b"\n"


def _dim(key: str, colour: bool) -> str:
    key = _value(key, bare=True)
    return f"\x1b[2m{key}\x1b[0m" if colour else key


def _value(value: Any, *, bare: bool = False) -> str:
    """A value as text; anything unprintable is escaped, so no value can move the cursor."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if not isinstance(value, str):
        return _value(msgspec.json.encode(value).decode(), bare=True)
    safe = "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in value)
    return safe if bare or (safe and " " not in safe) else f'"{safe}"'
