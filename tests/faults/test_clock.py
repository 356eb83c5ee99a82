"""The clock on the wall is set by days, forwards, backwards, and in the middle of a stream: F41.

A shim shifts it for the router's process alone; the clocks that nobody can set go on.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from invariants import assert_invariants
from raw_cloud import clouds_policy
from router_process import ACCOUNT, TOKEN, WITHIN_S, Emulator, Router, soon, stopped_at_end
from wire_client import PROMPT_CANARY, Answer, ask, chat_body, raw_call

pytestmark = [
    pytest.mark.timeout(60),
    pytest.mark.skipif(shutil.which("cc") is None, reason="the shim for the clock is made with a C compiler"),
]

SHIM = Path(__file__).with_name("shifted_clock.c")
DAYS_3 = timedelta(days=3)
SHIFTS = [DAYS_3, -DAYS_3, timedelta(hours=25), timedelta(seconds=-1)]
SHIFT_NAMES = ["three days on", "three days back", "just over a day on", "a leap second back"]
DAILY = 20.0  # neurons: about ten calls of two
LONG = f"repeat: {PROMPT_CANARY} " + "and so on " * 30
SAID = f"{PROMPT_CANARY}: count to 100"  # which takes the spare cloud half a second
COUNTED = " ".join(map(str, range(1, 101)))
Start = Callable[..., Router]


class Wall:
    """The router's clock on the wall."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._offset = timedelta()
        self.shift(timedelta())

    def shift(self, by: timedelta) -> None:
        """Set it to so much beside the true time."""
        self._offset = by
        if not self._file.exists():
            self._file.write_bytes(bytes(8))
        with self._file.open("r+b") as file:  # in place: it is mapped
            file.write(struct.pack("=q", int(by.total_seconds())))

    def now(self) -> datetime:
        """What it shows."""
        return datetime.now(UTC) + self._offset


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shim, made."""
    made = tmp_path_factory.mktemp("shim") / "shifted_clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(made), str(SHIM)], check=True)
    return made


@pytest.fixture
def wall(tmp_path: Path) -> Wall:
    """Shows the true time at first."""
    return Wall(tmp_path / "offset")


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Emulator]:
    """A cloud whose clock is right."""
    started = Emulator(tmp_path / "cloud")
    with stopped_at_end(started):
        yield started


@pytest.fixture
def start(cloud: Emulator, emulator: Emulator, shim: Path, wall: Wall, tmp_path: Path) -> Iterator[Start]:
    """Starts a service with this clock, in the same folder each time."""
    environ = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "LD_PRELOAD": str(shim),
        "SHIFTED_CLOCK": str(wall._file),
    }
    emulator.calm()
    with ExitStack() as stack:

        def begin(**chosen: Any) -> Router:
            config = clouds_policy(cloud.base_url, emulator.base_url, **chosen)
            started = Router(config, tmp_path / "router", environ=environ)
            stack.enter_context(stopped_at_end(started))
            return started

        yield begin


async def assert_shifted(router: Router, wall: Wall) -> None:
    """The shim works, and the log goes on: its newest line has the clock's time, to a minute."""

    def look() -> bool:
        lines = router.log()
        if not lines:
            return False
        newest = datetime.fromisoformat(lines[-1]["time"])
        return abs(newest - wall.now()) < timedelta(minutes=1)

    await soon(look, "a line with the clock's new time")


async def many(router: Router, count: int) -> list[Answer]:
    """So many calls of some two neurons, one after the other."""
    return [
        await ask(router, chat_body("cloud-only", LONG, stream=n % 2 == 0, max_tokens=150))
        for n in range(count)
    ]


def used(cloud: Emulator) -> float:
    """Neurons that the cloud has counted."""
    cloud.calls()
    return float(cloud._control("GET", "/emulator/neurons")["used"])


@pytest.mark.parametrize("by", SHIFTS, ids=SHIFT_NAMES)
async def test_a_running_stream_does_not_notice(start: Start, wall: Wall, by: timedelta) -> None:
    """Set in the middle of it, and set right again: whole, to the letter, nothing hangs, ids are new."""
    router = start(first_token="2s", between_tokens="1s", total="20s")
    before = await router.quiet(children=0)
    answers = []
    async with raw_call(router, chat_body("spare-only", SAID, stream=True)) as running:
        await running.pieces(5)
        wall.shift(by)
        await running.pieces(15)
        answers.append(await ask(router, chat_body("spare-only", SAID, stream=True)))
        await assert_shifted(router, wall)
        wall.shift(timedelta())
        answers.append(await running.rest())
    answers.append(await ask(router, chat_body("spare-only", SAID)))

    assert [(answer.error, answer.text()) for answer in answers] == [(None, COUNTED)] * 3
    assert len({document["id"] for answer in answers for document in answer.documents}) == 3
    await assert_invariants(router, before, answers)


