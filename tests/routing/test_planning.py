"""Plans: what the shipped policy does, and what no policy may ever do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.config.load import load, loads
from hybrid_router.core.call import Adapter, Call, Feature, Message, Operation, Sampling
from hybrid_router.core.step import LeftOut, Plan, Step, Timeouts
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, Route, compile_policy
from hybrid_router.routing.rules import CompiledRule
from hybrid_router.routing.subject import Subject

ROOT = Path(__file__).parents[2]
LOCAL = "local/smollm2"
CLOUD = "cloudflare/@cf/zai-org/glm-4.7-flash"
BOTH = Facts(local=frozenset({"local"}))


@pytest.fixture(scope="module")
def policy() -> Policy:
    """The shipped router.yaml, compiled."""
    return compile_policy(load(ROOT / "router.yaml", {}).config)


def asking(text: str = "hello", alias: str = "default", **fields: Any) -> Call:
    """A chat call."""
    call = Call(id="x", operation=Operation.CHAT, alias=alias, messages=(Message(role="user", content=text),))
    return replace(call, **fields)


def names(decided: Plan) -> list[str]:
    """The plan's steps by name."""
    return [step.name for step in decided.steps]


def with_rules(rules: str) -> Policy:
    """Two backends, one alias, and rules."""
    return compile_policy(
        loads(f"""\
backends:
  local: {{type: local, models: {{smollm2: {{}}}}}}
  cloudflare: {{type: workers_ai, account_id: {{env: A}}, token: {{env: T}}}}
aliases:
  default: {{try: [{LOCAL}, "{CLOUD}"]}}
rules: {rules}
""").config
    )


@pytest.mark.parametrize(
    ("alias", "steps"),
    [("default", [LOCAL, CLOUD]), ("cloud-first", [CLOUD, LOCAL]), ("local-only", [LOCAL])],
)
def test_without_rules_that_hold_the_try_order_stands(policy: Policy, alias: str, steps: list[str]) -> None:
    """Each step says that the alias put it there."""
    decided = plan(asking(alias=alias), BOTH, policy)

    assert names(decided) == steps
    assert {step.because for step in decided.steps} == {f"try order of alias {alias}"}
    assert (decided.left_out, decided.rules, decided.refused, decided.total_s) == ((), (), None, 600.0)


@pytest.mark.parametrize(
    "call",
    [
        asking(alias="cloud-first", headers={"x-private": "True"}),
        asking("key: -----BEGIN RSA PRIVATE KEY-----", alias="cloud-first"),
        asking("AKIA" + "A" * 16 + " " + "x" * 20_000, alias="default"),
        asking(alias="cloud-first", headers={"x-private": "1", "x-prefer": "cloud"}),
    ],
)
def test_the_shipped_policy_keeps_private_calls_home(policy: Policy, call: Call) -> None:
    """A private header or a key in the text leaves no cloud, whatever else the call asks for."""
    decided = plan(call, BOTH, policy)

    assert names(decided) == [LOCAL]
    assert [left.step for left in decided.left_out] == [CLOUD]
    assert "keeps the call on this machine" in decided.left_out[0].because


@pytest.mark.parametrize("before", ["", "key=", "\n", '{"content": "\\n', "(", "é"])
@pytest.mark.parametrize(
    "credential",
    [
        *("-----BEGIN PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----"),
        *("AKIA" + "A1" * 8, "ASIA" + "1A" * 8),
        *("ghp_" + "a" * 36, "gho_" + "B" * 36, "github_pat_" + "1" * 22 + "_" + "a" * 59),
        *("glpat-" + "a-_B1" * 4, "hf_" + "a" * 34, "AIza" + "a-_B1" * 7),
        *("sk-" + "a" * 48, "sk-proj-" + "a-_B1" * 30, "sk-ant-api03-" + "a" * 90),
        *("xoxb-" + "1" * 12 + "-" + "a" * 24, "xoxp-" + "1" * 40, "xapp-1-" + "A" * 11),
        *("cfut_" + "a" * 40, "cfat_" + "B" * 40),
    ],
)
def test_the_shipped_policy_keeps_credentials_home(policy: Policy, credential: str, before: str) -> None:
    """Keys of well-known forms, wherever in a text they begin, also in JSON inside it."""
    assert names(plan(asking(f"Why? {before}{credential}", alias="cloud-first"), BOTH, policy)) == [LOCAL]


@pytest.mark.parametrize(
    "text",
    ["task-oriented-thinking-and-planning", "https://example.org/risk-management", "sk-learn", "hf_hub"],
)
def test_ordinary_words_are_no_credentials(policy: Policy, text: str) -> None:
    """What only ends or begins like a key may leave."""
    assert names(plan(asking(text, alias="cloud-first"), BOTH, policy)) == [CLOUD, LOCAL]


