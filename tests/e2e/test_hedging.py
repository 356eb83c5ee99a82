"""Hedging by the real service: the second step starts when the first is late, and one of them answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from records import record_of
from router_policy import CLOUD_MODEL, policy
from router_process import Emulator, Router, soon, stopped_at_end
from wire_client import Answer, ask, chat_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

SAID, TEXT = "count to 5", "1 2 3 4 5"
LATE_S = 20.0
HABIT_COUNT = 14  # calls before it is known how late a first token may be
CLOUD, NATIVE = f"cloudflare/{CLOUD_MODEL}", f"native/{CLOUD_MODEL}"
OTHER = "native/@cf/meta/llama-3.2-3b-instruct"
ALIASES = f"""aliases:
  hedged: {{ try: [{CLOUD}, {NATIVE}, {OTHER}], hedge: true }}
  hedged-native: {{ try: [{NATIVE}, {CLOUD}], hedge: true }}
  hedged-unknown: {{ try: [{OTHER}, {CLOUD}], hedge: true }}
  unhedged: {{ try: [{CLOUD}, {NATIVE}] }}
"""


@pytest.fixture(scope="module")
def hedging(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service that hedges."""
    config = policy(manifest, emulator.base_url, preload=False, treatment="on_break: error, retries: 0")
    router = Router(config.replace("aliases:\n", ALIASES, 1), tmp_path_factory.mktemp("hedging"))
    with stopped_at_end(router):
        yield router


@pytest.fixture
async def knowing(hedging: Router, emulator: Emulator) -> Router:
    """The service, once it knows how fast both forms of the cloud are."""
    emulator.fault()
    for alias in ("cloud-only", "native-only"):
        for _ in range(HABIT_COUNT):
            answer = await ask(hedging, chat_body(alias, SAID))
            assert answer.status == 200
    emulator.calm()
    return hedging


def faults(emulator: Emulator, *planned: dict[str, Any]) -> None:
    """What goes wrong with the calls to come, one after the other."""
    emulator.calm()
    for fault in planned:
        emulator._control("POST", "/emulator/faults", fault)


async def attempts(router: Router, answer: Answer) -> list[tuple[Any, ...]]:
    """Step, outcome, and whether it was a hedge, of each attempt of a call's record."""
    made = (await record_of(router, answer))["attempts"]
    return [(one["step"], one["outcome"], one.get("hedge", False)) for one in made]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
async def test_a_late_first_token_is_not_waited_for(
    knowing: Router, emulator: Emulator, stream: bool
) -> None:
    """The second step answers, whole; the first is let go; header, record and cloud say the same."""
    faults(emulator, {"delay_first_s": LATE_S})
    answer = await ask(knowing, chat_body("hedged", SAID, stream=stream))

    assert (answer.error, answer.text()) == (None, TEXT)
    assert answer.served_by == ("native", "2")
    assert await attempts(knowing, answer) == [(CLOUD, "cancelled", False), (NATIVE, "answered", True)]
    assert [seen["outcome"] for seen in emulator.calls()] == ["client_left", "answered"]
    made = (await record_of(knowing, answer))["attempts"]
    assert all(one["neurons"] > 0 for one in made)
    assert made[1]["started_s"] > 0


async def test_no_call_is_hedged_twice(knowing: Router, emulator: Emulator) -> None:
    """With both late and a third step at hand: the two are waited for."""
    faults(emulator, {"delay_first_s": 1.0}, {"delay_first_s": LATE_S})
    answer = await ask(knowing, chat_body("hedged", SAID))

    assert (answer.text(), answer.served_by) == (TEXT, ("cloudflare", "2"))
    assert await attempts(knowing, answer) == [(CLOUD, "answered", False), (NATIVE, "cancelled", True)]
    assert len(emulator.calls()) == 2


@pytest.mark.parametrize(
    "nothing", [{"status": 500}, {"stall_after": 1}, {"error_after": 0, "code": 3040}, {"pings": True}]
)
async def test_an_error_or_an_empty_role_wins_nothing(
    knowing: Router, emulator: Emulator, nothing: dict[str, Any]
) -> None:
    """A hedge that fails or says nothing yet leaves the race to the first."""
    faults(emulator, {"delay_first_s": 0.7}, nothing)
    answer = await ask(knowing, chat_body("hedged-native", SAID, stream=True))

    assert (answer.error, answer.text()) == (None, TEXT)
    assert answer.served_by == ("native", "2")
    await soon(lambda: len(emulator.calls()) == 2, "both were asked")
    knowing.forgive()


@pytest.mark.parametrize("alias", ["unhedged", "hedged-unknown"])
async def test_without_the_policy_or_the_knowledge_nothing_is_hedged(
    knowing: Router, emulator: Emulator, alias: str
) -> None:
    """A late step is waited for where hedging is off, or nobody knows what late would be."""
    faults(emulator, {"delay_first_s": 1.0})
    answer = await ask(knowing, chat_body(alias, SAID))

    assert (answer.text(), answer.served_by[1]) == (TEXT, "1")
    assert len(emulator.calls()) == 1


async def test_a_call_out_of_time_releases_both(knowing: Router, emulator: Emulator) -> None:
    """Nobody works on for a call that is over."""
    faults(emulator, {"delay_first_s": LATE_S}, {"delay_first_s": LATE_S})
    answer = await ask(knowing, chat_body("hedged", SAID), headers={"x-router-timeout": "1.5"})

    assert answer.error is not None
    assert answer.status == 504
    assert [seen["outcome"] for seen in emulator.calls()] == ["client_left", "client_left"]
