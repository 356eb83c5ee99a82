"""One event, one line: whole, bounded, without secrets, whoever logs it and whatever it holds."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pty
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import structlog
from aiohttp import web
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Usage
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Plan
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.observe.bridge import PerSecond
from hybrid_router.observe.console import console_line
from hybrid_router.observe.lag import Stall
from hybrid_router.observe.lines import LIMIT_BYTES, json_line
from hybrid_router.observe.logs import Logs, LogSettings, configure
from hybrid_router.observe.redact import Redactor

CANARY = 'zq81-canary/7Lw0"xYp3\\Rk9sTt'


class Log:
    """An open log that writes to a pipe, and what it wrote."""

    def __init__(self, **settings: Any) -> None:
        self._read, write = os.pipe()
        settings.setdefault("secrets", (Secret(CANARY),))
        self.logs = configure(LogSettings(**settings), write)
        os.close(write)

    def text(self) -> str:
        """All lines, once; closes the log."""
        self.logs.close()
        with os.fdopen(self._read, "rb") as pipe:
            return pipe.read().decode()

    def lines(self) -> list[dict[str, Any]]:
        """All lines, parsed."""
        return [json.loads(line) for line in self.text().splitlines()]


@pytest.fixture
def opened() -> Iterator[Callable[..., Log]]:
    """Opens a log; it is closed at the end in any case."""
    made: list[Log] = []

    def open_log(**settings: Any) -> Log:
        made.append(Log(**settings))
        return made[-1]

    yield open_log
    for log in made:
        log.logs.close()


def call() -> Call:
    """A chat of somebody's editor."""
    return Call(id="chatcmpl-1", operation=Operation.CHAT, alias="small", principal="editor", stream=True)


def attempt(**changes: Any) -> Attempt:
    """An attempt that answered."""
    usual: dict[str, Any] = {
        "backend": "local",
        "model": "smollm2",
        "started_s": 100.0,
        "first_event_s": 100.25,
        "ended_s": 101.5,
        "outcome": "answered",
        "usage": Usage(12, 34),
    }
    return Attempt(**(usual | changes))


def test_an_attempt_is_one_row(opened: Callable[..., Log]) -> None:
    """An attempt that answered says who, how long and how much."""
    log, first, second = opened(), attempt(outcome="failed", usage=None), attempt()
    record = Record(id="dec_1", plan=Plan(), attempts=[first, second])
    log.logs.attempt_line(call(), record, second)

    [line] = log.lines()
    time = datetime.fromisoformat(line.pop("time"))
    assert time.utcoffset() is not None
    assert line == {
        "level": "info",
        "event": "attempt",
        "decision": "dec_1",
        "call": "chatcmpl-1",
        "attempt": 2,
        "outcome": "answered",
        "backend": "local",
        "model": "smollm2",
        "alias": "small",
        "operation": "chat",
        "principal": "editor",
        "stream": True,
        "ttft_s": 0.25,
        "duration_s": 1.5,
        "prompt_tokens": 12,
        "completion_tokens": 34,
        "cached_tokens": 0,
    }


def test_what_has_no_tokens_tells_none(opened: Callable[..., Log]) -> None:
    """Of speech the row says how long it is; of an answer in text no tokens is a number."""
    log, row = opened(), attempt(usage=Usage(12, 0, sound_s=1.42519))
    record = Record(id="dec_1", plan=Plan(), attempts=[row])
    log.logs.attempt_line(structs.replace(call(), operation=Operation.SPEAK), record, row)
    row.usage = Usage(12, 0)
    log.logs.attempt_line(call(), record, row)

    spoken, written = log.lines()
    assert (spoken["prompt_tokens"], spoken["sound_s"]) == (12, 1.425)
    assert not {"completion_tokens", "cached_tokens"} & spoken.keys()
    assert (written["completion_tokens"], written["cached_tokens"], "sound_s" in written) == (0, 0, False)


