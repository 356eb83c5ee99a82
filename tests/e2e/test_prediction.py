"""What was measured decides: order by speed, spilling, costs and deadlines, in the real service."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from records import explained, record_of
from router_policy import CLOUD_MODEL, policy
from router_process import Emulator, Router, stopped_at_end
from wire_client import CHAT, COMPLETIONS, Answer, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

SAID, TEXT = "count to 5", "1 2 3 4 5"
LEARNING_COUNT = 6
CLOUD, NATIVE, LOCAL = f"cloudflare/{CLOUD_MODEL}", f"native/{CLOUD_MODEL}", "local/smollm2"
# Of this one nothing is ever known, so that no plan leaves it out, however slow the machine was before.
UNKNOWN_MODEL = "@cf/meta/llama-3.2-3b-instruct"
UNKNOWN = f"cloudflare/{UNKNOWN_MODEL}"
TRANSLATOR = "cloudflare/@cf/meta/m2m100-1.2b"
DEAR = "cloudflare/@cf/meta/llama-3.3-70b-instruct-fp8-fast"
ALIASES = f"""aliases:
  quickest: {{ try: [{NATIVE}, {CLOUD}], prefer: fastest }}
  spilling: {{ try: [{LOCAL}, {CLOUD}], spill_when: {{ queue: 1 }} }}
  thrifty: {{ try: [{DEAR}, {LOCAL}], max_cost_usd: 0.0001 }}
  translate: {{ try: [{NATIVE}, {TRANSLATOR}] }}
  patient: {{ try: {LOCAL}, timeouts: {{ first_token: 5m, total: 10m }} }}
  generous: {{ try: [{DEAR}, {LOCAL}] }}
  dear-only: {{ try: {DEAR} }}
  unknown: {{ try: {UNKNOWN} }}
  unknown-first: {{ try: [{UNKNOWN}, {LOCAL}] }}
  unknown-twice: {{ try: [{UNKNOWN}, native/{UNKNOWN_MODEL}] }}
  hurried: {{ try: {UNKNOWN}, timeouts: {{ connect: 1s, first_token: 1s, between_tokens: 1s, total: 1s }} }}
"""
TIMEOUT, MAX_COST = "x-router-timeout", "x-router-max-cost-usd"
TOO_DEAR = "the call may cost 0.0001 USD"


def config(manifest: Path, emulator: Emulator) -> str:
    """A router.yaml whose aliases look at what was measured; the model at home has one place."""
    text = policy(manifest, emulator.base_url, parallel=1, treatment="on_break: error, retries: 0")
    return text.replace("aliases:\n", ALIASES, 1)


@pytest.fixture(scope="module")
def measuring(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """A service with these aliases."""
    router = Router(config(manifest, emulator), tmp_path_factory.mktemp("measuring"))
    with stopped_at_end(router):
        yield router


@pytest.fixture
def cloud(emulator: Emulator) -> Emulator:
    """The cloud, with nothing planned and nothing seen."""
    emulator.fault()
    emulator.calm()
    return emulator


def steps(plan: Mapping[str, Any]) -> list[str]:
    """A plan's steps in order."""
    return [step["step"] for step in plan["steps"]]


def why_left_out(plan: Mapping[str, Any]) -> dict[str, str]:
    """Step → why it is not in the plan."""
    return {left["step"]: left["because"] for left in plan["left_out"]}


def forecast(plan: Mapping[str, Any]) -> dict[str, Any]:
    """Step → seconds to its first token, as predicted."""
    return {step["step"]: step.get("predicted", {}).get("first_token_s") for step in plan["steps"]}


async def learn(router: Router, alias: str) -> None:
    """Have a step measured."""
    for _ in range(LEARNING_COUNT):
        answer = await ask(router, chat_body(alias, SAID))
        assert answer.served_by[1] == "1"


