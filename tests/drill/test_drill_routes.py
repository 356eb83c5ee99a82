"""Which calls a policy is drilled with."""

from __future__ import annotations

import pytest

from hybrid_router.config.load import loads
from hybrid_router.drill.routes import Routes, Wanted, decoded, routes
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.policy import Policy

CONFIG = """
server: {{ keys: [{{ name: ann, sha256: "{key}" }}, {{ name: bob, sha256: "{other}" }}] }}
backends:
  local: {{ type: local, models: {{ a: {{}} }} }}
  sky:
    type: workers_ai
    account_id: {{ env: A }}
    token: {{ env: T }}
aliases:
  x: {{ try: [local/a, sky/@cf/b] }}
  y: {{ try: sky/@cf/b }}
rules:
  - {{ name: tried, when: {when}, {action} }}
"""


def facts(policy: Policy) -> Facts:
    """Everybody can do everything."""
    return Facts(local=policy.local)


def made(when: str, wanted: Wanted | None = None, action: str = "only: local", alias: str = "x") -> Routes:
    """The routes of an alias under a policy with one rule."""
    text = CONFIG.format(key="0" * 64, other="1" * 64, when=when, action=action)
    return routes(loads(text).config, facts, [alias], wanted or Wanted())


@pytest.mark.parametrize(
    "when",
    [
        "{ alias: x }",
        "{ operation: complete }",
        "{ key: bob }",
        "{ has: tools }",
        "{ has: [images, schema] }",
        "{ time: '03:10-03:12' }",
        "{ time: '22:00-06:30', not: { operation: chat } }",
        "{ header: { x-private: '.*' }, not: { header: { x-private: '(?i)(0|false|no|off)?' } } }",
        "{ header: { x-a: '[a-f0-9]{8}', x-b: 'on|off' } }",
        "{ text: ['(?i)\\bconfidential\\b', 'A[KS]IA[0-9A-Z]{16}'] }",
        "{ prompt_tokens: { above: 3000 } }",
        "{ prompt_tokens: { above: 100, below: 140 } }",
        "{ not: { prompt_tokens: { below: 500 } } }",
        "{ any: [{ key: nobody }, { all: [{ text: secret }, { not: { not: { has: tools } } }] }] }",
        *(f"{{ finds: {kind} }}" for kind in ("secrets", "api_keys", "private_keys", "tokens")),
        *(f"{{ finds: {kind} }}" for kind in ("pii", "emails", "phones", "cards", "ibans")),
        "{ files: ['*.pem', .env] }",
        "{ files: '**/secrets/**' }",
        "{ path: /v1/completions }",
        "{ language: de }",
        "{ language: [zh], prompt_tokens: { above: 500 } }",
        "{ any: [{ alias: y }, { header: { x-team: 'red' } }] }",
    ],
)
def test_a_call_is_made_for_a_rule(when: str) -> None:
    """The rule holds for it, and the rule's own action is what its plan shows."""
    found = made(when.replace("nobody", "ann"))

    assert found.undrilled == []
    (route,) = [route for route in found.routes if route.private]
    assert route.private == "tried"
    assert route.plan.rules == ("tried",)
    assert [step.name for step in route.plan.steps] == ["local/a"]


@pytest.mark.parametrize("when", ["{ text: '\\p{Greek}{3}' }", "{ header: { x-a: 'a', x-b: '\\pL' } }"])
def test_what_cannot_be_made_is_said(when: str) -> None:
    """The rule is named, and that it keeps calls at home."""
    (undrilled,) = made(when).undrilled

    assert (undrilled.rule, undrilled.private) == ("tried", True)


def test_what_cannot_be_made_may_be_given() -> None:
    """Headers and text of the user's own make a call that could not be guessed."""
    when = "{ text: '\\p{Greek}{3}', header: { x-b: '\\pL' } }"
    found = made(when, Wanted(headers=(("x-b", "z"),), text="αβγ"))

    assert found.undrilled == []
    assert [route.private for route in found.routes] == [None, None, "tried"]


def test_a_rule_for_another_alias_is_no_business() -> None:
    """It is neither drilled nor missed."""
    found = made("{ alias: y }")

    assert [route.kinds for route in found.routes] == [["streamed"], ["plain"]]
    assert found.undrilled == []


@pytest.mark.parametrize(
    ("action", "private"),
    [
        ("local_only: true", "tried"),
        ("only: local", "tried"),
        ("only: [local/a]", "tried"),
        ("only: [local, sky]", None),
        ("first: cloud", None),
    ],
)
def test_private_is_what_a_rule_keeps_on_this_machine(action: str, private: str | None) -> None:
    """`local_only`, and `only` with nothing but targets on this machine."""
    route = made("{ header: { x-a: 'a' } }", action=action).routes[-1]

    assert route.private == private


def test_calls_that_are_treated_alike_are_one() -> None:
    """A rule that changes nothing is named beside the plain stream; a private one always stands alone."""
    found = made("{ header: { x-a: 'a' } }", action="first: cloud", alias="y")
    kept = made("{ header: { x-a: 'a' } }", action="only: local", alias="y")

    assert [route.kinds for route in found.routes] == [["streamed", "rule tried"], ["plain"]]
    assert [route.kinds for route in kept.routes] == [["streamed"], ["plain"], ["rule tried"]]


def test_a_call_is_somebodys_where_keys_are_needed() -> None:
    """Without a rule that wants another, it is the first key's."""
    route = made("{ key: bob }").routes[0]

    assert decoded(route.sketch, route.config).principal == "ann"


def test_every_rule_that_ships_is_drilled(shipped: str) -> None:
    """A call is made for each rule of the shipped router.yaml, for each alias that it concerns."""
    config = loads(shipped).config
    found = routes(config, facts, list(config.aliases), Wanted())

    assert config.rules
    assert found.undrilled == []
    kinds = {kind for route in found.routes for kind in route.kinds}
    assert kinds == {"streamed", "plain", *(f"rule {rule.name}" for rule in config.rules)}
