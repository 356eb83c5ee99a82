"""The day's neurons, through the real router: the emulated account is the meter that stands outside."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from invariants import assert_invariants
from router_policy import CLOUD_MODEL
from router_process import ACCOUNT, TOKEN, Emulator, Router, soon, stopped_at_end
from wire_client import PROMPT_CANARY, Answer, ask, chat_body

pytestmark = pytest.mark.timeout(60)

DAILY = 20.0  # neurons: about ten of these calls
SAID = f"repeat: {PROMPT_CANARY} " + "and so on " * 30
CONFIG = """\
server: {{ listen: 127.0.0.1:0 }}
timeouts: {{ connect: 5s, first_token: 30s, between_tokens: 20s, total: 60s }}
backends:
  cloudflare:
    type: workers_ai
    base_url: {url}
    account_id: {{ env: CLOUDFLARE_ACCOUNT_ID }}
    token: {{ env: CLOUDFLARE_API_TOKEN }}
    neurons: {neurons}
aliases:
  cloud: {{ retries: 0, on_break: error, try: cloudflare/{model} }}
  important: {{ reserve: true, try: cloudflare/{model} }}
"""


class Account:
    """A cloud of its own for each test, and routers that use it one after the other."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self.emulator = Emulator(folder / "emulator", "--token-delay", "0.002")
        stack.enter_context(stopped_at_end(self.emulator))

    def router(self, neurons: str = f"{{daily: {DAILY}}}") -> Router:
        """Start one, in the same folder each time."""
        config = CONFIG.format(url=self.emulator.base_url, neurons=neurons, model=CLOUD_MODEL)
        started = Router(config, self._folder / "router")
        self._stack.enter_context(stopped_at_end(started))
        return started

    def seen(self) -> list[Any]:
        """The calls that have reached the cloud, whether they run or not."""
        calls: list[Any] = self.emulator._control("GET", "/emulator/calls")["calls"]
        return calls

    def used(self) -> float:
        """What the cloud has counted, once no call is running there."""
        self.emulator.calls()
        return float(self.emulator._control("GET", "/emulator/neurons")["used"])

    def budget(self) -> dict[str, Any]:
        """What `hybrid-router budget` says."""
        told = subprocess.run(
            [sys.executable, "-m", "hybrid_router", "budget", "--json"],
            cwd=self._folder / "router",
            env={"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN, "PATH": ""},
            capture_output=True,
            check=True,
        )
        (budget,) = json.loads(told.stdout)
        assert isinstance(budget, dict)
        return budget


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    """A cloud and what uses it."""
    with ExitStack() as stack:
        yield Account(tmp_path, stack)


def wanted(alias: str = "cloud", *, stream: bool = True) -> dict[str, Any]:
    """A call of about two neurons that may cost four."""
    return chat_body(alias, SAID, stream=stream, max_tokens=150)


async def many(router: Router, count: int) -> list[Answer]:
    """So many calls at once."""
    return await asyncio.gather(*(ask(router, wanted(stream=place % 2 == 0)) for place in range(count)))


async def test_calls_at_once_and_crashes_use_no_more_than_the_day_has(account: Account) -> None:
    """Bursts, a killed router in the middle of one, and the next router: never above, and most of it used."""
    router = account.router()
    answers = await many(router, 12)
    assert {answer.status for answer in answers} <= {200, 429, 503}

    running = [asyncio.create_task(ask(router, wanted())) for _ in range(2)]
    await soon(account.seen, "a call at the cloud")
    router.send(signal.SIGKILL)
    router.wait()
    await asyncio.gather(*running, return_exceptions=True)
    assert account.used() <= DAILY

    again = account.router()
    before = await again.quiet(children=0)
    answers = [each for _ in range(4) for each in await many(again, 4)]
    await assert_invariants(again, before, answers)
    assert 0.5 * DAILY < account.used() <= DAILY
    refused = [answer.error for answer in answers if answer.error]
    assert any("renewed at 00:00 UTC" in error["message"] for error in refused)


@pytest.mark.parametrize("spent", [3036, 4006])
async def test_after_a_refusal_no_call_reaches_the_cloud(account: Account, spent: int) -> None:
    """Exactly one did: not the next ones, nor those of the next router after a kill."""
    router = account.router()
    account.emulator.fault(100, code=spent)
    before = await router.quiet(children=0)
    answers = [await ask(router, wanted()) for _ in range(3)]
    await assert_invariants(router, before, answers)
    assert answers[0].error is not None
    assert (answers[0].status, answers[0].error["code"]) == (429, "insufficient_quota")
    assert all(answer.error is not None for answer in answers)

    await soon(lambda: account.budget()["left"] == 0, "a note of the refusal")
    router.send(signal.SIGKILL)
    router.wait()
    again = account.router()
    after = await ask(again, wanted())

    assert after.error is not None
    assert "Cloudflare says that the day's neurons are spent" in after.error["message"]
    assert len(account.emulator.calls()) == 1


async def test_the_budget_is_what_the_cloud_has_counted(account: Account) -> None:
    """After a clean end the command tells the very figure, and the next router goes on from it."""
    router = account.router()
    assert {answer.status for answer in await many(router, 3)} == {200}
    router.send(signal.SIGTERM)
    router.wait()
    budget = account.budget()

    assert budget["used"] == pytest.approx(account.used())
    assert budget["reserved"] == 0
    assert budget["left"] == pytest.approx(DAILY - account.used())


async def test_the_reserve_is_kept(account: Account) -> None:
    """Calls without it are refused and told; a call with it is answered."""
    router = account.router(f"{{daily: {DAILY}, reserve: {DAILY}}}")
    ordinary, important = await ask(router, wanted()), await ask(router, wanted("important"))

    assert ordinary.error is not None
    assert "20 neurons are kept in reserve" in ordinary.error["message"]
    assert (important.status, important.error) == (200, None)
    assert len(account.emulator.calls()) == 1
