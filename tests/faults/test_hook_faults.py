"""F46: whoever hears of calls may fail, and nobody may read the log: calls are served, losses counted."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from router_policy import policy
from router_process import ACCOUNT, TOKEN, WITHIN_S, Emulator, eventually
from wire_client import CHAT, chat_body

from hybrid_router.app import running
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
    """A router whose standard error is `stderr`."""

    def __init__(self, folder: Path, stderr: int) -> None:
        with (folder / "out").open("wb") as out:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "hybrid_router", "serve"],
                cwd=folder,
                env={**os.environ, **ENVIRON},
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
