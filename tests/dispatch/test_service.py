"""From a call to a decided record, and what is said when nobody can serve."""

from __future__ import annotations

import time

import msgspec
import pytest

from hybrid_router.backends.scripted import EVERYTHING, Scripted, answer
from hybrid_router.config.load import loads
from hybrid_router.core.ability import ABILITIES, DOES
from hybrid_router.core.call import Adapter, Call, Feature, Message, Operation
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    ModelNotFound,
    NoBackend,
    PolicyRefused,
    RouterError,
    UnsupportedParameter,
)
from hybrid_router.core.event import Text
from hybrid_router.dispatch.breaker import FIRST_OPEN_S
from hybrid_router.dispatch.health import ACCOUNT_BENCH_S
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.dispatch.service import Service
from hybrid_router.routing.policy import compile_policy

CONFIG = """
backends:
  local:
    type: local
    models: {m: {adapters: {sql: sql-lora}}}
  cloud-a:
    type: workers_ai
    account_id: "0123456789abcdef0123456789abcdef"
    token: {env: TOKEN}
aliases:
  both:
    try: [local/m, cloud-a/x]
  home:
    try: local/m
rules:
  - name: refuse_swearing
    when: {text: dash it}
    refuse: mind your language
  - name: stay
    when: {text: stay here}
    local_only: true
"""


def service(local: Scripted, cloud: Scripted | None = None) -> Service:
    policy = compile_policy(loads(CONFIG, environ={"TOKEN": "t" * 40}).config)
    if cloud is None:
        return Service(policy, {"local": local}, {"cloud-a": "no token"})
    return Service(policy, {"local": local, "cloud-a": cloud}, {})


def call(alias: str = "both", text: str = "hi") -> Call:
    return Call(
        id="c",
        operation=Operation.CHAT,
        alias=alias,
        stream=True,
        messages=(Message(role="user", content=text),),
    )


async def refused(answers: Service, asked: Call) -> Record:
    """Have a call answered that is refused: the error comes with the run, its record before."""
    record = answers.decide(asked)
    async for _ in answers.run(asked, record):
        pytest.fail("nothing may run")
    return record


def home(*, why_down: str | None = None, can: frozenset[Feature] = EVERYTHING) -> Scripted:
    return Scripted([answer("home")], local=True, why_down=why_down, can=can)


async def test_a_decided_call_is_answered_and_told_once() -> None:
    """The record names the steps; the listener hears of the attempt with its call."""
    told: list[tuple[Call, Record, Attempt]] = []
    policy = compile_policy(loads(CONFIG, environ={"TOKEN": "t" * 40}).config)
    answers = Service(policy, {"local": home()}, {"cloud-a": "off"}, lambda *row: told.append(row))
    asked = call()

    record = answers.decide(asked)
    events = [event async for batch in answers.run(asked, record) for event in batch]

    assert [event.text for event in events if isinstance(event, Text)] == ["home"]
    assert record.id.startswith("dec_")
    ((heard, same, attempt),) = told
    assert (heard, same, attempt.outcome) == (asked, record, "answered")


async def test_an_alias_brings_its_adapters() -> None:
    """The backend gets them with the call; where nobody knows adapters, that is what is said."""
    told: list[Call] = []
    adapted = CONFIG.replace("    try: local/m\n", "    try: local/m\n    adapters: {sql: 0.8}\n")
    policy = compile_policy(loads(adapted, environ={"TOKEN": "t" * 40}).config)
    answers = Service(policy, {"local": home()}, {"cloud-a": "off"}, lambda heard, *_: told.append(heard))
    asked = call("home")
    async for _ in answers.run(asked, answers.decide(asked)):
        pass

    assert [heard.adapters for heard in told] == [(Adapter("sql", 0.8),)]
    with pytest.raises(UnsupportedParameter, match="adapters"):
        await refused(Service(policy, {"local": home(can=frozenset())}, {"cloud-a": "off"}), asked)


async def test_an_unknown_alias_is_not_found() -> None:
    """With a word on where to look."""
    with pytest.raises(ModelNotFound, match="GET /v1/models"):
        service(home()).decide(call("gpt-4"))


async def test_a_rule_may_refuse() -> None:
    """In the policy's own words."""
    with pytest.raises(PolicyRefused, match="mind your language"):
        await refused(service(home()), call(text="dash it"))


async def test_nobody_there_says_why_for_each() -> None:
    """503: it may be different in a while."""
    with pytest.raises(NoBackend, match=r"local/m: it is dead.*cloud-a/x: .*no token"):
        await refused(service(home(why_down="it is dead")), call())


def lost(answers: Service, backend: str, model: str, *errors: RouterError) -> None:
    """Attempts that end so."""
    health, now_s = answers.knowledge.health, time.monotonic()
    for error in errors:
        assert health.enter(backend, model, now_s) is None
        health.leave(backend, model, now_s, error, began_s=now_s)


BUSY = BackendBusy("busy", retry_after_s=30.0)
FAILED = (BackendError("no"),) * 5


def wait_s(answers: Service, asked: Call) -> float | None:
    """What a client that is told 503 reads of when to ask again."""
    refusal = answers.decide(asked).refusal
    assert isinstance(refusal, NoBackend)
    return refusal.retry_after_s


def test_who_is_away_until_known_times_says_when_to_ask_again() -> None:
    """The shortest of the waits: one breaker is open, one backend has named a time itself."""
    answers = service(home(), Scripted([answer("cloud")]))
    lost(answers, "local", "m", BUSY)
    lost(answers, "cloud-a", "x", *FAILED)

    assert 0 < (wait_s(answers, call()) or 0.0) <= FIRST_OPEN_S
    assert FIRST_OPEN_S < (wait_s(answers, call("home")) or 0.0) <= 30.0


