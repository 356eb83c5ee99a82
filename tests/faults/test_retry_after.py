"""A cloud that says when to come back, and is believed if that fits: F17, and the 3040 of F18."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from invariants import Lines, assert_invariants
from raw_cloud import clouds_policy
from router_process import Emulator, Router, stopped_at_end
from wire_client import CHAT, PROMPT_CANARY, Answer, ask, chat_body

pytestmark = pytest.mark.timeout(60)

SAID = f"repeat: {PROMPT_CANARY}"
RETRIED = "retries: 1, retry_wait: 2s, on_break: error"
BUSY: list[dict[str, Any]] = [{"status": 429}, {"code": 3040}, {"status": 503}]
BUSY_NAMES = ["429 without a code", "3040", "503"]
NO_SENSE = ["99999999", "-7", "soon", "1e9", "Fri, 99 Foo 2026"]


@pytest.fixture(scope="module")
def router(emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service that tries once more, and waits two seconds for that at most."""
    config = clouds_policy(emulator.base_url, emulator.base_url, treatment=RETRIED)
    started = Router(config, tmp_path_factory.mktemp("retry_after"))
    with stopped_at_end(started):
        yield started


async def asked(
    router: Router,
    emulator: Emulator,
    fault: dict[str, Any],
    alias: str = "cloud-then-spare",
    *,
    stream: bool = True,
    headers: dict[str, str] | None = None,
) -> tuple[Answer, Lines]:
    """One call whose first attempt meets a fault; the answer and the attempts' lines."""
    emulator.calm()
    router.forgive()
    before = await router.quiet(children=0)
    emulator.fault(**fault)
    answer = await ask(router, chat_body(alias, SAID, stream=stream), CHAT, headers)
    return answer, await assert_invariants(router, before, [answer])


def waited_s(emulator: Emulator) -> float:
    """How long the cloud was left alone between its refusal and the second call, by its own clock."""
    first, second = emulator.calls()
    return float(second["opened_s"] - first["closed_s"])


def assert_tried_again(answer: Answer, attempts: Lines) -> None:
    """The same cloud has answered, as the second of two attempts, and the log says so."""
    assert (answer.text(), answer.served_by) == (PROMPT_CANARY, ("cloudflare", "2"))
    assert [(line["backend"], line["outcome"], line.get("retry")) for line in attempts] == [
        ("cloudflare", "failed", None),
        ("cloudflare", "answered", 1),
    ]


def assert_went_on(answer: Answer, attempts: Lines) -> None:
    """The next step has answered; nobody was tried again."""
    assert (answer.text(), answer.served_by) == (PROMPT_CANARY, ("spare", "2"))
    assert [(line["backend"], line["outcome"], line.get("retry")) for line in attempts] == [
        ("cloudflare", "failed", None),
        ("spare", "answered", None),
    ]


@pytest.mark.parametrize("fault", BUSY, ids=BUSY_NAMES)
async def test_seconds_that_fit_are_waited(router: Router, emulator: Emulator, fault: dict[str, Any]) -> None:
    """The same cloud is asked again, not a moment before it said."""
    answer, attempts = await asked(router, emulator, fault | {"retry_after": "1"})

    assert_tried_again(answer, attempts)
    assert waited_s(emulator) >= 1.0 - 0.05  # its clock runs on until the reply is written


async def test_a_date_that_fits_is_waited_for(router: Router, emulator: Emulator) -> None:
    """An HTTP date means the same as the seconds until then."""
    then = datetime.now(UTC) + timedelta(seconds=1.9)
    answer, attempts = await asked(
        router, emulator, {"code": 3040, "retry_after": format_datetime(then, usegmt=True)}
    )

    assert_tried_again(answer, attempts)
    assert datetime.now(UTC) >= then.replace(microsecond=0)


async def test_a_date_that_has_passed_means_now(router: Router, emulator: Emulator) -> None:
    """No wait is left of it."""
    answer, attempts = await asked(
        router, emulator, {"code": 3040, "retry_after": "Fri, 13 Feb 1970 00:00:00 GMT"}
    )

    assert_tried_again(answer, attempts)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("fault", BUSY, ids=BUSY_NAMES)
async def test_without_advice_a_short_wait_of_our_own(
    router: Router, emulator: Emulator, fault: dict[str, Any], stream: bool
) -> None:
    """Capacity may be there again in a moment."""
    answer, attempts = await asked(router, emulator, fault, stream=stream)

    assert_tried_again(answer, attempts)


@pytest.mark.parametrize("advice", NO_SENSE)
async def test_advice_that_makes_no_sense_is_none(router: Router, emulator: Emulator, advice: str) -> None:
    """Over a day, negative, or no time at all: as if it were not there."""
    answer, attempts = await asked(router, emulator, {"code": 3040, "retry_after": advice})

    assert_tried_again(answer, attempts)


async def test_seconds_that_do_not_fit_are_not_waited(router: Router, emulator: Emulator) -> None:
    """Longer than retry_wait: the next step answers, and the cloud is left alone as it asked."""
    answer, attempts = await asked(router, emulator, {"code": 3040, "retry_after": "7"})
    assert_went_on(answer, attempts)

    later = await ask(router, chat_body("cloud-then-spare", SAID))
    assert later.served_by == ("spare", "1")
    assert [call["status"] for call in emulator.calls()] == [429, 200, 200]


async def test_a_client_in_a_hurry_is_not_made_to_wait(router: Router, emulator: Emulator) -> None:
    """What is left of `x-router-timeout` is shorter than the advice: the next step answers."""
    fault = {"code": 3040, "retry_after": "2"}
    answer, attempts = await asked(router, emulator, fault, headers={"x-router-timeout": "1.5"})

    assert_went_on(answer, attempts)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_advice_is_passed_on_when_we_give_up(router: Router, emulator: Emulator, stream: bool) -> None:
    """With no step left the client hears 429 and the cloud's own advice, after one attempt."""
    fault = {"code": 3040, "retry_after": "7"}
    answer, attempts = await asked(router, emulator, fault, "cloud-only", stream=stream)

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "7"
    assert len(attempts) == 1


async def test_whoever_is_busy_twice_is_given_up(router: Router, emulator: Emulator) -> None:
    """One retry is what the policy allows; then the client hears the last word."""
    fault = {"count": 5, "code": 3040, "retry_after": "1"}
    answer, attempts = await asked(router, emulator, fault, "cloud-only")

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
    assert answer.headers["retry-after"] == "1"
    assert [line.get("retry") for line in attempts] == [None, 1]
    assert len(emulator.calls()) == 2


async def test_a_long_rest_is_told_to_those_who_come_meanwhile(router: Router, emulator: Emulator) -> None:
    """The cloud hears nothing of them; they hear why."""
    fault = {"count": 5, "code": 3040, "retry_after": "30"}
    _, attempts = await asked(router, emulator, fault, "cloud-only")
    assert len(attempts) == 1
    before = await router.quiet(children=0)
    meanwhile = [await ask(router, chat_body("cloud-only", SAID, stream=stream)) for stream in (True, False)]

    assert await assert_invariants(router, before, meanwhile) == []
    assert {answer.error["code"] for answer in meanwhile if answer.error} == {"no_backend_available"}
    assert all("asked again in" in str(answer.error) for answer in meanwhile)
    assert len(emulator.calls()) == 1
