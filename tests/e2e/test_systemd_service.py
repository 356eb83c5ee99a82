"""The real service under a service manager, as far as a notify socket goes."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from router_policy import policy
from router_process import TOKEN, WITHIN_S, Emulator, Router, stopped_at_end

pytestmark = pytest.mark.model


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that listens as systemd does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(WITHIN_S)
        yield listening


def heard(manager: socket.socket, wanted: str) -> list[str]:
    """Every message up to the first that holds `wanted`."""
    messages = [manager.recv(4096).decode()]
    while wanted not in messages[-1]:
        messages.append(manager.recv(4096).decode())
    return messages


@pytest.mark.timeout(60)  # it loads the model
def test_the_service_says_ready_alive_and_stopping(
    manager: socket.socket, manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """Ready when it answers; signs of life from its loop; stopping when the signal comes, then exit 0."""
    folder, credentials = tmp_path / "service", tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "cloudflare_account").write_text("e" * 32 + "\n")
    (credentials / "cloudflare_token").write_text(TOKEN + "\n")
    for file in credentials.iterdir():
        file.chmod(0o400)
    environ = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "WATCHDOG_USEC": "200000",
        "CREDENTIALS_DIRECTORY": str(credentials),
    }
    config = policy(manifest, emulator.base_url).replace(
        "env: CLOUDFLARE_ACCOUNT_ID", "credential: cloudflare_account"
    )
    config = config.replace("env: CLOUDFLARE_API_TOKEN", "credential: cloudflare_token")

    with stopped_at_end(router := Router(config, folder, environ=environ)):
        before_ready = heard(manager, "READY=1")
        assert router.url in before_ready[-1]
        heard(manager, "WATCHDOG=1")
        router.popen.send_signal(signal.SIGTERM)
        heard(manager, "STOPPING=1")
        assert router.popen.wait(WITHIN_S) == 0

    assert "is off" not in router.said, "the credentials were not read"
    assert TOKEN not in router.said + router.log_text