def test_a_bench_of_a_whole_account_is_waited_for() -> None:
    """A step that could not answer anyway is not, however soon it may be asked."""
    answers = service(home(can=frozenset()), Scripted([answer("cloud")]))
    lost(answers, "cloud-a", "x", AccountRefused("no such token"))
    lost(answers, "local", "m", BUSY)
    tools = msgspec.structs.replace(call(), features=frozenset({Feature.TOOLS}))

    assert 30.0 < (wait_s(answers, tools) or 0.0) <= ACCOUNT_BENCH_S


def test_nobody_waits_for_a_backend_that_is_off() -> None:
    """Time does not bring it back, so the other's wait is what counts."""
    answers = service(home())
    lost(answers, "local", "m", BUSY)

    assert 0 < (wait_s(answers, call()) or 0.0) <= 30.0


def test_no_time_is_told_where_one_may_be_back_at_any_moment() -> None:
    """A worker that starts again, a cloud that cannot be reached, a step that a rule leaves out."""
    answers = service(home(why_down="dead"), Scripted([answer("cloud")]))
    lost(answers, "cloud-a", "x", BUSY)
    assert wait_s(answers, call()) is None
    assert wait_s(answers, call(text="stay here")) is None

    answers = service(home(), Scripted([answer("cloud")]))
    lost(answers, "local", "m", BUSY)
    lost(answers, "cloud-a", "x", BUSY)
    facts, decided = answers.facts("both"), answers.explain(call())
    gone = msgspec.structs.replace(facts, unreachable={"cloud-a": "no route"})
    assert not decided.steps
    assert facts.waits.keys() == {"local/m", "cloud-a/x"}
    assert answers.wait_s(call(), facts, decided) == min(facts.waits.values())
    assert answers.wait_s(call(), gone, decided) is None


@pytest.mark.parametrize("alias", ["home", "both"])
async def test_what_nobody_can_do_is_the_clients_to_change(alias: str) -> None:
    """400, not 503: waiting would not help, so no client library should try again."""
    tools = msgspec.structs.replace(call(alias), features=frozenset({Feature.TOOLS}))

    with pytest.raises(UnsupportedParameter, match="tools"):
        await refused(service(home(can=frozenset())), tools)


async def test_what_nobody_can_do_names_what_is_off() -> None:
    """An editor that always sends tools: its user reads which backend is off, why, and what to do."""
    tools = msgspec.structs.replace(call(), features=frozenset({Feature.TOOLS}))
    alone = msgspec.structs.replace(tools, alias="home")

    with pytest.raises(UnsupportedParameter) as some_off:
        await refused(service(home(can=frozenset())), tools)
    with pytest.raises(UnsupportedParameter) as all_on:
        await refused(service(home(can=frozenset())), alone)

    assert some_off.value.message == (
        "no model behind 'both' that is on can call tools "
        "(cloud-a is off: no token): send it without tools, or turn one on that can"
    )
    assert all_on.value.message == (
        "no model behind 'home' can call tools: send it without tools, or give the alias a step that can"
    )


async def test_what_no_model_is_for_is_told_by_its_name() -> None:
    """An embedding asked of a chat model: another model, or another step, would do."""
    asked = msgspec.structs.replace(call("home"), operation=Operation.EMBED, messages=(), prompts=("a",))

    with pytest.raises(UnsupportedParameter) as caught:
        await refused(
            service(Scripted([answer("home")], local=True, does=frozenset({Operation.CHAT}))), asked
        )
    assert caught.value.message == (
        "no model behind 'home' can embed: ask another model, or give the alias a step that can"
    )
    assert caught.value.param == "model"


async def test_what_makes_a_call_what_it_is_cannot_be_left_out() -> None:
    """A model that only writes down what is said: no word of ours, and no advice to ask for less."""
    asked = msgspec.structs.replace(
        call("home"), operation=Operation.TRANSCRIBE, features=frozenset({Feature.SPEECH_TRANSLATION})
    )
    hears = Scripted([answer("home")], local=True, can=frozenset(), does=frozenset({Operation.TRANSCRIBE}))

    with pytest.raises(UnsupportedParameter) as caught:
        await refused(service(hears), asked)
    assert caught.value.message == (
        "no model behind 'home' can translate speech: ask another model, or give the alias a step that can"
    )


def test_whatever_a_call_needs_has_words() -> None:
    """Every operation and every feature can be told of a model that lacks it."""
    assert (set(DOES), set(ABILITIES)) == (set(Operation), set(Feature))


async def test_an_able_step_that_is_down_is_a_matter_of_time() -> None:
    """The cloud could do tools, but not now: 503."""
    tools = msgspec.structs.replace(call(), features=frozenset({Feature.TOOLS}))
    cloud = Scripted([answer("cloud")], why_down="resting")

    with pytest.raises(NoBackend):
        await refused(service(home(can=frozenset()), cloud), tools)


async def test_readiness_names_the_aliases_nobody_serves() -> None:
    """One able step is enough for an alias."""
    assert service(home()).unservable() == {}
    assert service(home(why_down="dead"), Scripted([answer("x")])).unservable() == {"home": "local/m: dead"}


async def test_a_step_is_down_for_its_backends_or_its_own_reason() -> None:
    """What the ready line says beside each step."""
    answers = service(home(why_down="dead"))

    assert answers.down("local", "m") == "dead"
    assert answers.down("cloud-a", "x") == "no token"
    assert answers.aliases == ("both", "home")
