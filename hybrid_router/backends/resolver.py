"""Names to addresses, by the system's own resolver, without ever waiting for it.

`getaddrinfo` blocks its thread for as long as DNS is silent, 30 s and more, and nothing can interrupt it.
The loop's own threads are few and waited for at exit: six silent look-ups would hold up every file that is
read, and the end of the process.  So each look-up has a thread of its own that nobody waits for.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult

AGAIN_S = 1.0  # the system itself asks a second time only after 5 s: one lost packet would cost that
LONGEST_S = 20.0
_MOST_LOOKUPS = 24  # at once; those of a dead network pile up
Outcome: TypeAlias = list[ResolveResult] | OSError
Ask: TypeAlias = Callable[[str, int, socket.AddressFamily], Outcome]


class Resolver(AbstractResolver):
    """Resolves the names of one cloud.

    A look-up that is silent is joined by another every `again_s`, so that a network that comes back answers
    at once whatever was asked while it was away.

    Args:
        ask: what is asked, in a thread.
    """

    def __init__(
        self, ask: Ask | None = None, *, again_s: float = AGAIN_S, longest_s: float = LONGEST_S
    ) -> None:
        self._ask = ask or addresses
        self._again_s = again_s
        self._longest_s = longest_s
        self._running_count = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of `host`.

        Raises:
            socket.gaierror: there are none, or nobody can say.
            TimeoutError: nobody answered in `longest_s`.
        """
        waiting: set[asyncio.Future[Outcome]] = set()
        async with asyncio.timeout(self._longest_s):
            while True:
                if self._running_count < _MOST_LOOKUPS:
                    waiting.add(self._look_up(host, port, family))
                elif not waiting:
                    raise socket.gaierror(socket.EAI_AGAIN, "too many look-ups wait for an answer already")
                done, waiting = await asyncio.wait(
                    waiting, timeout=self._again_s, return_when=asyncio.FIRST_COMPLETED
                )
                if (outcome := _best(done)) is None:
                    continue
                if isinstance(outcome, list):
                    return outcome
                if not waiting:
                    raise outcome

    async def close(self) -> None:
        """Look-ups that still wait end by themselves, unheard."""

    def _look_up(self, host: str, port: int, family: socket.AddressFamily) -> asyncio.Future[Outcome]:
        """Ask in a thread of its own."""
        loop = asyncio.get_running_loop()
        told: asyncio.Future[Outcome] = loop.create_future()

        def tell(outcome: Outcome) -> None:
            self._running_count -= 1
            told.set_result(outcome)  # though nobody may wait for it any more

        def ask() -> None:
            outcome = self._ask(host, port, family)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
                loop.call_soon_threadsafe(tell, outcome)

        self._running_count += 1
        try:
            threading.Thread(target=ask, name="resolve", daemon=True).start()
        except RuntimeError:  # the system gives no more threads
            tell(socket.gaierror(socket.EAI_AGAIN, "no thread is left to look it up"))
        return told


def addresses(host: str, port: int, family: socket.AddressFamily) -> Outcome:
    """What the system says.  An error is given, not raised: it may be nobody's any more."""
    try:
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_ADDRCONFIG)
        return [_result(host, *entry) for entry in found]
    except OSError as error:
        return error
    except UnicodeError:  # a label that is empty or too long
        return socket.gaierror(socket.EAI_NONAME, "not a host name")


def _result(
    host: str, family: socket.AddressFamily, _: int, proto: int, __: str, address: tuple[Any, ...]
) -> ResolveResult:
    """One address as aiohttp wants it: in figures, with the interface of a link-local one."""
    figures, port = socket.getnameinfo(address, socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    return ResolveResult(
        hostname=host,
        host=figures,
        port=int(port),
        family=family,
        proto=proto,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )


def _best(done: set[asyncio.Future[Outcome]]) -> Outcome | None:
    """An address if anybody has one."""
    outcomes = [future.result() for future in done]
    return next(
        (outcome for outcome in outcomes if isinstance(outcome, list)), outcomes[0] if outcomes else None
    )
