"""Other people's `logging` records as our lines, without what they quote.

aiohttp logs a malformed request with the line that did not parse, and that may be `Authorization: …`.
So of a foreign record only this is written: the logger's name, the words before its first value, and
the exception's class and place.  A warning's text is left out altogether.
"""

from __future__ import annotations

import logging
import re
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from hybrid_router.observe.lines import failure_fields

Emit: TypeAlias = Callable[[str, str, dict[str, Any]], None]
"""Takes level, event and fields."""

OURS = "hybrid_router"
_QUIET = "aiohttp.access"  # we write our own line for each call
_WORDS = re.compile(r"[A-Za-z][\w ,.-]{0,79}", re.ASCII)
_EACH_PER_SECOND = 5
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))


class PerSecond:
    """Lets a few of a kind through each second and counts the rest."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._second = 0
        self._seen: dict[str, int] = {}
        self._held_back: dict[str, int] = {}

    def admit(self, kind: str) -> int | None:
        """How many of `kind` were held back since the last that went through; None: hold this one back."""
        second = int(self._clock())
        if second != self._second:
            self._second, self._seen = second, {}
        seen = self._seen[kind] = self._seen.get(kind, 0) + 1
        if seen <= self._limit:
            return self._held_back.pop(kind, 0)
        self._held_back[kind] = self._held_back.get(kind, 0) + 1
        return None


class Bridge(logging.Handler):
    """Passes records of the `logging` module on to `emit_line`."""

    def __init__(self, emit_line: Emit, per_second: PerSecond | None = None) -> None:
        super().__init__()
        self._emit_line = emit_line
        self._per_second = per_second or PerSecond(_EACH_PER_SECOND)

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        level = next((name for number, name in _LEVELS if record.levelno >= number), "debug")
        if record.name == OURS or record.name.startswith(OURS + "."):
            self._emit_line(level, _whole(record), {"logger": record.name, **_failure(record)})
            return
        failure = _failure(record)
        held_back_count = self._per_second.admit(f"{record.name} {failure.get('error')}")
        if held_back_count is None:
            return
        if _is_noise(record):
            level = "info"
        fields = {"logger": record.name, **failure}
        if held_back_count:
            fields["held_back_count"] = held_back_count
        self._emit_line(level, _words(record), fields)

    def show_warning(  # noqa: PLR0917 - the signature of `warnings.showwarning`
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        """Write a warning's type and place.  Its text may quote a call."""
        held_back_count = self._per_second.admit(f"warnings {category.__name__}")
        if held_back_count is None:
            return
        fields: dict[str, Any] = {"error": category.__name__, "where": f"{Path(filename).name}:{lineno}"}
        if held_back_count:
            fields["held_back_count"] = held_back_count
        self._emit_line("warning", "a library warns", fields)


def _whole(record: logging.LogRecord) -> str:
    """The text of one of our own records; it is redacted later like any value."""
    try:
        return record.getMessage()
    except (TypeError, ValueError):  # arguments that do not fit their template
        return str(record.msg)


def _words(record: logging.LogRecord) -> str:
    """The words before a foreign record's first value, which may be anything."""
    found = _WORDS.match(record.msg) if isinstance(record.msg, str) else None
    return found[0].strip() if found else "something was logged"


def _failure(record: logging.LogRecord) -> dict[str, Any]:
    error = record.exc_info[1] if record.exc_info else None
    return failure_fields(error) if error is not None else {}


def _is_noise(record: logging.LogRecord) -> bool:
    """Whether a peer's malformed HTTP was logged: its fault, and nothing an operator can mend."""
    error = record.exc_info[1] if record.exc_info else None
    return any(kind.__name__ == "HttpProcessingError" for kind in type(error).__mro__)


def bridge_logging(emit_line: Emit, level: str) -> Callable[[], None]:
    """Send everything `logging` and `warnings` have through the bridge and nowhere else.

    Returns:
        What puts both back as they were.
    """
    root, ours, quiet = (logging.getLogger(name) for name in (None, OURS, _QUIET))
    handlers, root_level, our_level, was_quiet = root.handlers[:], root.level, ours.level, quiet.disabled

    show_warning = warnings.showwarning

    def put_back() -> None:
        warnings.showwarning = show_warning
        root.handlers[:] = handlers
        root.setLevel(root_level)
        ours.setLevel(our_level)
        quiet.disabled = was_quiet

    bridge = Bridge(emit_line)
    root.handlers[:] = [bridge]
    warnings.showwarning = bridge.show_warning
    root.setLevel(logging.WARNING)
    ours.setLevel(level.upper())
    quiet.disabled = True
    return put_back
