"""Two machines inside this one: network namespaces, a cable between them, and names served at the far end.

Sockets and children belong to the namespace that the thread is in when it makes them.  So a test that is
`inside` the near machine starts a router there and calls it there, while the cloud runs in the far one.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import ssl
import struct
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

NEAR, FAR, FAR_TOO, NETWORK = "10.77.0.2", "10.77.0.1", "10.77.0.9", "10.77.0.0/24"
CLOUD_NAME = "cloud.test"
_NEW_NET = 0x40000000  # CLONE_NEWNET, <linux/sched.h>
_OWN = Path("/proc/thread-self/ns/net")
Mood = Literal["answers", "nxdomain", "servfail", "silent"]


def _call(name: str, *arguments: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


class Machine:
    """A network namespace.  It lives as long as its descriptor, and whatever runs in it."""

    def __init__(self) -> None:
        """Make one with nothing but loopback.

        Raises:
            OSError: this process may not.
        """
        home = os.open(_OWN, os.O_RDONLY)
        try:
            _call("unshare", _NEW_NET)
            self.fd = os.open(_OWN, os.O_RDONLY)
            _call("setns", home, _NEW_NET)
        finally:
            os.close(home)
        with self.inside():
            Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")  # it would talk by itself
            Path("/proc/sys/net/ipv6/conf/default/disable_ipv6").write_text("1")
        self.ip("link", "set", "lo", "up")

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Let this thread be in it."""
        home = os.open(_OWN, os.O_RDONLY)
        try:
            _call("setns", self.fd, _NEW_NET)
            yield
        finally:
            _call("setns", home, _NEW_NET)
            os.close(home)

    def ip(self, *arguments: str) -> None:
        """Run `ip` in it."""
        with self.inside():
            subprocess.run(["ip", *arguments], check=True, capture_output=True)

    def close(self) -> None:
        """Let go of it."""
        os.close(self.fd)


class Names:
    """A DNS server at the far end, which knows one name; `mood` and `address` may change at any time."""

    def __init__(self, machine: Machine) -> None:
        self.mood: Mood = "answers"
        self.address = FAR
        self.asked_count = 0
        with machine.inside():
            self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("0.0.0.0", 53))
        self._socket.settimeout(0.05)
        self._open = True
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop."""
        self._open = False
        self._thread.join()
        self._socket.close()

    def _serve(self) -> None:
        while self._open:
            with contextlib.suppress(OSError):  # nobody asked, or nobody is there to be told
                question, asker = self._socket.recvfrom(512)
                self.asked_count += 1
                if self.mood != "silent":
                    self._socket.sendto(self._reply(question), asker)

    def _reply(self, question: bytes) -> bytes:
        """RFC 1035: the question again, and an address if one is asked for."""
        end = question.index(b"\0", 12) + 5
        (kind,) = struct.unpack("!H", question[end - 4 : end - 2])
        code = {"answers": 0, "nxdomain": 3, "servfail": 2, "silent": 2}[self.mood]
        answers = code == 0 and kind == 1
        head = question[:2] + struct.pack("!HHHHH", 0x8180 | code, 1, int(answers), 0, 0)
        record = struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(self.address)
        return head + question[12:end] + (record if answers else b"")


class Door:
    """TLS in front of a port at the far end, since a token does not travel without.

    Attributes:
        certificate: of `CLOUD_NAME`, signed by itself.
        port: where it is, at every address of the machine.
    """

    def __init__(self, machine: Machine, folder: Path, behind_port: int) -> None:
        self.certificate, key = folder / "cert.pem", folder / "key.pem"
        new = [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
        ]
        names = [
            "-subj",
            f"/CN={CLOUD_NAME}",
            "-addext",
            f"subjectAltName=DNS:{CLOUD_NAME}",
            "-days",
            "36500",
        ]
        files = ["-keyout", str(key), "-out", str(self.certificate)]
        subprocess.run([*new, *names, *files], check=True, capture_output=True)
        self._tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._tls.load_cert_chain(self.certificate, key)
        self._machine = machine
        self._behind_port = behind_port
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._is_open = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._is_open.wait()

    def close(self) -> None:
        """Shut it."""
        self._loop.call_soon_threadsafe(self._told.set)
        self._thread.join()

    def _run(self) -> None:
        with self._machine.inside():
            self._loop.run_until_complete(self._serve())
            self._loop.close()

    async def _serve(self) -> None:
        self._told = asyncio.Event()
        server = await asyncio.start_server(self._pass, "0.0.0.0", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._is_open.set()
        await self._told.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._behind_port)
        async with asyncio.TaskGroup() as both:
            both.create_task(_copy(reader, behind_writer))
            both.create_task(_copy(behind_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


class TwoMachines:
    """The near one, the far one, the cable between them, and the names that the far one serves."""

    def __init__(self, folder: Path) -> None:
        """Put them up.

        Raises:
            OSError: this process may not.
        """
        self._stack = ExitStack()
        with self._stack as stack:
            self.near, self.far = Machine(), Machine()
            stack.callback(self.near.close)
            stack.callback(self.far.close)
            far_fd = f"/proc/{os.getpid()}/fd/{self.far.fd}"
            self.near.ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", far_fd)
            self.near.ip("address", "add", f"{NEAR}/24", "dev", "near")
            for address in (FAR, FAR_TOO):
                self.far.ip("address", "add", f"{address}/24", "dev", "far")
            self.near.ip("link", "set", "near", "up")
            self.far.ip("link", "set", "far", "up")
            self.names = Names(self.far)
            stack.callback(self.names.close)
            self._stack = stack.pop_all()
        self._folder = folder

    def command(self, patience_s: int = 3) -> tuple[str, ...]:
        """Becomes the command after it, which finds names at the far machine.

        Args:
            patience_s: how long the system waits for an answer to a name; twice.
        """
        resolv = self._folder / f"resolv.{patience_s}.conf"
        resolv.write_text(f"nameserver {FAR}\noptions timeout:{patience_s} attempts:2\n")
        mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
        return ("unshare", "--mount", "sh", "-c", mount, str(resolv))

    def pull(self) -> None:
        """The cable is out at the near end: no address leads anywhere."""
        self.near.ip("link", "set", "near", "down")

    def plug(self) -> None:
        """It is in again."""
        self.near.ip("link", "set", "near", "up")

    def route(self, kind: str) -> None:
        """Let every address of the cable be `blackhole`, `unreachable` or `prohibit` at the near end."""
        self.near.ip("route", "del", NETWORK)
        self.near.ip("route", "add", kind, NETWORK)

    def unroute(self) -> None:
        """As before."""
        self.near.ip("route", "del", NETWORK)
        self.near.ip("route", "add", NETWORK, "dev", "near", "src", NEAR)

    def swallow(self) -> None:
        """Nothing comes back from the far end, and nobody says so."""
        self.far.ip("route", "add", "blackhole", NEAR)

    def give_back(self) -> None:
        """As before."""
        self.far.ip("route", "del", "blackhole", NEAR)

    def sent_count(self) -> int:
        """Packets that the near machine has sent through the cable, of any kind."""
        with self.near.inside():
            lines = Path("/proc/thread-self/net/dev").read_text().splitlines()
        (line,) = [line for line in lines if line.lstrip().startswith("near:")]
        return int(line.partition(":")[2].split()[9])

    def close(self) -> None:
        """Take all down."""
        self._stack.close()