NO = ["", "0", "false", "No", "OFF", "off,", "no, 0"]
PRIVATE = st.sampled_from(
    ["true", "1", "yes", "on", "y", "enabled", "true;", "ofF.", "nope", "no false"]
) | st.text(
    st.characters(min_codepoint=32, exclude_characters=",\x7f", exclude_categories=["Cs"]), min_size=1
).filter(lambda text: text.strip(" \t").casefold() not in {value.casefold() for value in NO})
ANY = st.sampled_from(NO) | PRIVATE


@given(private=PRIVATE, more=st.lists(ANY, max_size=4), place=st.integers(0, 4))
def test_no_further_header_lets_a_private_call_leave(
    policy: Policy, private: str, more: list[str], place: int
) -> None:
    """Any x-private but a no keeps a call here, whatever other x-private stand before and after it."""
    sent = ", ".join([*more[:place], private, *more[place:]])

    decided = plan(
        asking(alias="cloud-first", headers={"x-private": sent, "x-prefer": "cloud"}), BOTH, policy
    )

    assert names(decided) == [LOCAL]


@pytest.mark.parametrize("sent", [*NO, ", ".join(NO)])
def test_a_call_that_is_not_private_may_leave(policy: Policy, sent: str) -> None:
    """An empty x-private, 0, false, no and off, in any case and number, ask for nothing."""
    assert names(plan(asking(alias="cloud-first", headers={"x-private": sent}), BOTH, policy)) == [
        CLOUD,
        LOCAL,
    ]


def test_the_shipped_policy_sends_long_prompts_to_the_cloud(policy: Policy) -> None:
    """What the small model could not hold starts at the cloud, and falls back home."""
    decided = plan(asking("word " * 3000), BOTH, policy)

    assert names(decided) == [CLOUD, LOCAL]
    assert decided.steps[0].because == "rule send_long_prompts_to_the_cloud: first cloud"
    assert decided.steps[1].because == "try order of alias default"
    assert decided.rules == ("send_long_prompts_to_the_cloud",)


def test_the_shipped_policy_follows_the_clients_wish(policy: Policy) -> None:
    """`x-prefer: cloud` puts the cloud first."""
    assert names(plan(asking(headers={"x-prefer": "Cloud"}), BOTH, policy)) == [CLOUD, LOCAL]


def test_each_obstacle_is_named() -> None:
    """Off, offline, down and unable: the reason stands beside each step that is left out."""
    free = with_rules("[]")
    off = plan(asking(), Facts(local=BOTH.local, off={"cloudflare": "no token: set T"}), free)
    offline = plan(asking(), Facts(local=BOTH.local, online=False), free)
    down = plan(asking(), Facts(local=BOTH.local, down={LOCAL: "the worker restarts in 2 s"}), free)
    unable = plan(
        asking(features=frozenset({Feature.TOOLS, Feature.IMAGES})),
        Facts(local=BOTH.local, features={LOCAL: frozenset(), CLOUD: frozenset({Feature.TOOLS})}),
        free,
    )

    assert off.left_out == (LeftOut(step=CLOUD, because="cloudflare is off: no token: set T"),)
    assert offline.left_out == (
        LeftOut(step=CLOUD, because="cloudflare cannot be reached: this machine is offline"),
    )
    assert down.left_out == (LeftOut(step=LOCAL, because="the worker restarts in 2 s"),)
    assert [left.because for left in unable.left_out] == [
        "it cannot do images, tools, which this call needs",
        "it cannot do images, which this call needs",
    ]
    assert [names(decided) for decided in (off, offline, down, unable)] == [[LOCAL], [LOCAL], [CLOUD], []]


def test_a_step_that_is_not_listed_can_do_everything() -> None:
    """Only what a backend says of a model leaves it out."""
    assert names(plan(asking(features=frozenset({Feature.AUDIO})), BOTH, with_rules("[]"))) == [LOCAL, CLOUD]


def test_an_off_local_backend_is_off_not_a_cloud() -> None:
    """`only: local` does not call a local backend that is off a cloud: the reason is the true one."""
    facts = Facts(local=frozenset(), off={"local": "the llama extra is not installed"})

    decided = plan(asking(), facts, with_rules("[{name: stay, only: local}]"))

    assert decided.steps == ()
    assert {left.step: left.because for left in decided.left_out} == {
        CLOUD: "rule stay allows only local",
        LOCAL: "local is off: the llama extra is not installed",
    }


