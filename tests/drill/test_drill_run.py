"""The drill itself: it sees what a client sees, and finds what must not be."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from msgspec.structs import replace

from hybrid_router.config.load import loads
from hybrid_router.config.schema import Config
from hybrid_router.drill.clouds import clouds
from hybrid_router.drill.faults import FAULTS
from hybrid_router.drill.fresh import Fresh
from hybrid_router.drill.loop import ClosedLoop
from hybrid_router.drill.routes import Route, Wanted
from hybrid_router.drill.run import Drilled, Report, Situation, Trial, drill, finding
from hybrid_router.drill.trial import Failing, Seen, Trials
from hybrid_router.drill.words import sentence

HOME, SKY = "local/small", "sky/@cf/meta/llama-3.2-1b-instruct"
POLICY = f"""
timeouts: {{ connect: 2s, load: 30s, first_token: 40s, between_tokens: 10s, total: 5m }}
backends:
  local: {{ type: local, models: {{ small: {{}} }} }}
  sky:
    type: workers_ai
    account_id: {{ env: A }}
    token: {{ env: T }}
    gateway: {{ id: g, through: host }}
    timeouts: {{ first_token: 8s }}
aliases:
  away: {{ try: [{SKY}, {HOME}], retries: 0 }}
  only-away: {{ try: {SKY}, retries: 0 }}
rules:
  - {{ name: stay, when: {{ header: {{ x-private: "1" }} }}, only: local }}
"""
BY_NAME = {fault.name: fault for fault in FAULTS}


@pytest.fixture(scope="module")
def config() -> Config:
    """Two aliases, one of which has nobody on this machine; no account is given, and no gateway is asked."""
    return loads(POLICY).config


@pytest.fixture(scope="module")
def report(config: Config) -> Report:
    """One whole drill."""
    return drill(config, list(config.aliases), Wanted())


def route(report: Report, alias: str, kind: str) -> Drilled:
    """A route with its trials."""
    (found,) = [one for one in report.drilled if one.route.alias == alias and kind in one.route.kinds]
    return found


def seen(drilled: Drilled, who: str, fault: str) -> Seen:
    """What was seen in a situation."""
    (found,) = [
        one.seen for one in drilled.trials if (one.situation.who, one.situation.fault) == (who, fault)
    ]
    return found


def test_a_sound_policy_has_no_findings(report: Report) -> None:
    """Every call ended, none that a rule keeps here left, and every rule was drilled."""
    assert report.findings == []
    assert report.undrilled == []
    assert report.calls_count == sum(len(one.trials) for one in report.drilled) > 100


def test_when_all_is_well_the_first_step_answers(report: Report) -> None:
    """A backend without an account is drilled as if it were on."""
    answered = seen(route(report, "away", "streamed"), "", "")

    assert (answered.ending, answered.runs, answered.reached) == ("whole", (SKY,), (SKY,))
    assert [part.step for part in answered.parts] == [SKY]
    assert sentence(answered) == f"{SKY} answers at once"


@pytest.mark.parametrize(
    ("fault", "wait_s"),
    [
        *((name, 0.0) for name in ("refuse", "no_name", "rate", "capacity", "quota", "error", "gateway")),
        ("no_answer", 2.0),
        ("hang", 8.0),
        ("headers", 8.0),
    ],
)
@pytest.mark.parametrize("kind", ["streamed", "plain"])
def test_a_step_that_fails_is_passed_over(report: Report, kind: str, fault: str, wait_s: float) -> None:
    """The next one answers whole, after the policy's own wait and no longer one."""
    answered = seen(route(report, "away", kind), SKY, fault)

    assert answered.ending == "whole"
    assert answered.runs == (SKY, HOME)
    assert [part.step for part in answered.parts] == [HOME]
    assert wait_s <= answered.ended_s < wait_s + 2


@pytest.mark.parametrize("fault", ["stall", "cut", "reset", "malformed"])
def test_a_stream_that_breaks_goes_on(report: Report, fault: str) -> None:
    """The text has two parts without a word lost or said twice."""
    answered = seen(route(report, "away", "streamed"), SKY, fault)

    assert answered.ending == "whole"
    first, second = answered.parts
    assert (first.step, first.first, second.step, second.last) == (SKY, 1, HOME, 12)
    assert second.first == first.last + 1