async def test_speeds_turn_the_order_and_outlive_the_process(
    manifest: Path, cloud: Emulator, tmp_path: Path
) -> None:
    """As listed while nothing is known; then the faster one first, also after the next start."""
    body = chat_body("quickest", SAID)
    with stopped_at_end(router := Router(config(manifest, cloud), tmp_path)):
        plan = await explained(router, body)
        assert forecast(plan) == {NATIVE: None, CLOUD: None}
        assert steps(plan) == [NATIVE, CLOUD]

        cloud.fault(LEARNING_COUNT, delay_first_s=0.4)
        await learn(router, "native-only")
        cloud.fault()
        await learn(router, "cloud-only")
        plan = await explained(router, body)
        assert steps(plan) == [CLOUD, NATIVE]
        assert "fastest first" in plan["steps"][0]["because"]
        learned = forecast(plan)
        assert learned[NATIVE] > max(0.4, learned[CLOUD])
        assert learned[CLOUD] > 0
        answer = await ask(router, body)
        assert answer.served_by == ("cloudflare", "1")
        last = forecast(await explained(router, body))
        router.send(signal.SIGTERM)
        assert router.wait() == 0

    cloud.calm()
    with stopped_at_end(router := Router(config(manifest, cloud), tmp_path)):
        plan = await explained(router, body)
        assert steps(plan) == [CLOUD, NATIVE]
        assert forecast(plan) == pytest.approx(last, rel=0.05)
        assert cloud.calls() == []


async def planned(router: Router, body: Any, wanted: list[str]) -> Any:
    """The plan of a call, once it has these steps."""
    async with asyncio.timeout(10):
        while steps(plan := await explained(router, body)) != wanted:  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.01)
    return plan


async def test_a_busy_model_lets_the_cloud_go_first(measuring: Router, cloud: Emulator) -> None:
    """Once a call waits for its place; before that and afterwards the model at home comes first."""
    # What the model at home has read before would stay there: no other test says this.
    body = chat_body("spilling", "count to 3", max_tokens=2)
    # By what the calls before it took, the second one would come too late for a hurried alias.
    endless = chat_body("patient", "Count.", stream=True, max_tokens=900, logit_bias={"2": -100, "0": -100})
    async with raw_call(measuring, endless) as running:
        await running.pieces(2)
        assert steps(await explained(measuring, body)) == [LOCAL, CLOUD]
        async with raw_call(measuring, endless) as waiting:
            plan = await planned(measuring, body, [CLOUD, LOCAL])
            assert "1 call waits" in plan["steps"][0]["because"]
            spilled = await ask(measuring, body)
            assert spilled.served_by == ("cloudflare", "1")
            waiting.reset()
        running.reset()
    await planned(measuring, body, [LOCAL, CLOUD])
    assert (await ask(measuring, body)).served_by == ("local", "1")
    record = await record_of(measuring, spilled)
    assert record["facts"]["loads"][LOCAL]["waiting_count"] == 1
    assert steps(record) == [CLOUD, LOCAL]


async def test_a_chat_translates_when_the_translator_fails(measuring: Router, cloud: Emulator) -> None:
    """The model that is made for it goes first, wherever it is listed; the other one stands in for it."""
    body = {"model": "translate", "input": "The cat sat on the mat.", "source": "en", "target": "fr"}
    served = []
    for statuses in ([], [503]):
        for status in statuses:
            cloud.fault(status=status)
        async with (
            aiohttp.ClientSession(measuring.url) as client,
            client.post("/v1/translate", json=body) as reply,
        ):
            assert reply.status == 200, await reply.text()
            served.append((reply.headers["x-router-backend"], reply.headers["x-router-attempts"]))

    assert served == [("cloudflare", "1"), ("native", "2")]
    measuring.forgive()


