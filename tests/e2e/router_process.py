"""The router and the cloud's emulator as real processes: started, looked at from outside, hurt, stopped."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")

WITHIN_S = 15.0
READY_WITHIN_S = 60.0  # a machine that is busy loads slowly; one that is ready is not waited for
POLL_S = 0.01
ACCOUNT = "e" * 32
TOKEN = "canary-token-5fd1c0ffee"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


def eventually(probe: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """What `probe` gives as soon as it is true; for states that nobody announces."""
    until_s = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < until_s, f"not within {within_s:g} s: {what}"
        time.sleep(POLL_S)
    return found


async def soon(probe: Callable[[], T | None], what: str, within_s: float = WITHIN_S) -> T:
    """As `eventually`, while the test's own tasks go on."""
    until_s = time.monotonic() + within_s
    while not (found := probe()):
        assert time.monotonic() < until_s, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(POLL_S)
    return found


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"


def cpu_s(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def accepts(port: int) -> bool:
    """Whether somebody listens on a port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port on which nobody listens, now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@dataclass(frozen=True)
class Level:
    """What a router holds at a quiet moment, and how long its log is."""

    children: int
    fds: int
    log_bytes: int


class Process:
    """A child process whose output goes to files."""

    def __init__(
        self,
        arguments: list[str],
        folder: Path,
        ready: str,
        environ: Mapping[str, str],
        within: Sequence[str] = (),
    ) -> None:
        """Start `hybrid-router ARGUMENTS` and remember what its ready line looks like.

        `within` is a command that becomes the one written after it.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._out, self._err = folder / "stdout", folder / "stderr"
        self._ready = re.compile(ready)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLOUDFLARE_")}
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.popen = subprocess.Popen(
                [*within, sys.executable, "-m", "hybrid_router", *arguments],
                cwd=folder,
                env={**inherited, **environ},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self.popen.pid

    @property
    def said(self) -> str:
        """Standard output so far."""
        return self._out.read_text()

    @property
    def log_text(self) -> str:
        """Standard error so far."""
        return self._err.read_text()

    def ready(self) -> re.Match[str]:
        """Wait for the ready line."""

        def look() -> re.Match[str] | None:
            assert self.popen.poll() is None, f"it ended with {self.popen.returncode}: {self.log_text}"
            return self._ready.search(self.said)

        with contextlib.ExitStack() as otherwise:
            otherwise.callback(self.stop)  # nobody else has it while a constructor waits
            found = eventually(look, f"ready line; log: {self._err}", READY_WITHIN_S)
            otherwise.pop_all()
            return found

    def send(self, number: signal.Signals) -> None:
        """Send a signal to this process alone."""
        self.popen.send_signal(number)

    def wait(self) -> int:
        """The exit code, once there is one."""
        return self.popen.wait(WITHIN_S)

    def stop(self) -> None:
        """End it, whatever state it is in."""
        if self.popen.poll() is None:
            self.send(signal.SIGTERM)
            try:
                self.wait()
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.wait()
                raise


class Router(Process):
    """The router."""

    def __init__(
        self,
        config: str,
        folder: Path,
        *,
        environ: Mapping[str, str] | None = None,
        wait: bool = True,
        within: Sequence[str] = (),
    ) -> None:
        """Start it; with `wait` until it is ready.  `within`: see `Process`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        (folder / "router.yaml").write_text(config)
        account = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN}
        super().__init__(
            ["serve", "--config", "router.yaml"],
            folder,
            r"answers on (?P<url>http://[^/\s]+)/v1\n",
            account if environ is None else environ,
            within,
        )
        self.url = ""
        self.asked_count = 0  # what its clients here have asked so far
        self._fds_at_start = 0
        if wait:
            self.url = self.ready()["url"]
            self._fds_at_start = self.fds()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return urlsplit(self.url).port or 0

    def children(self) -> list[int]:
        """Its child processes that run."""
        found: list[int] = []
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                found += [int(pid) for pid in (task / "children").read_text().split()]
        return [pid for pid in found if alive(pid)]

    def worker(self) -> int:
        """Its one worker, once it has one."""
        return eventually(self.children, "a worker")[0]

    def loaded(self) -> int:
        """Its one worker, once the model is resident in it and the log says so."""
        eventually(lambda: '"event":"model resident"' in self.log_text, "a model resident")
        return self.worker()

    def forgive(self) -> None:
        """Have it forget what it holds against its clouds: a reload with a change of each does that."""
        file = self.folder / "router.yaml"
        changed = re.sub(
            r"default_max_tokens: (\d+)",
            lambda found: f"default_max_tokens: {int(found[1]) + 1}",
            file.read_text(),
        )
        file.write_text(changed)
        before = self.log_text.count('"event":"reloaded"')
        self.send(signal.SIGHUP)
        eventually(lambda: self.log_text.count('"event":"reloaded"') > before, "reloaded")

    def fds(self) -> int:
        """Open descriptors but for connections to a cloud, which are kept for the next call on purpose."""
        return len(self._targets()) - self.pooled()

    def pooled(self) -> int:
        """Connections to others' ports."""
        return len(self._targets() & self._upstream_sockets())

    def connections(self) -> int:
        """Clients that are connected."""
        return self.fds() - self._fds_at_start

    def _targets(self) -> set[str]:
        found = set()
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with contextlib.suppress(FileNotFoundError):
                target = str(fd.readlink())
                if ".sqlite3" in target:  # the store's pool, which grows to its size when it is needed
                    continue
                found.add(target if target.startswith("socket:") else f"{fd.name} {target}")
        return found

    def _upstream_sockets(self) -> set[str]:
        """Every socket of this machine that talks, from a port other than ours, to some port."""
        ours = f":{self.port:04X}"
        found = set()
        for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            inode, connected = fields[9], not fields[2].endswith(":0000")
            if inode != "0" and connected and not fields[1].endswith(ours):
                found.add(f"socket:[{inode}]")
        return found

    async def quiet(self, children: int = 1) -> Level:
        """The level once nothing is going on: what it held when it had started, and a line for each call."""

        def look() -> bool:
            if self.log_text.count('"event":"call"') != self.asked_count:
                return False
            return self.fds() == self._fds_at_start and len(self.children()) == children

        await soon(look, f"quiet: {self.fds()} fds after {self._fds_at_start}, {self.children()}")
        return Level(children, self._fds_at_start, len(self.log_text.encode()))

    def log(self, since: Level | None = None) -> list[dict[str, Any]]:
        """The events that were logged, those after `since` was taken if it is given."""
        start = since.log_bytes if since else 0
        whole, _, _ = self.log_text.encode()[start:].rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]


class Emulator(Process):
    """Workers AI on loopback."""

    def __init__(self, folder: Path, *options: str) -> None:
        """Start it on a free port and wait until it is ready."""
        arguments = ["emulate", "cloudflare", "--port", "0", "--paid", "--no-rate-limits", *options]
        super().__init__([*arguments, "--token", TOKEN], folder, r"base_url: (?P<url>\S+)", {})
        self.base_url = self.ready()["url"]

    def fault(self, count: int = 1, **fault: Any) -> None:
        """Let the next `count` calls go wrong so, and forget what was planned before."""
        self._control("DELETE", "/emulator/faults")
        self._control("POST", "/emulator/faults", {"count": count, **fault})

    def calm(self) -> None:
        """Let calls go well again, and forget those that were seen."""
        self._control("DELETE", "/emulator/faults")
        self._control("DELETE", "/emulator/calls")

    def calls(self) -> list[dict[str, Any]]:
        """The calls seen since the last `calm`, once none is running any more."""
        told = self._control("GET", f"/emulator/calls?settle={WITHIN_S:g}")
        assert told["ready"], told
        calls: list[dict[str, Any]] = told["calls"]
        return calls

    def run(self, model: str, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """A native call: status, type and body.  A local model may have to be loaded first."""
        connection = HTTPConnection(urlsplit(self.base_url).netloc, timeout=90)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            path = f"/client/v4/accounts/{ACCOUNT}/ai/run/{model}"
            connection.request("POST", path, json.dumps(body), headers)
            reply = connection.getresponse()
            return reply.status, reply.headers["content-type"], reply.read()
        finally:
            connection.close()

    def _control(self, method: str, path: str, body: Any = None) -> Any:
        connection = HTTPConnection(urlsplit(self.base_url).netloc, timeout=2 * WITHIN_S)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
            assert reply.status == 200, text
            return json.loads(text)
        finally:
            connection.close()


@contextmanager
def stopped_at_end(process: Process) -> Iterator[None]:
    """End a process with the block, unless the block has ended it."""
    try:
        yield
    finally:
        process.stop()
