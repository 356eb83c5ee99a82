"""Structured logging: one line an event on standard error, set up once by the composition root."""

from __future__ import annotations

import atexit
import logging
import os
import sys
from collections.abc import Iterable, Mapping, MutableMapping
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeAlias

import structlog
from msgspec import Struct, structs
from structlog.typing import FilteringBoundLogger

from hybrid_router.core.secret import Secret
from hybrid_router.observe.bridge import OURS, bridge_logging
from hybrid_router.observe.console import console_line
from hybrid_router.observe.lag import Stall
from hybrid_router.observe.lines import (
    Encode,
    EncodeRow,
    TimeOfDay,
    failure_fields,
    json_line,
    row_fields,
    row_line,
)
from hybrid_router.observe.redact import Redactor
from hybrid_router.observe.rows import AttemptLike, CallLike, CallRow, RecordLike, attempt_row
from hybrid_router.observe.writer import Writer

Level: TypeAlias = Literal["debug", "info", "warning", "error"]
Format: TypeAlias = Literal["auto", "json", "console"]

# What the journal understands in front of a line: syslog's severities, the least first.
_PRIORITIES = {"debug": b"<7>", "info": b"<6>", "warning": b"<4>", "error": b"<3>", "critical": b"<2>"}
_URGENT = frozenset({"error", "critical"})
_STANDARD_ERROR = 2
_CLIENT_ERROR, _SERVER_ERROR = 400, 500


class LogSettings(Struct, frozen=True, kw_only=True):
    """How to log.

    Attributes:
        level: least severe line written.
        calls: write a line for each attempt and each call.
        format: `auto` is `console` on a terminal and `json` elsewhere.
        secrets: values that must never be written, however they are spelled.
    """

    level: Level = "info"
    calls: bool = True
    format: Format = "auto"
    secrets: tuple[Secret, ...] = ()