@pytest.mark.parametrize(
    ("alias", "headers"),
    [
        ("thrifty", {}),
        ("generous", {MAX_COST: "0.0001"}),
        ("thrifty", {MAX_COST: "5"}),  # a client may only ask for less
    ],
)
async def test_a_step_that_may_cost_too_much_is_left_out(
    measuring: Router, cloud: Emulator, alias: str, headers: dict[str, str]
) -> None:
    """By the alias's cap or the header's, the smaller one, and the record says why."""
    answer = await ask(measuring, chat_body(alias, SAID, max_tokens=100), headers=headers)

    assert answer.served_by == ("local", "1")
    assert TOO_DEAR in why_left_out(await record_of(measuring, answer))[DEAR]
    assert cloud.calls() == []


async def test_a_cap_that_is_enough_changes_nothing(measuring: Router, cloud: Emulator) -> None:
    """What may cost less is asked; where no step may, the client is told the price."""
    answer = await ask(measuring, chat_body("thrifty", SAID, max_tokens=5))
    assert answer.served_by == ("cloudflare", "1")
    answer = await ask(measuring, chat_body("generous", SAID, max_tokens=100), headers={MAX_COST: "0.5"})
    assert answer.served_by == ("cloudflare", "1")

    refused = await ask(measuring, chat_body("dear-only", SAID, max_tokens=100), headers={MAX_COST: "0.0001"})
    assert refused.error is not None
    assert (refused.status, refused.error["code"]) == (503, "no_backend_available")
    assert TOO_DEAR in refused.error["message"]


async def ended_in_time(router: Router, answer: Answer, limit_s: float) -> None:
    """I1: within its deadline and a second."""
    record = await record_of(router, answer)
    assert record["total_s"] == limit_s
    assert record["duration_s"] <= limit_s + 1.0


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
@pytest.mark.parametrize(
    ("alias", "asked", "limit_s"),
    [
        ("unknown", "1", 1.0),
        ("unknown-first", "800ms", 0.8),
        ("unknown-twice", "0.7", 0.7),
        ("hurried", "1h", 1.0),
    ],
)
async def test_a_client_may_shorten_its_deadline(  # noqa: PLR0917 - two fixtures and a table
    measuring: Router, cloud: Emulator, alias: str, asked: str, limit_s: float, stream: bool
) -> None:
    """Every step counts against it, asking for more changes nothing, and the cloud is let go."""
    cloud.fault(5, hang="after_headers")
    answer = await ask(measuring, chat_body(alias, SAID, stream=stream), headers={TIMEOUT: asked})

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (504, "backend_timeout")
    await ended_in_time(measuring, answer, limit_s)
    assert {seen["outcome"] for seen in cloud.calls()} == {"client_left"}
    cloud.fault()
    measuring.forgive()


async def test_a_deadline_ends_a_stream_in_band(measuring: Router, cloud: Emulator) -> None:
    """What was said stays, and an error stands where the end would."""
    cloud.fault(stall_after=3)
    answer = await ask(measuring, chat_body("unknown", SAID, stream=True), headers={TIMEOUT: "2"})

    assert answer.status == 200
    assert answer.error is not None
    assert TEXT.startswith(answer.text())
    assert not answer.done
    await ended_in_time(measuring, answer, 2.0)
    measuring.forgive()


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(
            (TIMEOUT, value)
            for value in ("", "soon", "0", "-1", "inf", "nan", "1e3", "10 minutes", "1, 2", "0s")
        ),
        *((MAX_COST, value) for value in ("", "free", "-1", "inf", "nan", "1e-3", "$1", "0.1, 5", "0,01")),
    ],
)
async def test_a_limit_that_is_none_is_refused(
    measuring: Router, cloud: Emulator, path: str, name: str, value: str
) -> None:
    """No call runs with another limit than its client meant."""
    body = chat_body("cloud-only", SAID) if path == CHAT else completion_body("cloud-only", SAID)
    answer = await ask(measuring, body, path, {name: value})

    assert answer.error is not None
    assert (answer.status, answer.error["param"]) == (400, name)
    assert answer.error["message"].startswith(f"{name}: expected")
    assert cloud.calls() == []
