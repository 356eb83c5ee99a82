"""F42: something keeps the router from serving for a while: it is told, named, counted, and survived."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from invariants import assert_invariants
from reloading import metric
from router_policy import policy
from router_process import ACCOUNT, TOKEN, Emulator, Router, soon, stopped_at_end
from wire_client import ask, chat_body, raw_call

from hybrid_router.app.router import running
from hybrid_router.config.load import load
from hybrid_router.observe.lag import Stall
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.observe.rows import AttemptLike, CallLike, RecordLike

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

ENVIRON = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN}
STALLS = "hybrid_router_event_loop_stalls_total"
SIGN = b"WATCHDOG=1"
WATCHDOG_S = 0.4
STOPPED_S = 2.0


class BlockingLogs(Logs):
    """A log whose rows block until somebody has noticed."""

    def __init__(self) -> None:
        super().__init__(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY))
        self.noticed = threading.Event()
        self.stalls: list[Stall] = []

    def attempt_line(self, call: CallLike, record: RecordLike, attempt: AttemptLike) -> None:
        assert self.noticed.wait(10), "nobody noticed"

    def stall_line(self, stall: Stall) -> None:
        self.stalls.append(stall)
        self.noticed.set()


async def test_what_blocks_the_loop_is_named(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """While it still blocks; then it is counted once, and the call that suffered it is answered."""
    (tmp_path / "router.yaml").write_text(policy(manifest, emulator.base_url, preload=False))
    loaded = load(tmp_path / "router.yaml", ENVIRON)
    with (logs := BlockingLogs()):
        async with running(loaded, logs, environ=ENVIRON) as router:
            here = Here(router.url)
            answer = await ask(here, chat_body("cloud-only", "repeat: late but whole", stream=True))
            await soon(lambda: len(logs.stalls) == 2, "the loop runs again")

            assert (answer.text(), answer.done) == ("late but whole", True)
            assert [stall.over for stall in logs.stalls] == [False, True]
            assert any("attempt_line" in place for place in logs.stalls[0].where)
            assert await metric(here, STALLS) == 1


class Here(Router):
    """A router that runs in this process, as far as clients of it are concerned."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked_count = 0


@pytest.fixture
def service_manager(tmp_path: Path) -> Iterator[socket.socket]:
    """Hears what a service tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.setblocking(False)
        yield heard


def signs(heard: socket.socket) -> int:
    """Signs of life that came since the last look."""
    count = 0
    with suppress(BlockingIOError):
        while True:
            count += heard.recv(4096) == SIGN
    return count


def stands_still(pid: int) -> bool:
    """Whether a process was stopped."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


async def test_a_router_that_stood_still_goes_on(
    manifest: Path, emulator: Emulator, tmp_path: Path, service_manager: socket.socket
) -> None:
    """The watchdog hears nothing while it stands; then streams go on whole, and the stall is told."""
    manager = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(int(WATCHDOG_S * 1e6))}
    emulator.calm()
    started = Router(policy(manifest, emulator.base_url), tmp_path / "router", environ=ENVIRON | manager)
    with stopped_at_end(router := started):
        before = await router.quiet()
        await soon(lambda: signs(service_manager), "a sign of life")
        cloud, local = (
            chat_body("cloud-only", "count to 200", stream=True),
            chat_body("local-only", "Count to a hundred.", stream=True, max_tokens=60),
        )
        uncut = await ask(router, local)
        async with raw_call(router, cloud) as one, raw_call(router, local) as other:
            await asyncio.gather(one.pieces(3), other.pieces(3))
            router.send(signal.SIGSTOP)
            await soon(lambda: stands_still(router.pid), "it stands still")
            signs(service_manager)
            await asyncio.sleep(STOPPED_S)
            assert signs(service_manager) == 0
            router.send(signal.SIGCONT)
            answers = [await one.rest(), await other.rest()]
        await soon(lambda: signs(service_manager), "a sign of life")

        assert answers[0].text() == " ".join(str(number) for number in range(1, 201))
        assert answers[1].text() == uncut.text()
        assert await metric(router, STALLS) == 1
        (line,) = await soon(
            lambda: [line for line in router.log() if line["event"] == "event loop runs again"], "it is told"
        )
        assert line["lag_s"] > 1
        await assert_invariants(router, before, [uncut, *answers])
