"""What systemd hears, over a real socket in the place of its own."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from hybrid_router.observe.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens as systemd does, and its $NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@hybrid-router-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("\0" + name[1:] if name.startswith("@") else name)
        listening.settimeout(10)
        yield listening, name


def heard(listening: socket.socket) -> dict[str, str]:
    """The next message's assignments."""
    return dict(line.split("=", 1) for line in listening.recv(4096).decode().splitlines())


def test_a_life_is_told(manager: tuple[socket.socket, str]) -> None:
    """Ready, status, reloading and stopping arrive as systemd spells them."""
    listening, name = manager
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    with Notifier.from_environment({"NOTIFY_SOCKET": name}) as notifier:
        notifier.ready("listening on 127.0.0.1:8080")
        assert heard(listening) == {"READY": "1", "STATUS": "listening on 127.0.0.1:8080"}
        notifier.status("2 calls\nREADY=0")
        assert heard(listening) == {"STATUS": "2 calls READY=0"}
        notifier.reloading()
        reloading = heard(listening)
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) >= before_us
        notifier.ready()
        assert heard(listening) == {"READY": "1"}
    assert heard(listening) == {"STOPPING": "1"}
    assert notifier.lost_count == 0


async def test_signs_of_life_come_from_the_loop(manager: tuple[socket.socket, str]) -> None:
    """While the loop runs the watchdog hears from us, and no more once the task is gone."""
    listening, name = manager
    notifier = Notifier.from_environment(
        {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "2000", "WATCHDOG_PID": str(os.getpid())}
    )
    task = asyncio.create_task(notifier.keep_alive())
    for _ in range(3):
        assert await asyncio.to_thread(heard, listening) == {"WATCHDOG": "1"}
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"NOTIFY_SOCKET": "/nowhere"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "0"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "/nowhere", "WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "1000"},
    ],
)
async def test_no_watchdog_means_no_task(environ: dict[str, str]) -> None:
    """Without a watchdog meant for this process, keeping alive ends at once."""
    await Notifier.from_environment(environ).keep_alive()


@pytest.mark.parametrize("address", ["", "relative", "vsock:2:1"])
def test_no_manager_means_silence(address: str) -> None:
    """Started by hand, or with an address we do not speak, every message is a no-op."""
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})
    notifier.ready()

    assert notifier.lost_count == 0


def test_a_dead_manager_breaks_nothing(tmp_path: Path) -> None:
    """Messages that cannot be sent are counted, and serving goes on."""
    notifier = Notifier(str(tmp_path / "gone"))
    notifier.ready()
    notifier.stopping("draining")

    assert notifier.lost_count == 2


def test_a_full_socket_breaks_nothing(tmp_path: Path) -> None:
    """A manager that reads nothing costs messages, never time."""
    name = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name)
        notifier = Notifier(name)
        for _ in range(5000):
            notifier.status("still here")

    assert notifier.lost_count > 0


CHILD = """
import asyncio, os
from hybrid_router.observe.notify import Notifier

async def main():
    with Notifier.from_environment(os.environ) as notifier:
        async with asyncio.TaskGroup() as tasks:
            alive = tasks.create_task(notifier.keep_alive())
            notifier.ready("up")
            await asyncio.get_running_loop().run_in_executor(None, input)
            alive.cancel()

asyncio.run(main())
"""


def test_a_service_process_lives_and_ends_by_the_protocol(manager: tuple[socket.socket, str]) -> None:
    """A real process under our fake manager: ready, alive until told to stop, stopping, gone."""
    listening, name = manager
    environ = os.environ | {"NOTIFY_SOCKET": name, "WATCHDOG_USEC": "20000"}
    environ.pop("WATCHDOG_PID", None)
    with subprocess.Popen([sys.executable, "-c", CHILD], env=environ, stdin=subprocess.PIPE) as child:
        assert heard(listening) == {"READY": "1", "STATUS": "up"}
        assert heard(listening) == {"WATCHDOG": "1"}
        assert heard(listening) == {"WATCHDOG": "1"}
        child.communicate(b"stop\n", timeout=10)
        said = heard(listening)
        while said == {"WATCHDOG": "1"}:
            said = heard(listening)
    assert said == {"STOPPING": "1"}
    assert child.returncode == 0