def test_refused_is_refused() -> None:
    """A refusal has the rule's sentence, no steps, and names every step it kept from running."""
    decided = plan(asking(), BOTH, with_rules("[{name: stay, only: local}, {name: no, refuse: Not today.}]"))

    assert (decided.refused, decided.steps, decided.rules) == ("Not today.", (), ("stay", "no"))
    assert decided.left_out == (
        LeftOut(step=CLOUD, because="rule stay allows only local"),
        LeftOut(step=LOCAL, because="rule no refuses the call"),
    )


@pytest.mark.parametrize(
    ("rules", "steps"),
    [
        ("[{name: a, first: cloudflare}]", [CLOUD, LOCAL]),
        (f"[{{name: a, first: '{CLOUD}'}}]", [CLOUD, LOCAL]),
        ("[{name: a, first: cloud}, {name: b, first: local}]", [LOCAL, CLOUD]),
        ("[{name: a, first: [cloud, local]}]", [CLOUD, LOCAL]),
        ("[{name: a, only: cloud}]", [CLOUD]),
        ("[{name: a, only: cloud}, {name: b, only: local}]", []),
        ("[{name: a, only: [cloudflare, local], first: cloud}]", [CLOUD, LOCAL]),
    ],
)
def test_targets_and_order(rules: str, steps: list[str]) -> None:
    """Rules apply from first to last; targets are kinds, backends or steps; what is left out stays out."""
    assert names(plan(asking(), BOTH, with_rules(rules))) == steps


BACKENDS = ("local", "gpu", "cf", "other")
WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
STEPS = st.builds(
    Step,
    backend=st.sampled_from(BACKENDS),
    model=st.sampled_from(["a", "b/c"]),
    timeouts=st.just(WAITS),
    because=st.just("try order of alias default"),
)
TARGETS = st.lists(
    st.sampled_from([*BACKENDS, "cloud", "cf/b/c", "local/a"]), min_size=1, max_size=3, unique=True
).map(tuple)
NAMES = st.sampled_from(["cf/a", "cf/b/c", "local/a", "gpu/b/c"])
RULES = st.builds(
    CompiledRule,
    name=st.sampled_from(["a", "b", "c"]),
    holds=st.sampled_from([lambda subject: True, lambda subject: False]),
    first=TARGETS | st.just(()),
    only=TARGETS | st.just(()),
    refuse=st.none() | st.none() | st.just("No and no."),
)
FACTS = st.builds(
    Facts,
    off=st.dictionaries(st.sampled_from(BACKENDS), st.just("why")),
    local=st.frozensets(st.sampled_from(BACKENDS)),
    down=st.dictionaries(NAMES, st.just("why")),
    features=st.dictionaries(NAMES, st.frozensets(st.sampled_from(Feature))),
    online=st.booleans(),
)
POLICIES = st.builds(
    Policy,
    aliases=st.lists(STEPS, max_size=6).map(
        lambda steps: {"default": Route(steps=tuple(steps), total_s=9.0)}
    ),
    rules=st.lists(RULES, max_size=5).map(tuple),
    local=st.frozensets(st.sampled_from(BACKENDS)),
)
CALLS = st.frozensets(st.sampled_from(Feature)).map(lambda features: asking(features=features))


@given(CALLS, FACTS, POLICIES)
def test_a_plan_orders_some_of_the_steps_and_accounts_for_all(
    call: Call, facts: Facts, policy: Policy
) -> None:
    """For any facts and rules: nothing is invented, nothing doubled, nothing lost without a reason."""
    decided = plan(call, facts, policy)
    candidates = sorted(step.name for step in policy.aliases["default"].steps)

    assert sorted([*names(decided), *(left.step for left in decided.left_out)]) == candidates
    assert all(left.because for left in decided.left_out)
    assert all(step.timeouts is WAITS for step in decided.steps)


@given(CALLS, FACTS, POLICIES)
def test_a_plan_holds_only_what_can_serve(call: Call, facts: Facts, policy: Policy) -> None:
    """Offline means this machine; off, down and unable never run."""
    for step in plan(call, facts, policy).steps:
        assert facts.online or step.backend in facts.local
        assert step.backend not in facts.off
        assert step.name not in facts.down
        assert call.features <= facts.features.get(step.name, call.features)


@given(CALLS, FACTS, POLICIES, st.integers(min_value=0, max_value=5))
def test_only_local_never_leaves_a_cloud(call: Call, facts: Facts, policy: Policy, place: int) -> None:
    """Wherever among the rules `only: local` stands, no step of another machine remains."""
    stay = CompiledRule(name="stay", holds=lambda subject: True, only=("local",))
    rules = (*policy.rules[:place], stay, *policy.rules[place:])

    decided = plan(call, facts, Policy(aliases=policy.aliases, rules=rules, local=policy.local))

    assert all(step.backend in facts.local for step in decided.steps)


