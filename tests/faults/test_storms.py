"""Many clients before a cloud in trouble: F18 and F19, and the drip of F20."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from invariants import assert_invariants
from raw_cloud import clouds_policy
from reloading import reload
from router_process import Emulator, Router, stopped_at_end
from wire_client import PROMPT_CANARY, Answer, ask, chat_body

pytestmark = pytest.mark.timeout(60)

SAID = f"repeat: {PROMPT_CANARY}"
CLIENTS_COUNT = 16
CALLS_COUNT = 128  # of all clients together
ALLOWED = 1.2
ALLOWED_COUNT = 3
BREAKER_COUNT = 5  # failures in a row, or five of ten, that open it
RETRIED = "retries: 1, on_break: error"
Start = Callable[..., Router]


@pytest.fixture
def stormy(tmp_path: Path) -> Iterator[Emulator]:
    """A cloud of the test's own."""
    started = Emulator(tmp_path / "stormy")
    with stopped_at_end(started):
        yield started


@pytest.fixture
def start(stormy: Emulator, emulator: Emulator, tmp_path: Path) -> Iterator[Start]:
    """Starts a service whose first cloud is the stormy one, and the second one well."""
    emulator.calm()
    with ExitStack() as stack:

        def begin(**chosen: Any) -> Router:
            config = clouds_policy(stormy.base_url, emulator.base_url, **chosen)
            started = Router(config, tmp_path / "router")
            stack.enter_context(stopped_at_end(started))
            return started

        yield begin


def plan_weather(cloud: Emulator, share: float, count: int, fault: dict[str, Any]) -> None:
    """Let this share of the next `count` calls go wrong, at random but the same each time."""
    chance = random.Random(19)  # noqa: S311 - the same weather each time
    cloud._control("DELETE", "/emulator/faults")
    runs: list[tuple[bool, int]] = []
    for _ in range(count):
        fails = chance.random() < share
        if runs and runs[-1][0] == fails:
            runs[-1] = fails, runs[-1][1] + 1
        else:
            runs.append((fails, 1))
    for fails, length in runs:
        cloud._control("POST", "/emulator/faults", {"count": length} | (fault if fails else {}))


