"""One event, one line of JSON: bounded, escaped, without secrets."""

from __future__ import annotations

import datetime
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import msgspec
import re2
from msgspec import Struct, structs

from hybrid_router.observe.redact import Redactor, encodable

LIMIT_BYTES = 8_192
_CHARS = (2_000, 400, 80)  # how long a value may be; the next when the line is still over the limit
_ITEMS = 32
_DEPTH = 3
_FRAMES = 8
_INTEGERS = range(-(2**63), 2**64)

Fields: TypeAlias = Mapping[str, Any]
Encode: TypeAlias = Callable[[Fields], bytes]
EncodeRow: TypeAlias = Callable[[Struct], bytes]

_encoder = msgspec.json.Encoder()
# JSON lets these through, a terminal acts on them: DEL, C1 controls, line and direction marks.
_UNSEEN = re2.compile("[\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")


def row_line(row: Struct, redact: Redactor) -> bytes:
    """What `json_line` makes of the row's fields, in a third of the time.  None: left out.

    Every call writes two rows, nearly always short and plain ones.  So the encoded line is looked at as
    a whole, as no value is longer than it or holds what it does not; and only then at each value.

    Args:
        row: of scalars only, its absent fields None by default and `omit_defaults` set.
    """
    try:
        line = _encoder.encode(row)
    except ValueError:  # a lone surrogate, a number without end
        line = b""
    if line and len(line) <= _CHARS[0] and redact.passes(line):
        return line + b"\n"
    return json_line(row_fields(row), redact)


def row_fields(row: Struct) -> Fields:
    """The fields of a row that are known."""
    return {key: value for key, value in structs.asdict(row).items() if value is not None}


def json_line(fields: Fields, redact: Redactor) -> bytes:
    """`fields` as one line of at most 8,192 bytes, newline included."""
    for chars in _CHARS:
        line = _encoded(fields, redact, chars)
        if len(line) <= LIMIT_BYTES:
            return line
    known = {key: fields[key] for key in ("time", "level", "event") if key in fields}
    return _encoded(known | {"cut": len(fields) - len(known)}, redact, _CHARS[-1])


def _encoded(fields: Fields, redact: Redactor, chars: int) -> bytes:
    plain = {_text(key, chars): _plain(value, chars, _DEPTH) for key, value in fields.items()}
    line = _encoder.encode(plain)
    if redact.suspects(line):
        # Redacted whole and cut afterwards, so that no cut leaves half a secret.
        whole = _plain(fields, LIMIT_BYTES, _DEPTH + 1)
        line = _encoder.encode(_plain(_each_text(whole, redact), chars, _DEPTH + 1))
    return line + b"\n"


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _each_text(item, change) for key, item in value.items()}
    return [_each_text(item, change) for item in value] if isinstance(value, list) else value


def _plain(value: Any, chars: int, depth: int) -> Any:
    """`value` as JSON can hold it.  Foreign objects show their type alone: a repr may show anything."""
    if isinstance(value, str):
        return _text(value, chars)
    if value is None or isinstance(value, bool | float) or (isinstance(value, int) and value in _INTEGERS):
        return value
    if depth and isinstance(value, Mapping):
        items = list(value.items())[:_ITEMS]
        return {_text(str(key), chars): _plain(item, chars, depth - 1) for key, item in items}
    if depth and isinstance(value, Sequence) and not isinstance(value, bytes | bytearray | memoryview):
        return [_plain(item, chars, depth - 1) for item in value[:_ITEMS]]
    return f"<{type(value).__name__}>"


def _text(text: str, chars: int) -> str:
    """`text`, cut with a mark, with nothing in it that a terminal would act on unseen."""
    if len(text) > chars:
        text = f"{text[:chars]}…[{len(text) - chars} more]"
    if text.isascii() and "\x7f" not in text:
        return text
    return str(_UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", encodable(text)))


def failure_fields(error: BaseException) -> dict[str, Any]:
    """An exception's class and where it came from.

    Its text stays out: it may quote a header, a prompt or a body.  An operating system's own sentence
    is kept, and so is ours, which `RouterError` keeps apart from what is private.
    """
    frames = [
        f"{frame.f_globals.get('__name__', '?')}:{line} {frame.f_code.co_name}"
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    fields: dict[str, Any] = {"error": type(error).__name__, "where": frames[-_FRAMES:]}
    if isinstance(error, OSError) and error.strerror:
        fields["errno"] = error.errno
        fields["reason"] = error.strerror
    return fields


class TimeOfDay:
    """The time of day with its zone: UTC, to the millisecond.  Any thread may call it.

    Args:
        clock_ns: nanoseconds since 1970.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        # One value, so that no thread sees a second with another second's text.
        self._second = (0, "1970-01-01T00:00:00")

    def __call__(self) -> str:
        """Now, as in `2025-01-31T12:03:04.567+00:00`.  Only a new second is worked out in full."""
        now_s, rest_ns = divmod(self._clock_ns(), 1_000_000_000)
        second_s, text = self._second
        if now_s != second_s:
            text = datetime.datetime.fromtimestamp(now_s, datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S")
            self._second = now_s, text
        return f"{text}.{rest_ns // 1_000_000:03d}+00:00"