@given(CALLS, FACTS, POLICIES)
def test_refused_means_no_steps(call: Call, facts: Facts, policy: Policy) -> None:
    """A refusal is whole, and comes exactly when a rule that refuses holds."""
    decided = plan(call, facts, policy)
    subject = Subject(call, facts)

    assert (decided.refused is not None) == any(rule.refuse and rule.holds(subject) for rule in policy.rules)
    assert decided.refused is None or decided.steps == ()


@given(CALLS, FACTS, POLICIES)
def test_planning_is_pure(call: Call, facts: Facts, policy: Policy) -> None:
    """The same call, facts and policy give the same plan, every time."""
    assert plan(call, facts, policy) == plan(call, facts, policy)


@given(CALLS, FACTS, POLICIES)
def test_steps_that_no_rule_moves_keep_their_order(call: Call, facts: Facts, policy: Policy) -> None:
    """`first` moves its targets; among the others, and within a target, order is kept."""
    tame = tuple(CompiledRule(name=rule.name, holds=rule.holds, only=rule.only) for rule in policy.rules)
    decided = plan(call, facts, Policy(aliases=policy.aliases, rules=tame, local=policy.local))
    order = iter(step.name for step in policy.aliases["default"].steps)

    assert all(name in order for name in names(decided))  # a subsequence


def test_a_model_that_is_for_something_else_is_left_out(policy: Policy) -> None:
    """An embedding model does not chat, a chat model does not embed; the plan says so."""
    facts = replace(
        BOTH, operations={LOCAL: frozenset({Operation.EMBED}), CLOUD: frozenset({Operation.CHAT})}
    )
    chat = plan(asking(), facts, policy)
    embed = plan(replace(asking(), operation=Operation.EMBED, messages=(), prompts=("a",)), facts, policy)

    assert LOCAL not in names(chat)
    assert LeftOut(step=LOCAL, because="it cannot chat") in chat.left_out
    assert names(embed) == [LOCAL]
    assert LeftOut(step=CLOUD, because="it cannot embed") in embed.left_out


def test_who_is_made_for_translation_goes_first() -> None:
    """Who has to be asked for it as a chat comes behind, however they are listed, and where the other is gone
    it is the only one."""
    translates = frozenset({Operation.TRANSLATE})
    facts = replace(BOTH, operations={LOCAL: translates | {Operation.CHAT}, CLOUD: translates})
    asked = asking(operation=Operation.TRANSLATE, messages=(), prompts=("hello",))
    policy = with_rules("[]")

    decided = plan(asked, facts, policy)

    assert names(decided) == [CLOUD, LOCAL]
    assert decided.steps[1].because.endswith("; it translates by chat")
    assert names(plan(asked, replace(facts, online=False), policy)) == [LOCAL]
    assert names(plan(asking(), replace(facts, operations={}), policy)) == [LOCAL, CLOUD]


def test_steps_of_a_call_that_stays_home_say_so() -> None:
    """So that an engine keeps nothing of it on disk; other calls' steps do not."""
    policy = with_rules("[{name: keep_secrets_home, when: {text: [secret]}, local_only: true}]")

    assert all(step.private for step in plan(asking("a secret"), BOTH, policy).steps)
    assert not any(step.private for step in plan(asking("hello"), BOTH, policy).steps)


@pytest.mark.parametrize(
    "fields",
    [
        {"suffix": "my secret"},
        {"query": "my secret"},
        {"template_values": {"persona": "secret"}},
        {"template_values": {"secret": True}},
        {"adapters": (Adapter("secret"),)},
        {"response_format": {"type": "grammar", "grammar": 'root ::= "secret"'}},
        {"sampling": Sampling(dry_sequence_breakers=("secret",))},
    ],
)
def test_rules_read_every_text_of_a_call(fields: dict[str, Any]) -> None:
    """A suffix or a template's value is as private as a message."""
    policy = with_rules("[{name: keep_secrets_home, when: {text: [secret]}, local_only: true}]")

    assert plan(asking(**fields), BOTH, policy).local_only


def test_a_query_is_read_beside_every_document() -> None:
    """A rerank call's size counts it as often."""
    call = Call(id="x", operation=Operation.RERANK, alias="a", query="q" * 400, prompts=("d", "e", "f"))

    assert Subject(call, Facts()).prompt_tokens >= 300