async def many(router: Router, alias: str, count: int = CALLS_COUNT) -> list[Answer]:
    """All clients' calls, each client's one after the other."""

    async def one(number: int) -> list[Answer]:
        body = chat_body(alias, SAID, stream=number % 2 == 0)
        return [await ask(router, body) for _ in range(count // CLIENTS_COUNT)]

    return [
        answer for told in await asyncio.gather(*(one(n) for n in range(CLIENTS_COUNT))) for answer in told
    ]


def assert_storm_is_not_fed(stormy: Emulator, calls_count: int) -> None:
    """The cloud heard no more than the budget allows."""
    assert len(stormy._control("GET", "/emulator/calls")["calls"]) <= ALLOWED * calls_count + ALLOWED_COUNT


async def asked_until(router: Router, alias: str, served_by: str) -> list[Answer]:
    """Calls, one after the other, up to the one that this backend answers."""
    answers: list[Answer] = []
    until_s = monotonic() + 30
    while not answers or answers[-1].served_by[0] != served_by:
        assert monotonic() < until_s, f"{served_by} does not come back"
        answers.append(await ask(router, chat_body(alias, SAID)))
        await asyncio.sleep(0.05)
    return answers


async def test_a_storm_opens_the_breaker_and_then_probes_alone_get_through(
    start: Start, stormy: Emulator
) -> None:
    """All clients are answered by the next step; the cloud hears a few calls, then none.

    It comes back by itself: the first call after the pause is the probe, and it is answered.
    """
    router = start(treatment=RETRIED)
    stormy.fault(10_000, status=500)
    before = await router.quiet(children=0)
    answers = await many(router, "cloud-then-spare")

    assert {(answer.status, answer.served_by[0], answer.text()) for answer in answers} == {
        (200, "spare", PROMPT_CANARY)
    }
    # Those that were under way when the fifth failed had entered before; each may be a client's first.
    heard_count = len(stormy.calls())
    assert BREAKER_COUNT <= heard_count <= CLIENTS_COUNT + BREAKER_COUNT
    stormy._control("DELETE", "/emulator/faults")
    answers += await asked_until(router, "cloud-then-spare", "cloudflare")

    assert [call["status"] for call in stormy.calls()[heard_count:]] == [200]
    answers += await many(router, "cloud-then-spare")
    assert {answer.served_by for answer in answers[-CALLS_COUNT:]} == {("cloudflare", "1")}
    await settled(router, before, answers)


async def test_a_probe_that_fails_is_the_only_one(start: Start, stormy: Emulator) -> None:
    """Half-open, many at once: one is let through, and its failure leaves the cloud alone for longer."""
    router = start(treatment=RETRIED, first_token="1s", connect="1s")
    stormy.fault(10_000, code=8005)
    before = await router.quiet(children=0)
    answers = await many(router, "cloud-then-spare", CLIENTS_COUNT)
    stormy.calm()
    stormy.fault(10_000, hang="before_headers")
    while not stormy._control("GET", "/emulator/calls")["calls"]:
        answers += await many(router, "cloud-then-spare", CLIENTS_COUNT)

    assert [answer.served_by[1] for answer in answers[-CLIENTS_COUNT:]].count("2") == 1
    answers += await many(router, "cloud-then-spare", CLIENTS_COUNT)
    assert len(stormy.calls()) == 1
    assert {(answer.status, answer.served_by[0]) for answer in answers} == {(200, "spare")}
    await settled(router, before, answers)


@pytest.mark.parametrize(("alias", "share"), [("cloud-then-spare", 0.5), ("cloud-only", 0.25)])
async def test_a_patchy_storm_is_not_fed(start: Start, stormy: Emulator, alias: str, share: float) -> None:
    """Retries stay within the budget; everybody hears an answer or a named error."""
    router = start(treatment=RETRIED)
    plan_weather(stormy, share, 2 * CALLS_COUNT, {"status": 503})
    before = await router.quiet(children=0)
    answers = await many(router, alias)

    assert_storm_is_not_fed(stormy, len(answers))
    codes = {answer.error["code"] for answer in answers if answer.error}
    if alias == "cloud-then-spare":
        assert codes == set()
    assert codes <= {"backend_unavailable", "no_backend_available"}
    assert all(answer.text() == PROMPT_CANARY for answer in answers if not answer.error)
    await settled(router, before, answers)


async def settled(router: Router, before: Any, answers: list[Answer]) -> None:
    """Hold the trial against the invariants; so many clients at once leave more connections to be kept."""
    await assert_invariants(router, before, answers, pooled_count=2 * CLIENTS_COUNT)


@pytest.mark.parametrize("spent", [3036, 4006])
async def test_after_a_spent_day_no_call_of_any_alias_is_sent(
    start: Start, stormy: Emulator, spent: int
) -> None:
    """Not one of many, streamed or plain, by any alias, nor after a reload that changes nothing."""
    router = start(treatment=RETRIED)
    stormy.fault(10_000, code=spent)
    before = await router.quiet(children=0)
    answers = [await ask(router, chat_body("cloud-only", SAID))]
    assert answers[0].error is not None
    assert answers[0].error["code"] == "insufficient_quota"
    for _ in range(2):
        answers += await many(router, "cloud-only", 32) + await many(router, "cloud-then-spare", 32)
        assert len(stormy.calls()) == 1
        assert (await reload(router))["ok"]
    answers.append(await ask(router, chat_body("cloud-only", SAID)))

    assert len(stormy.calls()) == 1
    assert {answer.status for answer in answers} == {200, 429, 503}
    assert {answer.served_by[0] for answer in answers if answer.status == 200} == {"spare"}
    await settled(router, before, answers)


DRIP_S = 0.002  # some 0.6 s for an event, which is some 250 bytes


@pytest.mark.parametrize(
    ("first_token", "between_tokens", "total", "code"),
    [
        ("300ms", "10s", "20s", "backend_timeout"),
        ("10s", "100ms", "20s", "backend_timeout"),
        ("1200ms", "1200ms", "1200ms", "backend_timeout"),
        ("10s", "10s", "60s", None),
    ],
    ids=["the first takes too long", "the next takes too long", "all take too long", "slow but in time"],
)
async def test_a_drip_of_bytes_is_judged_by_its_events(  # noqa: PLR0917 - a table
    start: Start, stormy: Emulator, first_token: str, between_tokens: str, total: str, code: str | None
) -> None:
    """Bytes that come all the time keep nobody waiting beyond a timer; whole events in time are an answer."""
    router = start(first_token=first_token, between_tokens=between_tokens, total=total, connect="300ms")
    stormy.fault(bytewise=True, drip_s=DRIP_S)
    before = await router.quiet(children=0)
    answer = await ask(router, chat_body("cloud-only", "count to 3", stream=True))

    if code is None:
        assert (answer.error, answer.text()) == (None, "1 2 3")
    else:
        assert answer.error is not None
        assert answer.error["code"] == code
        assert "1 2 3".startswith(answer.text())
        assert bool(answer.text()) == (first_token == "10s")
        assert stormy.calls()[0]["outcome"] == "client_left"
    await assert_invariants(router, before, [answer])