def test_a_failed_attempt_warns_without_its_secrets(opened: Callable[..., Log]) -> None:
    """The detail of a failure is kept, the token that the upstream quoted in it is not."""
    log = opened()
    body = json.dumps({"errors": [{"message": f"token {CANARY} is not valid"}]})
    row = attempt(
        outcome="failed", error="backend_misconfigured", detail=body, first_event_s=None, usage=None
    )
    log.logs.attempt_line(call(), Record(id="dec_1", plan=Plan(), attempts=[row]), row)

    [line] = log.lines()
    assert line["level"] == "warning"
    assert line["error"] == "backend_misconfigured"
    assert line["detail"] == '{"errors": [{"message": "token [redacted] is not valid"}]}'
    assert "ttft_s" not in line


@pytest.mark.parametrize(
    ("status", "error", "level"),
    [
        (200, None, "info"),
        (404, "not_found", "info"),
        (502, "backend_error", "warning"),
        (200, "stream_broken", "warning"),
    ],
)
def test_a_call_is_one_row(opened: Callable[..., Log], status: int, error: str | None, level: str) -> None:
    """A request that ended is one line; a broken answer warns although its status was 200."""
    log = opened()
    log.logs.call_line(
        request_id="req_1",
        method="POST",
        path="/v1/chat/completions?api_key=1",
        status=status,
        duration_s=0.5,
        error=error,
    )

    [line] = log.lines()
    assert line["level"] == level
    assert line["path"] == "/v1/chat/completions"
    assert (line["request"], line["status"], line["duration_s"]) == ("req_1", status, 0.5)


def test_a_stall_is_logged_while_it_lasts(opened: Callable[..., Log]) -> None:
    """A blocked loop is an error with its stack, written at once; its end says how long it took."""
    log = opened()
    log.logs.stall_line(Stall(lag_s=1.2345, over=False, where=("app:3 main", "rules:9 match")))
    log.logs.stall_line(Stall(lag_s=2.0, over=True))

    blocked, over = log.lines()
    assert (blocked["level"], blocked["where"]) == ("error", ["app:3 main", "rules:9 match"])
    assert (over["level"], over["lag_s"]) == ("warning", 2.0)


def test_rows_can_be_turned_off(opened: Callable[..., Log]) -> None:
    """`log.calls: false` leaves events only, `level` leaves out what is less severe."""
    log = opened(calls=False, level="warning")
    log.logs.attempt_line(call(), Record(id="dec_1", plan=Plan()), attempt())
    log.logs.call_line(request_id="r", method="GET", path="/", status=500, duration_s=0.1)
    log.logs.logger.info("not severe")
    log.logs.logger.warning("severe", port=8080)

    assert [(line["event"], line["port"]) for line in log.lines()] == [("severe", 8080)]


@pytest.mark.parametrize(
    ("level", "outcomes", "statuses"),
    [
        ("debug", ["answered", "failed"], [200, 502]),
        ("warning", ["failed"], [502]),
        ("error", [], []),
    ],
)
def test_rows_obey_the_level(
    opened: Callable[..., Log], level: str, outcomes: list[str], statuses: list[int]
) -> None:
    """Rows are as severe as their end: `level` leaves out those that are less."""
    log = opened(level=level)
    for outcome in ("answered", "failed"):
        log.logs.attempt_line(call(), Record(id="dec_1", plan=Plan()), attempt(outcome=outcome))
    for status in (200, 502):
        log.logs.call_line(request_id="r", method="GET", path="/", status=status, duration_s=0.1)

    lines = log.lines()
    assert [line["outcome"] for line in lines if line["event"] == "attempt"] == outcomes
    assert [line["status"] for line in lines if line["event"] == "call"] == statuses


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.just(object()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
    max_leaves=10,
)


@given(st.dictionaries(st.text(st.characters()), values))
@example({"model": "a\nb\x1b[31m\x9b\u2028\u202e", "big": "é" * 1_000_000})
@example({"lone": "\ud800", "huge": 10**30, "nan": float("nan"), "controls": "\x00" * 9_000})
@example({str(number): "x" * 500 for number in range(1000)})
def test_any_event_is_one_bounded_line(fields: dict[str, Any]) -> None:
    """Whatever the values: one line of JSON of at most 8,192 bytes, nothing in it that moves a cursor."""
    line = json_line({"event": "any"} | fields, Redactor([Secret(CANARY)]))

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert len(line) <= LIMIT_BYTES
    assert isinstance(json.loads(line), dict)
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", line.decode())


