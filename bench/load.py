"""The load generator: raw protocols that write the same request again and again.

A process of its own: each line on standard input is a `Plan`, each line on standard output its `Result`.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import sys
from collections.abc import Callable
from time import perf_counter
from typing import cast

import msgspec
from msgspec import Struct

from bench.answers import LOADS, Load, expected_text, request, text_of
from bench.processes import cpu_s

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_END = b"0\r\n\r\n"
_TAIL_BYTES = 64
_WARM_CALLS = 200
_CENT = 100
_LONGEST_S = 30.0


class Plan(Struct, kw_only=True):
    """One cell: which load, how many connections, for how long, and whose CPU time is read around it."""

    port: int
    load: str
    connections_count: int
    seconds: float
    pids: list[int]


class Result(Struct, kw_only=True):
    """What was measured.  Milliseconds; a p99 of fewer than 100 calls is not known."""

    calls_count: int
    seconds: float
    cpu_s: float
    first_p50_ms: float
    first_p99_ms: float | None
    whole_p50_ms: float
    whole_p99_ms: float | None


class Wrong(Exception):
    """A reply was not what it must be."""


class Phase:
    """What connections do together: the same call again, as long as `again` holds."""

    def __init__(self, load: Load, port: int, again: Callable[[Connection], bool]) -> None:
        self.sent = request(load, f"127.0.0.1:{port}")
        self.again = again
        self.gap_s = load.gap_s
        self._busy_count = 0
        self._over = asyncio.Event()

    async def run(self, connections: list[Connection], timeout_s: float) -> None:
        """Call on every connection, and wait for the last reply.

        Raises:
            Wrong: a reply was not as it must be.
        """
        loop = asyncio.get_running_loop()
        self._busy_count = len(connections)
        for place, one in enumerate(connections):  # paced streams must not march in step
            loop.call_later(place / len(connections) * self.gap_s, one.start, self)
        try:
            async with asyncio.timeout(timeout_s):
                await self._over.wait()
        except TimeoutError:
            raise Wrong(f"a reply did not come within {timeout_s:g} s") from None
        for one in connections:
            if one.failure is not None:
                raise Wrong(one.failure)

    def ended(self) -> None:
        """One connection is done."""
        self._busy_count -= 1
        if self._busy_count == 0:
            self._over.set()


class Connection(asyncio.Protocol):
    """One connection, one call at a time."""

    def __init__(self) -> None:
        self._phase: Phase | None = None
        self.reply: list[bytes] | None = None
        self.failure: str | None = None
        self.firsts_s: list[float] = []
        self.wholes_s: list[float] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def start(self, phase: Phase) -> None:
        """Begin a phase."""
        self._phase = phase
        self.firsts_s.clear()
        self.wholes_s.clear()
        self._begin(phase)

    def _begin(self, phase: Phase) -> None:
        """Send a call."""
        self._first_s = 0.0
        self._length: int | None = None
        self._is_head = True
        self._tail = b""
        self._started_s = perf_counter()
        self._transport.write(phase.sent)

    def data_received(self, data: bytes) -> None:
        if self.reply is not None:
            self.reply.append(data)
        if self._is_head:
            data = self._head(data)
            if self._is_head:
                return
        if data and not self._first_s:
            self._first_s = perf_counter()
        if self._length is None:
            self._tail = (self._tail + data)[-_TAIL_BYTES:]
            if self._tail.endswith(_END):
                self._whole(is_good=b"[DONE]" in self._tail)
        else:
            self._length -= len(data)
            if self._length <= 0:
                self._whole(is_good=self._length == 0)

    def _head(self, data: bytes) -> bytes:
        """Read the head; what follows it."""
        head, end, body = (self._tail + data).partition(b"\r\n\r\n")
        if not end:
            self._tail = head
            return b""
        self._tail = b""
        self._is_head = False
        if not head.startswith(b"HTTP/1.1 200"):
            self._fail(f"{head[:40]!r} {body[:200]!r}")
        length = _LENGTH.search(head)
        self._length = int(length[1]) if length else None
        return body

    def _whole(self, *, is_good: bool) -> None:
        """The reply is whole."""
        if not is_good:
            self._fail("a reply ended before its end")
        self.firsts_s.append(self._first_s - self._started_s)
        self.wholes_s.append(perf_counter() - self._started_s)
        if self._phase is not None and self.failure is None and self._phase.again(self):
            self._begin(self._phase)
        else:
            self._end()

    def _end(self) -> None:
        """Leave the phase, once."""
        phase, self._phase = self._phase, None
        if phase is not None:
            phase.ended()

    def _fail(self, why: str) -> None:
        self.failure = self.failure or why

    def connection_lost(self, exc: BaseException | None) -> None:
        self._fail("the connection was closed")
        self._end()

    def close(self) -> None:
        """Drop the connection."""
        self._transport.abort()


async def measure(plan: Plan) -> Result:
    """Check one reply, warm up, then call for `seconds` on every connection.

    Raises:
        Wrong: a reply was not as it must be.
    """
    load = next(load for load in LOADS if load.name == plan.load)
    # The slow load is warmed up by the fast one: one call of it takes a second.
    fast = next(one for one in LOADS if one.stream == load.stream and not one.gap_s)
    connections = await _connected(plan)
    try:
        await _check(connections[0], Phase(load, plan.port, lambda _: False))
        count = max(1, _WARM_CALLS // len(connections))
        warm = Phase(fast, plan.port, lambda one: len(one.wholes_s) < count)
        await warm.run(connections, _LONGEST_S)
        before_s, started_s = cpu_s(plan.pids), perf_counter()
        until_s = started_s + plan.seconds
        timed = Phase(load, plan.port, lambda _: perf_counter() < until_s)
        await timed.run(connections, plan.seconds + _LONGEST_S)
        seconds, used_s = perf_counter() - started_s, cpu_s(plan.pids) - before_s
    finally:
        for one in connections:
            one.close()
    return _result(connections, seconds, used_s)


def _result(done: list[Connection], seconds: float, used_s: float) -> Result:
    firsts = sorted(second for one in done for second in one.firsts_s)
    wholes = sorted(second for one in done for second in one.wholes_s)
    return Result(
        calls_count=len(wholes),
        seconds=seconds,
        cpu_s=used_s,
        first_p50_ms=statistics.median(firsts) * 1000,
        first_p99_ms=_p99_ms(firsts),
        whole_p50_ms=statistics.median(wholes) * 1000,
        whole_p99_ms=_p99_ms(wholes),
    )


async def _connected(plan: Plan) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [
        (await loop.create_connection(Connection, "127.0.0.1", plan.port))[1]
        for _ in range(plan.connections_count)
    ]


async def _check(connection: Connection, phase: Phase) -> None:
    """One call whose whole text is looked at."""
    kept: list[bytes] = []
    connection.reply = kept
    await phase.run([connection], _LONGEST_S)
    connection.reply = None
    if text_of(b"".join(kept)) != expected_text():
        raise Wrong("a reply's text is not what upstream sent")


def _p99_ms(ordered: list[float]) -> float | None:
    return ordered[len(ordered) * 99 // 100] * 1000 if len(ordered) >= _CENT else None


def main() -> None:
    """Answer plans until standard input ends."""
    for line in sys.stdin.buffer:
        result = asyncio.run(measure(msgspec.json.decode(line, type=Plan)))
        sys.stdout.buffer.write(msgspec.json.encode(result) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
