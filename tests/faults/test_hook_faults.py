"""F46: whoever hears of calls may fail, and nobody may read the log: calls are served, losses counted."""

from __future__ import annotations

import os
import select
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import aiohttp
import pytest
from router_policy import policy
from router_process import ACCOUNT, TOKEN, WITHIN_S, Emulator, eventually
from wire_client import CHAT, chat_body

from hybrid_router.app.router import running
from hybrid_router.config.load import load
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.observe.rows import AttemptLike, CallLike, RecordLike

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

ENVIRON = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN}
CALLS = 120  # their lines are more than a pipe holds


class BrokenLogs(Logs):
    """A log whose rows fail."""

    def attempt_line(self, call: CallLike, record: RecordLike, attempt: AttemptLike) -> None:
        raise RuntimeError("the log is broken")


async def answers(url: str, count: int = 1) -> None:
    """So many calls, all of them answered."""
    async with aiohttp.ClientSession() as http:
        for number in range(count):
            body = chat_body("cloud-only", f"repeat: {number}", stream=bool(number % 2))
            async with http.post(url + CHAT, json=body) as reply:
                assert (reply.status, str(number) in await reply.text()) == (200, True)


async def number(url: str, name: str) -> float:
    """One of the router's numbers."""
    async with aiohttp.ClientSession() as http, http.get(f"{url}/metrics") as reply:
        lines = (await reply.text()).splitlines()
    (found,) = [line for line in lines if line.startswith(name + " ")]
    return float(found.split()[-1])


async def test_a_log_that_fails_hurts_no_call(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Every attempt's row raises: the calls are answered, counted, and the failures too."""
    (tmp_path / "router.yaml").write_text(policy(manifest, emulator.base_url, preload=False))
    loaded = load(tmp_path / "router.yaml", ENVIRON)
    with BrokenLogs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as logs:
        async with running(loaded, logs, environ=ENVIRON) as router:
            await answers(router.url, 4)
            assert await number(router.url, 'hybrid_router_hooks_failed_total{hook="log"}') == 4
            where = 'backend="cloudflare",mode="fresh",model="@cf/meta/llama-3.2-1b-instruct"'
            counted = f'hybrid_router_attempts_total{{{where},outcome="answered"}}'
            assert await number(router.url, counted) == 4


@pytest.fixture
def folder(manifest: Path, emulator: Emulator, tmp_path: Path) -> Path:
    """A folder with a router.yaml that makes many lines."""
    text = policy(manifest, emulator.base_url, preload=False)
    (tmp_path / "router.yaml").write_text(text + "\nlog: { level: debug }\n")
    return tmp_path


class Service:
    """A router whose standard error is `stderr`.  `within`: a command that becomes the one after it."""

    def __init__(self, folder: Path, stderr: int, within: Sequence[str] = (), **environ: str) -> None:
        with (folder / "out").open("wb") as out:
            self.popen = subprocess.Popen(
                [*within, sys.executable, "-m", "hybrid_router", "serve"],
                cwd=folder,
                env={**os.environ, **ENVIRON, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=stderr,
            )
        ready = eventually(lambda: self._lines(folder / "out"), "the ready line")
        self.url = ready[0].split("answers on ")[1].removesuffix("/v1")

    @staticmethod
    def _lines(out: Path) -> list[str]:
        return [line for line in out.read_text().splitlines() if "answers on" in line]


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that nobody reads."""
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


async def test_a_closed_log_hurts_no_call(folder: Path) -> None:
    """Nobody is at the other end: calls are answered, and the lines that are lost are counted."""
    read, write = os.pipe()
    os.close(read)
    service = Service(folder, write)
    os.close(write)
    try:
        await answers(service.url, CALLS)
        assert await number(service.url, "hybrid_router_log_lines_lost_total") > 0
    finally:
        service.popen.terminate()
        assert service.popen.wait(WITHIN_S) == 0


async def test_a_blocked_log_hurts_no_call(folder: Path, pipe: tuple[int, int]) -> None:
    """Nobody reads, and the pipe is full: calls are answered, and the router still ends when told to."""
    service = Service(folder, pipe[1])
    while select.select([], pipe[1:], [], 0)[1]:
        os.write(pipe[1], b"x" * select.PIPE_BUF)
    try:
        await answers(service.url, CALLS)
    finally:
        service.popen.terminate()
        assert service.popen.wait(WITHIN_S) == 0


async def test_a_blocked_journal_hurts_no_call(folder: Path) -> None:
    """The socket that systemd gives as standard error is full: as with a pipe."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        service = Service(folder, theirs.fileno())
        theirs.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                theirs.send(b"x" * 4096)
        theirs.setblocking(True)
        try:
            await answers(service.url, CALLS)
        finally:
            service.popen.terminate()
            assert service.popen.wait(WITHIN_S) == 0


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 2>&-"], ids=["stderr", "stdin and stderr"])
async def test_no_standard_error_hurts_no_call(folder: Path, closed: str) -> None:
    """Without the descriptor no line goes astray: not into a client's connection, not into the store."""
    service = Service(folder, subprocess.DEVNULL, ("sh", "-c", f'exec "$0" "$@" {closed}'))
    try:
        await answers(service.url, 20)
        fds = Path(f"/proc/{service.popen.pid}/fd")
        assert str((fds / "2").readlink()) == os.devnull
    finally:
        service.popen.terminate()
        assert service.popen.wait(WITHIN_S) == 0
    with closing(sqlite3.connect(folder / "state" / "router.sqlite3")) as store:
        assert store.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_a_deaf_service_manager_hurts_no_call(folder: Path) -> None:
    """Its socket is full, and nobody reads it: the router starts, answers and ends as ever."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as filler,
    ):
        deaf.bind(str(folder / "notify"))
        filler.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                filler.sendto(b"x", str(folder / "notify"))
        service = Service(
            folder, subprocess.DEVNULL, NOTIFY_SOCKET=str(folder / "notify"), WATCHDOG_USEC="200000"
        )
        try:
            await answers(service.url, 10)
        finally:
            service.popen.terminate()
            assert service.popen.wait(WITHIN_S) == 0
