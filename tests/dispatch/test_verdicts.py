"""Judging conditions on calls of which not everything is known any more."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.config.schema import Condition, Config
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.dispatch.features import Features, features, sought
from hybrid_router.dispatch.verdicts import Case, Verdict, every, judge, some
from hybrid_router.routing.conditions import compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.subject import Subject

CONFIG: dict[str, Any] = {
    "backends": {"local": {"type": "local", "models": {"a": {"engine": "llama"}}}},
    "aliases": {"fast": {"try": [{"step": "local/a"}]}, "slow": {"try": [{"step": "local/a"}]}},
}
WORDS = ("alpha", "beta", "gamma")
MORE = ("ann@example.org", "~/keys/id.pem", "Der Vertrag ist noch nicht unterschrieben, sagte sie.")

leaves = st.one_of(
    st.builds(lambda words: {"text": words}, st.lists(st.sampled_from(WORDS), min_size=1, max_size=2)),
    st.builds(
        lambda name, value: {"header": {name: value}}, st.sampled_from(["x-a", "X-B"]), st.sampled_from("12")
    ),
    st.builds(lambda alias: {"alias": [alias]}, st.sampled_from(["fast", "slow"])),
    st.builds(lambda count: {"prompt_tokens": {"above": count}}, st.integers(0, 12)),
    st.builds(lambda kinds: {"finds": kinds}, st.sampled_from([["emails"], ["pii"], ["secrets", "emails"]])),
    st.builds(lambda glob: {"files": [glob]}, st.sampled_from(["*.pem", ".env"])),
    st.builds(lambda names: {"language": names}, st.sampled_from([["de"], ["de", "fr"]])),
    st.just({}),
)
conditions = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.builds(lambda each: {"not": each}, inner),
        st.builds(lambda each: {"any": each}, st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda each: {"all": each}, st.lists(inner, min_size=1, max_size=3)),
    ),
    max_leaves=5,
).map(lambda written: msgspec.convert(written, Condition))
calls = st.builds(
    lambda words, headers, alias: Call(
        id="1",
        operation=Operation.CHAT,
        alias=alias,
        messages=(Message(role="user", content=" ".join(words)),),
        headers=headers,
    ),
    st.lists(st.sampled_from(WORDS + MORE), max_size=3),
    st.dictionaries(st.sampled_from(["x-a", "x-b", "x-c"]), st.sampled_from(["1", "2", "1, 2"])),
    st.sampled_from(["fast", "slow"]),
)


def kept(call: Call, *rules: Condition) -> Features:
    """What a policy with these conditions keeps of a call."""
    written = [{"name": f"r{number}"} for number, _ in enumerate(rules)]
    config = msgspec.convert({**CONFIG, "rules": written}, Config)
    policy = replace(
        config, rules=tuple(replace(r, when=c) for r, c in zip(config.rules, rules, strict=True))
    )
    return features(call, Subject(call, Facts()).prompt_tokens, 0.0, sought(policy))


def verdict(condition: Condition, call: Call, known: Features, *, spoken: bool) -> Verdict:
    """What can be told of a stored call."""
    size: tuple[Any, ...] = ((0,) * known.prompt_tokens,)
    silent = replace(call, messages=(), prompts=size, headers=known.headers)
    made = replace(call, headers=known.headers) if spoken else silent
    return judge(condition)(Case(known, made, Facts(), spoken=spoken))


@given(conditions, calls, st.booleans())
def test_what_was_looked_at_is_known(condition: Condition, call: Call, spoken: bool) -> None:
    """Under the very policy that was in force, every condition is judged as it was then, text or no text."""
    truth = compiled(condition)(Subject(call, Facts()))

    assert verdict(condition, call, kept(call, condition), spoken=spoken) is bool(truth)


@given(conditions, conditions, calls)
def test_what_cannot_be_known_is_never_guessed(then: Condition, now: Condition, call: Call) -> None:
    """Under another policy a condition is judged as it would have been, or not at all."""
    truth = compiled(now)(Subject(call, Facts()))

    assert verdict(now, call, kept(call, then), spoken=False) in {bool(truth), None}


@pytest.mark.parametrize(
    ("verdicts", "all_of", "any_of"),
    [
        ([], True, False),
        ([True, None], None, True),
        ([False, None], False, None),
        ([None], None, None),
        ([True, False], False, True),
    ],
)
def test_unknown_counts_only_where_it_decides(
    verdicts: list[Verdict], all_of: Verdict, any_of: Verdict
) -> None:
    """One no settles an `all`, one yes settles an `any`."""
    assert (every(verdicts), some(verdicts)) == (all_of, any_of)


def test_a_header_that_was_not_looked_at_is_unknown() -> None:
    """That it was absent is known; what it said is not."""
    condition = Condition(header={"x-a": "1"})
    came = Call(id="1", operation=Operation.CHAT, alias="fast", headers={"x-a": "1"})
    did_not = replace(came, headers={})

    assert verdict(condition, came, kept(came), spoken=True) is None
    assert verdict(condition, did_not, kept(did_not), spoken=True) is False