class Logs:
    """The open log.  `logger` is for events; calls and attempts have lines of their own shape.

    Use as a context manager, or `close()` at the end: what waits is written then.
    """

    def __init__(self, settings: LogSettings, fd: int | None) -> None:
        self._time = TimeOfDay()
        self._writer = Writer(fd, self._lost_line)
        self._sink = _Sink(self._writer, journal=_is_journal(fd, os.environ))
        self._fd = fd
        self._tune(settings)
        self._unbridge = bridge_logging(self._event, settings.level)
        atexit.register(self.close)

    def retune(self, *, level: Level, calls: bool, secrets: Iterable[Secret]) -> None:
        """Log so from the next line on.  Secrets known before stay hidden: calls in flight may hold them."""
        known = tuple(dict.fromkeys((*self._settings.secrets, *secrets)))
        settings = structs.replace(self._settings, level=level, calls=calls, secrets=known)
        if settings != self._settings:
            self._tune(settings)
            logging.getLogger(OURS).setLevel(level.upper())

    def _tune(self, settings: LogSettings) -> None:
        self._settings = settings
        # Rows go past structlog, which would cost several times what they do.
        self._row_levels = _levels_from(settings.level) if settings.calls else frozenset()
        self._encode, self._encode_row = _encoders(settings, self._fd)
        structlog.configure(
            processors=[structlog.processors.add_log_level, self._render],
            wrapper_class=structlog.make_filtering_bound_logger(settings.level),
            logger_factory=lambda *_: self._sink,
        )
        self.logger: FilteringBoundLogger = structlog.get_logger().bind()

    @property
    def lost_count(self) -> int:
        """Lines that nobody will read: standard error was closed or blocked."""
        return self._writer.lost_count

    def attempt_line(self, call: CallLike, record: RecordLike, attempt: AttemptLike) -> None:
        """Write the row of an attempt that has ended.  Fits `dispatch.service.OnAttempt`."""
        level = "warning" if attempt.outcome in {"failed", "broken"} else "info"
        if level in self._row_levels:
            row = attempt_row(self._time(), level, call, record, attempt)
            self._sink.write(level, self._encode_row(row))

    def call_line(
        self,
        *,
        request_id: str,
        method: str,
        path: str,
        status: int,
        duration_s: float,
        principal: str | None = None,
        alias: str | None = None,
        decision: str | None = None,
        error: str | None = None,
    ) -> None:
        """Write the row of an HTTP request that has ended.

        Args:
            request_id: what the client was told in x-request-id.
            path: without its query, which may hold a key.
            status: what was sent; 499 when the client left before anything was.
            error: the error's code, also when it went out in-band behind a 200.
        """
        # A status below 400 with an error: the answer broke after its head was sent.
        broken = status >= _SERVER_ERROR or (error and status < _CLIENT_ERROR)
        level = "warning" if broken else "info"
        if level in self._row_levels:
            row = CallRow(
                time=self._time(),
                level=level,
                event="call",
                request=request_id,
                method=method,
                path=path.partition("?")[0],
                status=status,
                duration_s=round(duration_s, 6),
                principal=principal,
                alias=alias,
                decision=decision,
                error=error,
            )
            self._sink.write(level, self._encode_row(row))

    def stall_line(self, stall: Stall) -> None:
        """Write that the event loop is blocked, or runs again.  Fits `LagWatch`; any thread may call it."""
        event = "event loop runs again" if stall.over else "event loop is blocked"
        fields = {"lag_s": round(stall.lag_s, 3), "where": list(stall.where) or None}
        self._event("warning" if stall.over else "error", event, fields)

    def close(self, timeout_s: float = 1.0) -> None:
        """Write what waits, for `timeout_s` at most, and let `logging` and structlog go."""
        atexit.unregister(self.close)
        self._unbridge()
        structlog.reset_defaults()
        self._writer.close(timeout_s)

    def __enter__(self) -> Logs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _event(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """One line through the logger; absent values are left out."""
        present = {key: value for key, value in fields.items() if value is not None}
        getattr(self.logger, level)(event, **present)

    def _render(self, logger: Any, method: str, fields: MutableMapping[str, Any]) -> bytes:
        """The last processor: the event as a line."""
        error = _exception_of(fields.pop("exc_info", None))
        fields.pop("stack_info", None)
        ordered = {
            "time": self._time(),
            "level": fields.pop("level", "info"),
            "event": fields.pop("event", ""),
        }
        return self._encode({**ordered, **fields, **(failure_fields(error) if error else {})})

    def _lost_line(self, count: int) -> bytes:
        return self._encode(
            {"time": self._time(), "level": "warning", "event": "log lines lost", "count": count}
        )


def configure(settings: LogSettings, fd: int | None = None) -> Logs:
    """Send all logging of the process to standard error, or to `fd`.

    Called once, by the composition root; `close()` undoes it.
    """
    if fd is None and sys.stderr is not None:
        fd = _STANDARD_ERROR
    return Logs(settings, fd)


class _Sink:
    """What structlog calls with a finished line: a method for each level."""

    def __init__(self, writer: Writer, *, journal: bool) -> None:
        self._writer = writer
        self._journal = journal

    def debug(self, line: bytes) -> None:
        self.write("debug", line)

    def info(self, line: bytes) -> None:
        self.write("info", line)

    def warning(self, line: bytes) -> None:
        self.write("warning", line)

    def error(self, line: bytes) -> None:
        self.write("error", line)

    def critical(self, line: bytes) -> None:
        self.write("critical", line)

    def write(self, level: str, line: bytes) -> None:
        """Pass a line on; an error does not wait for company."""
        self._writer.write(_PRIORITIES[level] + line if self._journal else line, urgent=level in _URGENT)


def _levels_from(least: Level) -> frozenset[str]:
    """The levels that are written."""
    levels = tuple(_PRIORITIES)
    return frozenset(levels[levels.index(least) :])


def _encoders(settings: LogSettings, fd: int | None) -> tuple[Encode, EncodeRow]:
    """How an event and how a row becomes a line."""
    redact = Redactor(settings.secrets)
    terminal = fd is not None and os.isatty(fd)
    if settings.format == "console" or (settings.format == "auto" and terminal):
        encode = partial(console_line, redact=redact, colour=terminal and "NO_COLOR" not in os.environ)
        return encode, lambda row: encode(row_fields(row))
    return partial(json_line, redact=redact), partial(row_line, redact=redact)


def _is_journal(fd: int | None, environ: Mapping[str, str]) -> bool:
    """Whether the journal reads what we write: it then takes a severity in front of each line.

    Source: systemd.exec(5), $JOURNAL_STREAM: the device and inode of the stream.
    """
    if fd is None:
        return False
    found = os.fstat(fd)
    return environ.get("JOURNAL_STREAM") == f"{found.st_dev}:{found.st_ino}"


def _exception_of(given: Any) -> BaseException | None:
    """The exception that `exc_info=` means: itself, the current one, or a triple."""
    if isinstance(given, BaseException):
        return given
    if isinstance(given, tuple):
        return given[1] if isinstance(given[1], BaseException) else None
    return sys.exc_info()[1] if given else None
