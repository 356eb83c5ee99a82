"""Reading completion requests."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.openai import completion_request
from hybrid_router.api.openai.completion_request import CompletionRequest
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter


def read(**fields: Any) -> CompletionRequest:
    """Read a minimal request with these fields set."""
    body = msgspec.json.encode({"model": "fast", "prompt": "Once", **fields})
    return completion_request.decode(body, call_id="cmpl-1", principal="me", headers={})


def refused(**fields: Any) -> CallRefused:
    """The refusal of such a request."""
    with pytest.raises(CallRefused) as caught:
        read(**fields)
    return caught.value


def test_a_minimal_request_is_a_call() -> None:
    """The answer is short unless asked otherwise, as with OpenAI: 16 tokens."""
    asked = read()

    assert asked.call.operation is Operation.COMPLETE
    assert asked.call.prompts == ("Once",)
    assert asked.call.sampling.max_tokens == 16
    assert not asked.echo
    assert read(max_tokens=500).call.sampling.max_tokens == 500
    assert read(max_tokens=0).call.sampling.max_tokens == 0
    assert refused(max_tokens=-2).param == "max_tokens"


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("", ("",)),
        (["a", ""], ("a", "")),
        ([1, 2, 3], ((1, 2, 3),)),
        ([[1], [2, 3]], ((1,), (2, 3))),
        ([[1], "a", [2, 3]], ((1,), "a", (2, 3))),
    ],
)
def test_prompts_take_five_forms(prompt: Any, prompts: tuple[Any, ...]) -> None:
    """A text, texts, tokens, lists of tokens, or texts and such lists."""
    call = read(prompt=prompt, n=2).call

    assert call.prompts == prompts
    assert call.choices_count == 2 * len(prompts)


@pytest.mark.parametrize(
    "prompt", [[], [[]], ["a", 1], [1, "a"], [[1], 2], [[1], []], [-1], [1.5], None, {}, ["a"] * 129]
)
def test_other_prompts_are_refused(prompt: Any) -> None:
    """Empty, mixed, negative: a 400 that points at the prompt."""
    param = refused(prompt=prompt).param

    assert param is not None
    assert param.startswith("prompt")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 2}, "best_of"),
        ({"echo": True, "prompt": [1, 2]}, "echo"),
    ],
)
def test_what_is_not_supported_is_named(fields: dict[str, Any], param: str) -> None:
    """Fields that would change the answer are refused, not ignored."""
    refusal = refused(**fields)

    assert isinstance(refusal, UnsupportedParameter)
    assert refusal.param == param


def test_harmless_values_of_such_fields_are_fine() -> None:
    """`best_of` up to `n` and an empty suffix ask for nothing special."""
    call = read(best_of=2, n=2, suffix="").call

    assert call.n == 2
    assert call.extra == {}


def test_choices_are_bounded() -> None:
    """`n` times the prompts has a limit."""
    assert refused(prompt=["a"] * 100, n=100).param == "n"


def test_logprobs_are_a_feature() -> None:
    """A step that cannot give them is left out of the plan."""
    assert read(logprobs=2).call.features == {Feature.LOGPROBS}
    assert read(logprobs=2).call.top_logprobs == 2
    assert read().call.top_logprobs is None
    assert read(logprobs=True).call.top_logprobs == 1
    assert read(logprobs=False).call == read().call
    assert read().call.features == frozenset()
    assert refused(logprobs=6).param == "logprobs"


def test_a_suffix_is_infill() -> None:
    """What follows the wanted text is part of the call, for steps that know how."""
    call = read(suffix="return x").call

    assert call.suffix == "return x"
    assert call.features == {Feature.INFILL}
    assert read(suffix="").call.suffix is None


def test_a_prompt_is_scored_only_if_both_are_asked_for() -> None:
    """`echo` alone repeats the prompt here; with `logprobs` the model has to score it, token ids too."""
    assert (read(echo=True).echo, read(echo=True).call.echo) == (True, False)
    assert read(echo=True, logprobs=0).call.echo
    assert read(echo=True, logprobs=0, prompt=[1, 2]).echo
    assert not read(logprobs=0).call.echo


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-2, 2**33)
        | st.text(st.characters(codec="utf-8"), max_size=4),
        lambda inner: st.lists(inner, max_size=4),
        max_leaves=8,
    )
)
def test_any_prompt_is_read_or_refused(prompt: Any) -> None:
    """For arbitrary JSON as prompt: texts and lists of tokens, or a `CallRefused`."""
    try:
        prompts = read(prompt=prompt).call.prompts
    except CallRefused:
        return
    assert prompts
    assert all(isinstance(item, str) or (item and type(item) is tuple) for item in prompts)
