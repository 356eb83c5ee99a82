"""The control socket: who may ask, what is answered, and whose folder it is.  On real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import socket
import stat
import subprocess
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import pytest

from hybrid_router.api.control import Outcome, Status, create_control
from hybrid_router.api.control_socket import FolderTaken, control_socket

CONFIG = "/etc/router/router.yaml"


@dataclass
class Scripted:
    """A router that reloads as it is told to."""

    outcome: Outcome = field(
        default_factory=lambda: Outcome(ok=True, generation=2, at_s=1.0, seconds=0.5, notes=["a note"])
    )
    config: str = CONFIG
    reload_count: int = 0

    async def reload(self) -> Outcome:
        self.reload_count += 1
        return self.outcome

    def status(self) -> Status:
        return Status(
            config=self.config,
            generation=1,
            since_s=0.5,
            last_reload=None,
            off={"cloud": "no token"},
            workers={"local/m": "resident"},
            in_flight_count=3,
            retiring_count=0,
        )


@pytest.fixture
def router() -> Scripted:
    """The usual router."""
    return Scripted()


@pytest.fixture
async def control(router: Scripted, tmp_path: Path) -> AsyncGenerator[aiohttp.ClientSession]:
    """A client of its control socket."""
    async with (
        control_socket(create_control(router), tmp_path / "state") as path,
        aiohttp.ClientSession("http://router", connector=aiohttp.UnixConnector(str(path))) as session,
    ):
        yield session


async def test_a_reload_is_done_and_told(control: aiohttp.ClientSession, router: Scripted) -> None:
    """The outcome comes back whole."""
    async with control.post("/reload", json={"config": CONFIG}) as reply:
        assert reply.status == 200
        assert await reply.json() == {
            "ok": True,
            "generation": 2,
            "at_s": 1.0,
            "seconds": 0.5,
            "errors": [],
            "notes": ["a note"],
        }
    assert router.reload_count == 1


async def test_what_is_wrong_with_the_file_is_told(control: aiohttp.ClientSession, router: Scripted) -> None:
    """422 and every mistake."""
    router.outcome = Outcome(ok=False, generation=1, at_s=1.0, seconds=0.5, errors=["router.yaml:1:1: x"])
    async with control.post("/reload", json={"config": CONFIG}) as reply:
        assert reply.status == 422
        assert (await reply.json())["errors"] == ["router.yaml:1:1: x"]


async def test_another_configuration_is_not_reloaded(
    control: aiohttp.ClientSession, router: Scripted
) -> None:
    """409 names the one that is served, and nothing happens."""
    async with control.post("/reload", json={"config": "/etc/router/other.yaml"}) as reply:
        assert reply.status == 409
        assert (await reply.json())["config"] == CONFIG
    assert router.reload_count == 0


async def test_a_file_may_be_named_by_a_link(
    control: aiohttp.ClientSession, router: Scripted, tmp_path: Path
) -> None:
    """Two paths to one file mean the same configuration."""
    file, link = tmp_path / "router.yaml", tmp_path / "link.yaml"
    file.touch()
    link.symlink_to(file)
    router.config = str(file)
    async with control.post("/reload", json={"config": str(link)}) as reply:
        assert reply.status == 200


@pytest.mark.parametrize("body", [b"", b"{}", b'{"config": 1}', b'{"config": "/x", "more": 1}', b"\xff"])
async def test_a_malformed_body_reloads_nothing(
    control: aiohttp.ClientSession, router: Scripted, body: bytes
) -> None:
    """400 for whatever is not what POST /reload takes."""
    async with control.post("/reload", data=body) as reply:
        assert reply.status == 400
    assert router.reload_count == 0


async def test_the_status_says_how_things_are(control: aiohttp.ClientSession) -> None:
    """Everything that a person wants to know, in one document."""
    async with control.get("/status") as reply:
        told = await reply.json()

    assert told["workers"] == {"local/m": "resident"}
    assert told["off"] == {"cloud": "no token"}
    assert (told["generation"], told["in_flight_count"], told["last_reload"]) == (1, 3, None)


async def test_nobody_else_may_connect(router: Scripted, tmp_path: Path) -> None:
    """The socket is its owner's alone, in a folder that is its owner's alone."""
    async with control_socket(create_control(router), tmp_path / "state") as path:
        assert mode(path) == 0o600
        assert mode(path.parent) == 0o700


async def test_many_may_connect_before_anybody_is_served(router: Scripted, tmp_path: Path) -> None:
    """While the router is busy they wait: the kernel would turn them away from a full backlog."""
    async with control_socket(create_control(router), tmp_path / "state") as path:
        with contextlib.ExitStack() as connected:
            for _ in range(100):  # nobody is served meanwhile: this does not await
                asker = connected.enter_context(socket.socket(socket.AF_UNIX))
                asker.setblocking(False)
                asker.connect(str(path))


async def test_a_folder_that_was_there_keeps_its_mode(router: Scripted, tmp_path: Path) -> None:
    """Somebody else may need it as it is; the socket is closed to others all the same."""
    folder = tmp_path / "open"
    folder.mkdir(0o755)
    async with control_socket(create_control(router), folder) as path:
        assert mode(path) == 0o600
    assert mode(folder) == 0o755


def mode(path: Path) -> int:
    """Who may do what with a file."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