@given(st.text(), st.text(), st.sampled_from([str, json.dumps, repr, lambda text: [{"deep": text}]]))
@example("x" * 1_990, "", str)
def test_no_value_carries_a_secret_out(before: str, after: str, wrapped: Callable[[str], Any]) -> None:
    """A known secret in any value, at any depth and under any escape, is not in the line."""
    line = json_line({"event": "e", "value": wrapped(before + CANARY + after)}, Redactor([Secret(CANARY)]))

    assert b"canary" not in line


def test_an_exception_is_a_class_and_a_place(opened: Callable[..., Log]) -> None:
    """A logged exception names where it was raised; its text, which may quote a prompt, stays out."""
    log = opened()
    try:
        int(f"{CANARY} and a private prompt")
    except ValueError:
        log.logs.logger.exception("it broke")
    log.logs.logger.error("disk", exc_info=OSError(28, "No space left on device", "/secret/path"))

    broke, disk = log.lines()
    assert broke["error"] == "ValueError"
    assert broke["where"][-1].endswith("test_an_exception_is_a_class_and_a_place")
    assert "private" not in json.dumps(broke)
    assert disk["reason"] == "No space left on device"
    assert "/secret" not in json.dumps(disk)


def test_logging_goes_back_to_what_it_was() -> None:
    """Closing the log leaves `logging` and structlog as they were found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    log = Log()
    assert root.handlers != handlers
    log.text()

    assert (root.handlers, root.level) == (handlers, level)
    assert not structlog.is_configured()


def test_our_own_records_come_through(opened: Callable[..., Log]) -> None:
    """`logging` used inside the package keeps its text, redacted."""
    log = opened()
    logging.getLogger("hybrid_router.part").warning("said %s to %s", CANARY, "you")
    logging.getLogger("hybrid_router.part").warning("said %d", "nothing countable")

    first, second = log.lines()
    assert (first["event"], first["logger"]) == ("said [redacted] to you", "hybrid_router.part")
    assert second["event"] == "said %d"


async def test_malformed_requests_show_no_header(opened: Callable[..., Log]) -> None:
    """aiohttp's own log of a request that does not parse reaches us without a word of the request."""
    log = opened(secrets=())
    runner = web.ServerRunner(web.Server(lambda request: web.Response()))  # type: ignore[arg-type, return-value]
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host, port = runner.addresses[0][:2]
    malformed = [
        b"GET / HTTP/1.1\r\nHost: x\r\nAuthorization\x00: Bearer canary-token\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\n Authorization: Bearer canary-token\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: canary-token\r\n\r\n",
        b"canary-token\r\n\r\n",
    ]
    for _ in range(10):
        for request in malformed:
            reader, writer = await asyncio.open_connection(host, port)
            with closing(writer):
                writer.write(request)
                assert await reader.read()
    await runner.cleanup()

    text = log.text()
    assert "canary" not in text
    assert "Error handling request from" in text
    assert all(json.loads(line)["level"] == "info" for line in text.splitlines())
    assert len(text.splitlines()) < 40


async def test_a_lost_task_shows_no_value(opened: Callable[..., Log]) -> None:
    """asyncio's report of an unseen exception names its class and place only."""
    log = opened()
    asyncio.get_running_loop().call_exception_handler(
        {"message": "Task exception was never retrieved", "exception": KeyError("canary"), "task": "canary"}
    )
    logging.getLogger("other").warning("canary-first %s", "canary")

    lost, other = log.lines()
    assert (lost["event"], lost["error"]) == ("Task exception was never retrieved", "KeyError")
    assert "canary" not in json.dumps(lost)
    assert other["event"] == "canary-first"


def test_noise_is_counted_not_written() -> None:
    """Of a kind, a few a second go through; the next one through tells how many did not."""
    now_s = [10.0]
    per_second = PerSecond(2, lambda: now_s[0])
    assert [per_second.admit("a") for _ in range(5)] == [0, 0, None, None, None]
    assert per_second.admit("b") == 0
    now_s[0] = 11.0
    assert [per_second.admit("a"), per_second.admit("a"), per_second.admit("a")] == [3, 0, None]


@given(st.text(st.characters()), st.text(st.characters()))
def test_a_terminal_shows_one_plain_line(event: str, value: str) -> None:
    """No value can colour, clear or move what the terminal shows."""
    line = console_line({"event": event, "level": "info", "value": value}, Redactor(), colour=False).decode()

    assert line.endswith("\n")
    assert line[:-1].isprintable()