@pytest.mark.parametrize("by", SHIFTS[:2], ids=SHIFT_NAMES[:2])
async def test_timers_go_by_no_wall(start: Start, cloud: Emulator, wall: Wall, by: timedelta) -> None:
    """A silence that a jump falls into ends when it would have, and the next step answers."""
    router = start(first_token="1s", connect="1s")
    before = await router.quiet(children=0)
    cloud.calm()
    cloud.fault(hang="after_headers")
    began_s = time.monotonic()
    waiting = asyncio.create_task(ask(router, chat_body("cloud-then-spare", SAID)))
    await soon(lambda: cloud._control("GET", "/emulator/calls")["calls"], "a call at the cloud")
    wall.shift(by)
    answer = await waiting

    assert (answer.text(), answer.served_by) == (COUNTED, ("spare", "2"))
    assert 1.0 <= time.monotonic() - began_s < WITHIN_S
    attempts = await assert_invariants(router, before, [answer])
    assert attempts[0]["error"] == "backend_timeout"
    assert all(0 <= line["duration_s"] < WITHIN_S for line in attempts)
    await assert_shifted(router, wall)


@pytest.mark.parametrize("by", SHIFTS[:3], ids=SHIFT_NAMES[:3])
async def test_no_jump_gives_the_allowance_twice(
    start: Start, cloud: Emulator, wall: Wall, by: timedelta
) -> None:
    """Spent, then it jumps there and back, with a kill in between: the cloud is never asked for more."""
    router = start(neurons=f"{{ daily: {DAILY} }}")
    await many(router, 14)
    spent = used(cloud)
    assert 0.5 * DAILY < spent <= DAILY
    for offset in (by, timedelta(), by):
        wall.shift(offset)
        answers = await many(router, 3)
        assert {answer.status for answer in answers} <= {200, 429, 503}
        assert used(cloud) <= DAILY
    router.popen.kill()
    router.wait()
    for offset in (by, timedelta()):
        wall.shift(offset)
        router = start(neurons=f"{{ daily: {DAILY} }}")
        await many(router, 6)
        router.stop()
        assert used(cloud) <= DAILY


@pytest.mark.parametrize("by", SHIFTS[:2], ids=SHIFT_NAMES[:2])
async def test_a_spent_day_is_asked_for_once_whatever_the_clock_says(
    start: Start, cloud: Emulator, wall: Wall, by: timedelta
) -> None:
    """Refused until midnight: a clock that was set is none, and the wait that is told is sane."""
    router = start()
    cloud.calm()
    cloud.fault(100, code=4006)
    before = await router.quiet(children=0)
    answers = await many(router, 2)
    for offset in (by, timedelta(), -by):
        wall.shift(offset)
        answers += await many(router, 2)

    assert len(cloud.calls()) == 1
    assert {answer.error["code"] for answer in answers if answer.error} <= {
        "insufficient_quota",
        "no_backend_available",
    }
    assert all(answer.error is not None for answer in answers)
    for answer in answers:
        wait_s = int(answer.headers.get("retry-after", "1"))
        assert 0 < wait_s <= 86_400
    await assert_invariants(router, before, answers)


@pytest.mark.parametrize("by", SHIFTS[:2], ids=SHIFT_NAMES[:2])
async def test_everything_that_tells_time_goes_on(start: Start, wall: Wall, by: timedelta) -> None:
    """The log, `/metrics`, decision records and the budget's note, all read back after a jump."""
    router = start()
    before = await router.quiet(children=0)
    answers = await many(router, 2)
    wall.shift(by)
    answers += await many(router, 2)
    for answer in (answers[0], answers[-1]):
        decision = answer.headers["x-router-decision"]
        assert json.loads(await get(router, f"/router/decisions/{decision}"))["id"] == decision
    assert b"hybrid_router_" in await get(router, "/metrics")
    await assert_shifted(router, wall)
    await assert_invariants(router, before, answers)


async def get(router: Router, path: str) -> bytes:
    """What an address of the router says."""
    async with aiohttp.ClientSession() as http, http.get(router.url + path) as reply:
        assert reply.status == 200
        return await reply.read()