def test_a_slow_step_is_waited_for(report: Report) -> None:
    """It takes most of its wait, and answers."""
    answered = seen(route(report, "away", "streamed"), SKY, "slow")

    assert answered.runs == (SKY,)
    assert answered.first_s == pytest.approx(6.4, abs=0.5)


@pytest.mark.parametrize(
    ("who", "fault", "status", "code"),
    [
        ("every step", "refuse", 503, "backend_unavailable"),
        ("every step", "hang", 504, "backend_timeout"),
        ("every step", "error", 502, "backend_error"),
    ],
)
def test_where_everything_fails_the_error_is_told(
    report: Report, who: str, fault: str, status: int, code: str
) -> None:
    """Status, code and sentence, as a client gets them."""
    refused = seen(route(report, "away", "streamed"), who, fault)

    assert (refused.ending, refused.status, refused.code) == ("refused", status, code)
    assert f"{status} {code}" in sentence(refused)
    assert refused.message in sentence(refused)


def test_a_private_call_contacts_nobody(report: Report) -> None:
    """Under every fault of every step: no connection, no look-up; without a local step it is refused."""
    kept = [one for one in report.drilled if one.route.private == "stay"]

    assert [one.route.alias for one in kept] == ["away", "only-away"]
    assert {trial.seen.reached for one in kept for trial in one.trials} == {()}
    assert {trial.seen.code for trial in kept[1].trials} == {"no_backend_available"}


def observed(config: Config, one: Route, failing: Failing) -> Seen:
    """One trial in a loop of its own."""

    async def work() -> Seen:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, ClosedLoop)
        connector = aiohttp.TCPConnector(force_close=True)
        async with clouds({SKY: "b"}) as there, aiohttp.ClientSession(connector=connector) as http:
            return await Trials(loop, there, {HOME: "a", SKY: "b"}, Fresh(config), http).seen(one, failing)

    with asyncio.Runner(loop_factory=ClosedLoop) as runner:
        return runner.run(work())


@pytest.fixture
def streamed(report: Report) -> Route:
    """The streamed route of `away`, to be changed."""
    return replace(route(report, "away", "streamed").route)


@pytest.mark.parametrize("fault", ["", "refuse", "no_name", "no_answer", "offline", "hang", "cut", "quota"])
def test_a_private_call_that_leaves_is_found(config: Config, streamed: Route, fault: str) -> None:
    """Were a rule not to hold back its call, the drill would say so, whatever becomes of the connection."""
    streamed.private = "stay"
    leaving = observed(config, streamed, {SKY: BY_NAME[fault]} if fault else {})
    found = finding(streamed, Trial(situation=Situation(), seen=leaving))

    assert leaving.reached == (SKY,)
    assert found is not None
    assert found.what == f"the call reached {SKY}, although rule stay keeps it on this machine"


def test_a_call_that_hangs_is_found(config: Config, streamed: Route) -> None:
    """Were a router to wait longer than the call's deadline and a second, the drill would say so."""
    streamed.plan = replace(streamed.plan, total_s=3.0)
    hanging = observed(config, streamed, dict.fromkeys((SKY, HOME), BY_NAME["hang"]))
    found = finding(streamed, Trial(situation=Situation(), seen=hanging))

    assert hanging.ending == "hung"
    assert found is not None
    assert found.what == "the call had not ended after 4.0 s; its deadline is 3 s"


def test_a_dropped_connection_is_found(streamed: Route) -> None:
    """An end without answer and error is one that a client cannot tell from a broken line."""
    dropped = Seen(ending="dropped", status=200, code=None, message="", first_s=None, ended_s=0.2)
    found = finding(streamed, Trial(situation=Situation(), seen=dropped))

    assert found is not None
    assert "without an answer and without an error" in found.what


def test_a_day_without_neurons_is_drilled_as_such() -> None:
    """A cloud that may use nothing is not in the plan, and nobody asks it."""
    text = POLICY.replace("timeouts: { first_token: 8s }", "neurons: { daily: 0 }")
    drilled = drill(loads(text).config, ["away"], Wanted())

    assert drilled.findings == []
    assert [step.name for step in drilled.drilled[0].route.plan.steps] == [HOME]
    assert {trial.seen.reached for one in drilled.drilled for trial in one.trials} == {()}
