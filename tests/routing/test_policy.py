"""Compiling router.yaml into a policy."""

from __future__ import annotations

from hybrid_router.config.load import loads
from hybrid_router.core.call import Adapter, Call, Feature, Operation
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import compile_policy

TEXT = """\
timeouts: {connect: 1s, total: 200s}
backends:
  gpu: {type: local, models: {a: {}}}
  cf: {type: workers_ai, account_id: {env: A}, token: {env: T}, timeouts: {first_token: 9s}}
aliases:
  x: {try: [{step: cf/@cf/m/n, timeouts: {between_tokens: 8s}}, gpu/a], timeouts: {total: 100s}}
  y: {try: gpu/a}
rules:
  - {name: stay, when: {text: secret}, only: local}
"""


def test_routes_carry_merged_timeouts() -> None:
    """Each step has its own waits in seconds, each alias its own total."""
    policy = compile_policy(loads(TEXT).config)

    assert policy.aliases["x"].steps[0] == Step(
        backend="cf",
        model="@cf/m/n",
        timeouts=Timeouts(connect_s=1.0, load_s=60.0, first_token_s=9.0, between_tokens_s=8.0, total_s=100.0),
        because="try order of alias x",
    )
    assert policy.aliases["x"].total_s == 100.0
    assert policy.aliases["y"].total_s == 200.0
    assert policy.aliases["y"].steps[0].timeouts.total_s == 200.0


def test_the_policy_knows_kinds_and_rules() -> None:
    """Local backends are known by type, rules stay in order, text rules have their guard."""
    policy = compile_policy(loads(TEXT).config)

    assert policy.local == {"gpu"}
    assert [(rule.name, rule.only, rule.first, rule.refuse) for rule in policy.rules] == [
        ("stay", ("local",), (), None)
    ]
    assert policy.text_guard.search(b"a secret") is not None
    assert policy.text_guard.search(b"nothing") is None


ADAPTED = """\
backends: {gpu: {type: local, models: {a: {adapters: {sql: sql-lora}}}}}
aliases:
  plain: {try: gpu/a}
  sql: {try: gpu/a, adapters: {sql: 0.8}, truncate: oldest}
"""


def test_an_alias_completes_its_calls() -> None:
    """Its adapters and its truncation are the call's, and the step must know adapters."""
    aliases = compile_policy(loads(ADAPTED).config).aliases
    call = Call(id="c", operation=Operation.CHAT, alias="sql")

    completed = aliases["sql"].completed(call)

    assert (completed.adapters, completed.truncate) == ((Adapter("sql", 0.8),), "oldest")
    assert Feature.ADAPTERS in completed.features
    assert aliases["sql"].completed(completed) == completed
    assert aliases["plain"].completed(call) == call


def test_what_a_call_says_itself_wins() -> None:
    """An alias gives defaults, not orders."""
    call = Call(
        id="c", operation=Operation.CHAT, alias="sql", adapters=(Adapter("other", 2.0),), truncate="middle"
    )

    assert compile_policy(loads(ADAPTED).config).aliases["sql"].completed(call) == call


def test_an_alias_with_an_adapter_leaves_out_who_knows_none() -> None:
    """Its answer would be another model's."""
    policy = compile_policy(loads(ADAPTED).config)
    facts = Facts(local=policy.local, features={"gpu/a": frozenset()})

    assert [
        left.step
        for left in plan(Call(id="c", operation=Operation.CHAT, alias="sql"), facts, policy).left_out
    ] == ["gpu/a"]
    assert plan(Call(id="c", operation=Operation.CHAT, alias="plain"), facts, policy).left_out == ()
