"""A word to systemd: ready, busy with what, stopping, still alive.

The protocol is one datagram a message to the socket that $NOTIFY_SOCKET names.  Without one, every
method does nothing; a failure to send is counted and never breaks serving.

Source: sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Mapping
from types import TracebackType


class Notifier:
    """Talks to the service manager that started us, if one did.

    As a context manager it says STOPPING=1 at the end.

    Args:
        address: a path, or `@name` in the abstract namespace; None: nobody listens.
        watchdog_s: the service manager restarts us after so long without a sign of life; None: never.
    """

    def __init__(self, address: str | None, watchdog_s: float | None = None) -> None:
        self._address = address
        self._watchdog_s = watchdog_s
        self.lost_count = 0

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Notifier:
        """Read $NOTIFY_SOCKET, $WATCHDOG_USEC and $WATCHDOG_PID."""
        address = environ.get("NOTIFY_SOCKET", "")
        return cls(address if address.startswith(("/", "@")) else None, _watchdog_s(environ, os.getpid()))

    def ready(self, status: str = "") -> None:
        """We serve; also ends what `reloading` began."""
        self._send("READY=1", *([_status(status)] if status else []))

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(_status(text))

    def reloading(self) -> None:
        """A new configuration is being taken up; `ready` follows."""
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")

    def stopping(self, status: str = "") -> None:
        """We accept nothing new."""
        self._send("STOPPING=1", *([_status(status)] if status else []))

    async def keep_alive(self) -> None:
        """Give a sign of life at half the watchdog's time; run it as a task of the serving loop.

        It comes from the loop that serves, so a loop that hangs gives none and is restarted.
        Returns at once when no watchdog waits.
        """
        if self._address is None or self._watchdog_s is None:
            return
        while True:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self._watchdog_s / 2)

    def __enter__(self) -> Notifier:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stopping()

    def _send(self, *assignments: str) -> None:
        """One datagram.  A fresh socket each time: messages are rare, and nothing is left to close."""
        if self._address is None:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(assignments).encode("utf-8", "replace"), address)
        except OSError:  # nobody reads, or not now: serving matters more
            self.lost_count += 1


def _status(text: str) -> str:
    """A status in one line: a line break would start another assignment."""
    return "STATUS=" + " ".join(text.split())


def _watchdog_s(environ: Mapping[str, str], pid: int) -> float | None:
    """The watchdog's time, if it is meant for this process."""
    wait, meant_for = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
    if not wait.isdecimal() or int(wait) == 0 or meant_for != str(pid):
        return None
    return int(wait) / 1_000_000
