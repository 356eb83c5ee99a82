"""The calls the emulator has seen, for tests that ask what reached the cloud and when it was let go."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

from msgspec import Struct

from hybrid_router.core.secret import SECRET_HEADERS

Outcome: TypeAlias = Literal["running", "answered", "refused", "client_left", "cut", "stopped"]

KEPT_COUNT = 1000
KEPT_BYTES = 256 * 2**20
_NESTING = frozenset({dict, list})
_SECRET_FIELDS = frozenset({"api_key", "apikey", "authorization", "password", "secret", "token"})


class SeenCall(Struct, kw_only=True):
    """One inference call.  Times are seconds of the machine's monotonic clock; secrets show as `***`.

    `outcome` stays `running` until the connection is free again.  `client_left`: the client closed it
    before the whole answer was written; `cut`: a fault did; `stopped`: the emulator was shut down.
    """

    number: int
    path: str
    headers: dict[str, str]
    opened_s: float
    model: str | None = None
    auth_ok: bool = False
    stream: bool = False
    body: Any = None
    status: int | None = None
    events_sent: int = 0
    outcome: Outcome = "running"
    closed_s: float | None = None


class CallLog:
    """The newest calls, oldest first; of the bodies no more than `kept_bytes`, the newest."""

    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._calls: deque[SeenCall] = deque(maxlen=KEPT_COUNT)
        self._kept_bytes = kept_bytes
        self._bodies: deque[tuple[SeenCall, int]] = deque()
        self._bodies_bytes = 0
        self._count = 0
        self._running_count = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._arrival = asyncio.Event()

    @property
    def calls(self) -> list[SeenCall]:
        """What was seen."""
        return list(self._calls)

    def open(self, path: str, headers: Mapping[str, str]) -> SeenCall:
        """Note a call that begins."""
        self._count += 1
        seen = SeenCall(
            number=self._count,
            path=path,
            headers={name.lower(): _hidden(name, value) for name, value in headers.items()},
            opened_s=asyncio.get_running_loop().time(),
        )
        self._calls.append(seen)
        self._make_room(seen, int(headers.get("content-length", 0)))
        self._running_count += 1
        self._idle.clear()
        self._arrival.set()
        self._arrival = asyncio.Event()
        return seen

    def close(self, seen: SeenCall, outcome: Outcome) -> None:
        """Note how a call ended."""
        seen.outcome = outcome
        seen.closed_s = asyncio.get_running_loop().time()
        self._running_count -= 1
        if not self._running_count:
            self._idle.set()

    def clear(self) -> None:
        """Forget the calls that have ended."""
        running = [seen for seen in self._calls if seen.outcome == "running"]
        self._calls.clear()
        self._calls.extend(running)
        self._bodies = deque(each for each in self._bodies if each[0].outcome == "running")
        self._bodies_bytes = sum(size_bytes for _, size_bytes in self._bodies)

    def _make_room(self, seen: SeenCall, size_bytes: int) -> None:
        """Forget the oldest bodies, so that a thousand calls with pictures do not fill the memory."""
        self._bodies.append((seen, size_bytes))
        self._bodies_bytes += size_bytes
        while len(self._bodies) > KEPT_COUNT or self._bodies_bytes > self._kept_bytes:
            oldest, freed_bytes = self._bodies.popleft()
            oldest.body = None
            self._bodies_bytes -= freed_bytes

    async def arrived(self, count: int, within_s: float) -> bool:
        """Wait until `count` calls were seen in all; False if they were not `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                while self._count < count:
                    await self._arrival.wait()
        except TimeoutError:
            return False
        return True

    async def settled(self, within_s: float) -> bool:
        """Wait until no call is running; False if one still is after `within_s`."""
        try:
            async with asyncio.timeout(within_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True


def without_secrets(body: Any) -> Any:
    """`body` with the values of telling names hidden."""
    if isinstance(body, list):
        if _NESTING.isdisjoint(map(type, body)):
            return body  # such as a file as integers, which has millions of them
        return [without_secrets(item) for item in body]
    if isinstance(body, dict):
        return {
            name: "***"
            if name.lower() in _SECRET_FIELDS and isinstance(value, str)
            else without_secrets(value)
            for name, value in body.items()
        }
    return body


def _hidden(name: str, value: str) -> str:
    return "***" if name.lower() in SECRET_HEADERS else value
