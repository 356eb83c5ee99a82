"""Hooks that cannot fail, whatever is hooked in."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping

import pytest

from hybrid_router.app.hooks import Hooks
from hybrid_router.observe.logs import Logs, LogSettings, configure
from hybrid_router.observe.metrics import Labels, Metrics


class Opened:
    """An open log that writes to a pipe."""

    def __init__(self) -> None:
        self._read, write = os.pipe()
        self.logs: Logs = configure(LogSettings(format="json"), write)
        os.close(write)

    def lines(self) -> list[dict[str, object]]:
        """What was written; closes the log."""
        self.logs.close()
        with os.fdopen(self._read, "rb") as pipe:
            return [json.loads(line) for line in pipe.read().splitlines()]


@pytest.fixture
def log() -> Iterator[Opened]:
    """A log."""
    opened = Opened()
    yield opened
    opened.logs.close()


def fail(*given: object) -> None:
    """As a hook with a mistake in it."""
    raise ZeroDivisionError("of canary-51ab")


def test_everybody_is_told_whoever_fails(log: Opened) -> None:
    """Those after a hook that fails hear of it all the same; the failure is counted under its name."""
    heard: list[int] = []
    hooks = Hooks(log.logs)
    tell = hooks.each(first=heard.append, broken=fail, last=heard.append)
    tell(7)
    tell(8)

    assert heard == [7, 7, 8, 8]
    assert hooks.failed_count == {("broken",): 2}


def test_a_failure_is_logged_once_a_second_without_what_it_says(log: Opened) -> None:
    """The hook, the exception's class and where; its text may hold anything."""
    hooks = Hooks(log.logs)
    tell = hooks.each(broken=fail)
    for _ in range(50):
        tell()

    lines = log.lines()
    assert 1 <= len(lines) <= 3
    assert (lines[0]["event"], lines[0]["hook"], lines[0]["error"]) == (
        "hook failed",
        "broken",
        "ZeroDivisionError",
    )
    assert "canary-51ab" not in json.dumps(lines)


def test_a_log_that_fails_itself_is_survived(log: Opened) -> None:
    """Even telling of the failure may fail."""
    hooks = Hooks(log.logs)
    log.logs.logger = None  # type: ignore[assignment]
    hooks.each(broken=fail)()

    assert hooks.failed_count == {("broken",): 1, ("log",): 1}


def test_a_number_that_cannot_be_read_takes_no_other_with_it(log: Opened) -> None:
    """/metrics tells the rest, and that something failed."""

    def unreadable() -> Mapping[Labels, float]:
        raise OSError("gone")

    hooks = Hooks(log.logs)
    metrics = Metrics(hooks.shield)
    metrics.watch("hybrid_router_test_broken", "Broken.", (), unreadable)
    metrics.watch("hybrid_router_test_good", "Good.", (), lambda: {(): 5})
    body, _ = metrics.text()

    assert b"\nhybrid_router_test_good 5.0\n" in body
    assert b"\nhybrid_router_test_broken " not in body
    assert hooks.failed_count == {("hybrid_router_test_broken",): 1}