async def test_another_user_is_turned_away(router: Scripted) -> None:
    """403 by the kernel's word, even where file modes were opened by mistake."""
    with TemporaryDirectory() as folder:  # not below pytest's, where nobody else may look
        os.chmod(folder, 0o755)  # noqa: PTH101, S103
        async with control_socket(create_control(router), Path(folder)) as path:
            path.chmod(0o666)
            told = await status_for(path, user=65534)

    assert told == b"HTTP/1.1 403 Forbidden\n"


async def status_for(path: Path, user: int) -> bytes:
    """The first line of what another user is told."""
    code = (
        "import socket, sys\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
        "s.sendall(b'GET /status HTTP/1.1\\r\\nHost: router\\r\\nConnection: close\\r\\n\\r\\n')\n"
        "print(s.recv(65536).decode().splitlines()[0])\n"
    )
    asking = await asyncio.create_subprocess_exec(
        "/usr/bin/env", "python3", "-I", "-c", code, str(path), user=user, stdout=subprocess.PIPE
    )
    told, _ = await asking.communicate()
    return told


async def test_a_dead_routers_socket_is_replaced(router: Scripted, tmp_path: Path) -> None:
    """What a killed router left behind is in nobody's way."""
    left = socket.socket(socket.AF_UNIX)
    left.bind(str(tmp_path / "control.sock"))
    left.close()
    async with (
        control_socket(create_control(router), tmp_path) as path,
        aiohttp.ClientSession("http://router", connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("/status") as reply,
    ):
        assert reply.status == 200


async def test_a_living_routers_socket_is_never_taken(router: Scripted, tmp_path: Path) -> None:
    """The second router is told so, and the first goes on answering."""
    other = Scripted(config="/etc/router/other.yaml")
    async with control_socket(create_control(router), tmp_path) as path:
        with pytest.raises(FolderTaken):
            async with control_socket(create_control(other), tmp_path):
                pass
        async with (
            aiohttp.ClientSession("http://router", connector=aiohttp.UnixConnector(str(path))) as session,
            session.get("/status") as reply,
        ):
            assert (await reply.json())["config"] == CONFIG


async def test_nothing_but_the_lock_is_left(router: Scripted, tmp_path: Path) -> None:
    """At the end the socket is gone and the folder is free."""
    async with control_socket(create_control(router), tmp_path) as path:
        pass

    assert not path.exists()
    with (tmp_path / "control.lock").open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_deep_folder_is_no_obstacle(router: Scripted, tmp_path: Path) -> None:
    """A socket's address holds 107 bytes; a folder's path may be longer."""
    deep = tmp_path / ("x" * 120) / "state"
    async with control_socket(create_control(router), deep) as path:
        assert path.is_socket()


async def test_a_folder_that_cannot_be_made_is_said(router: Scripted, tmp_path: Path) -> None:
    """An `OSError`, so that the router can go without."""
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        async with control_socket(create_control(router), tmp_path / "file" / "state"):
            pass
