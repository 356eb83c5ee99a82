"""An event loop for drills: a clock that skips waits, and a network that ends at this machine.

When nobody has anything to do, the clock jumps to the next timer.  So a drill waits for `first_token: 60s`
in milliseconds, and what it measures are the policy's own seconds.  Names do not resolve here and nothing
but loopback can be reached, whatever the configuration says and whoever tries; every attempt is noted.
"""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import os
import selectors
import socket
import sys
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")

# Real time without an event until the clock jumps: what was sent over loopback has arrived by then.
_GRACE_S = 0.003
# Networks for documentation (RFC 5737): one that has no route here, one that never answers.
NO_ROUTE, NO_ANSWER = "192.0.2", "198.51.100"
_RESOLVING = "resolve"  # threads of this name are waited for (backends.resolver)


class Contact(NamedTuple):
    """Somebody who was asked for a connection, or a name that was asked for (port 0)."""

    host: str
    port: int


class ClosedLoop(asyncio.SelectorEventLoop):
    """See the module.  `contacts` is who was contacted so far, from whichever thread."""

    def __init__(self) -> None:
        self.contacts: list[Contact] = []
        self._skipped_s = 0.0
        self._threads_count = 0
        super().__init__(_Skipping(self._may_skip, self._skip))
        watching = weakref.ref(self)  # a hook cannot be taken away again

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if event.startswith("socket.") and (loop := watching()) is not None and not loop.is_closed():
                loop._look_at(event, arguments)  # noqa: SLF001 - its own

        sys.addaudithook(hook)

    def time(self) -> float:
        """Real seconds and those that were skipped."""
        return super().time() + self._skipped_s

    def _may_skip(self) -> bool:
        busy = self._threads_count or any(one.name == _RESOLVING for one in threading.enumerate())
        return not busy

    def _skip(self, wait_s: float) -> None:
        self._skipped_s += wait_s

    def _look_at(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Note what leads outward, and end it here.

        Raises:
            OSError: it leads off this machine.
        """
        match event, arguments:
            case "socket.getaddrinfo", (str() | bytes() as host, *_) if _address(host) is None:
                self.contacts.append(Contact(_text(host), 0))
                raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
            case (
                ("socket.connect" | "socket.sendto" | "socket.sendmsg"),
                (_, (str() as host, int() as port, *_)),
            ):
                self.contacts.append(Contact(host, port))
                if not _is_here(host):
                    raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """As everywhere, but for the network that never answers."""
        if _text(address[0]).startswith(NO_ANSWER):
            self.contacts.append(Contact(address[0], address[1]))
            await self.create_future()
        await super().sock_connect(sock, address)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[*_Ts], _T], *args: *_Ts
    ) -> asyncio.Future[_T]:
        """As everywhere; while a thread works, the clock does not jump."""
        self._threads_count += 1
        future = super().run_in_executor(executor, func, *args)
        future.add_done_callback(self._thread_is_done)
        return future

    def _thread_is_done(self, future: asyncio.Future[Any]) -> None:
        self._threads_count -= 1


def _text(host: str | bytes) -> str:
    return host.decode("utf-8", "replace") if isinstance(host, bytes) else host


def _is_here(host: str) -> bool:
    found = _address(host)
    return found is not None and found.is_loopback


def _address(host: str | bytes) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(_text(host))
    except ValueError:
        return None


class _Skipping(selectors.DefaultSelector):
    """A selector that does not wait for a timer if nothing else happens."""

    def __init__(self, may_skip: Callable[[], bool], skip: Callable[[float], None]) -> None:
        super().__init__()
        self._may_skip = may_skip
        self._skip = skip

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= _GRACE_S or not self._may_skip():
            return super().select(timeout)
        ready = super().select(_GRACE_S)
        if not ready and self._may_skip():
            self._skip(timeout - _GRACE_S)
        return ready