def test_a_terminal_gets_people_s_lines() -> None:
    """On a terminal the lines are short and coloured, elsewhere JSON."""
    ours, terminal = pty.openpty()
    with Logs(LogSettings(), terminal) as logs:
        logs.call_line(request_id="r", method="GET", path="/", status=200, duration_s=0.1)
        logs.logger.warning("listening", address="127.0.0.1:8080", after_s=0.12345, note="two words")
    os.close(terminal)
    shown = os.read(ours, 4096).decode()
    os.close(ours)

    assert "call  request=r method=GET path=/ status=200 duration_s=0.1" in re.sub("\x1b\\[\\d+m", "", shown)
    assert "\x1b[33mwarning" in shown
    assert "listening" in shown
    assert (
        re.sub("\x1b\\[\\d+m", "", shown)
        .rstrip()
        .endswith('address=127.0.0.1:8080 after_s=0.123 note="two words"')
    )


def test_the_journal_gets_a_severity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the journal reads, each line says how severe it is, so `journalctl -p` works."""
    with (tmp_path / "journal").open("w+b") as journal:
        found = os.fstat(journal.fileno())
        monkeypatch.setenv("JOURNAL_STREAM", f"{found.st_dev}:{found.st_ino}")
        with configure(LogSettings(), journal.fileno()) as logs:
            logs.logger.error("bad")
            logs.call_line(request_id="r", method="GET", path="/", status=200, duration_s=0.1)
        journal.seek(0)
        bad, row = journal.read().splitlines()
        assert bad.startswith(b'<3>{"time":')
        assert row.startswith(b'<6>{"time":')


PROCESS = """
from hybrid_router.observe.logs import LogSettings, configure
logs = configure(LogSettings())
for number in range(100):
    logs.logger.info("line", number=number)
print("served", logs.lost_count)
"""


def test_what_waits_is_written_at_exit() -> None:
    """A process that ends without closing its log loses no line."""
    done = subprocess.run(
        [sys.executable, "-c", PROCESS], capture_output=True, text=True, check=True, timeout=15
    )

    assert [json.loads(line)["number"] for line in done.stderr.splitlines()] == list(range(100))


def test_a_closed_standard_error_breaks_nothing() -> None:
    """Started with standard error closed, the process serves and ends well."""
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -c "$1" 2>&-', sys.executable, PROCESS],
        stdout=subprocess.PIPE,
        check=True,
        timeout=15,
    )

    assert done.stdout.startswith(b"served")


def test_another_level_holds_from_the_next_line_on(opened: Callable[..., Log]) -> None:
    """A reload changes what is written, of our own `logging` too, and leaves what was written as it was."""
    log = opened(level="warning")
    log.logs.logger.info("before")
    log.logs.retune(level="debug", calls=False, secrets=())
    log.logs.logger.debug("after")
    logging.getLogger("hybrid_router.some.module").debug("from a module")
    log.logs.attempt_line(call(), Record(id="dec_1", plan=Plan()), attempt())

    assert [line["event"] for line in log.lines()] == ["after", "from a module"]


def test_new_secrets_are_hidden_and_old_ones_stay_so(opened: Callable[..., Log]) -> None:
    """A rotated token: calls that began with the old one may still quote it."""
    log = opened()
    log.logs.retune(level="info", calls=True, secrets=(Secret("fresh-token-5150"),))
    log.logs.logger.info("said", old=CANARY, new="fresh-token-5150")

    (line,) = log.lines()
    assert (line["old"], line["new"]) == ("[redacted]", "[redacted]")


@pytest.mark.filterwarnings("default")
def test_a_warning_is_told_by_its_type(opened: Callable[..., Log]) -> None:
    """What a library warns of may quote a call: its text is not written, and others show warnings again."""
    before = warnings.showwarning
    log = opened()
    warnings.warn("a head with a patient's name", RuntimeWarning, stacklevel=1)
    text = log.text()

    line = json.loads(text)
    assert (line["level"], line["error"]) == ("warning", "RuntimeWarning")
    assert line["where"].startswith("test_logs.py:")
    assert "patient" not in text
    assert warnings.showwarning == before
