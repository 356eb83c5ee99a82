"""Fields of chats and completions that come from llama-server and vLLM."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.openai import chat_request, completion_request
from hybrid_router.core.call import Adapter, Call, Feature, Sampling
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

GBNF = 'root ::= "yes" | "no"'
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
AS_SCHEMA = {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
BOTH = ("chat", "completion")


def read(kind: str, **fields: Any) -> Call:
    """A minimal chat or completion with these fields set."""
    if kind == "chat":
        body = {"model": "fast", "messages": [{"role": "user", "content": "hi"}], **fields}
        return chat_request.decode(msgspec.json.encode(body), call_id="c", principal="me", headers={}).call
    body = {"model": "fast", "prompt": "Once", **fields}
    return completion_request.decode(msgspec.json.encode(body), call_id="c", principal="me", headers={}).call


def refused(kind: str, **fields: Any) -> CallRefused:
    """The refusal of such a request."""
    with pytest.raises(CallRefused) as caught:
        read(kind, **fields)
    return caught.value


SAMPLERS: dict[str, tuple[Any, Any]] = {  # field → a value, one that it cannot have
    "typical_p": (0.9, 1.5),
    "repeat_last_n": (-1, -2),
    "dry_multiplier": (0.8, -0.1),
    "dry_base": (1.75, 0.5),
    "dry_allowed_length": (2, -1),
    "dry_penalty_last_n": (-1, "all"),
    "dry_sequence_breakers": (["\n", ":"], [""]),
    "xtc_probability": (0.5, 2),
    "xtc_threshold": (0.1, -1),
    "mirostat": (2, 3),
    "mirostat_tau": (5.0, -1),
    "mirostat_eta": (0.1, "x"),
    "ignore_eos": (True, "yes"),
}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_is_read_and_checked(kind: str, name: str) -> None:
    """By llama-server's name, within its range; a value outside it is a 400 that names the field."""
    value, wrong = SAMPLERS[name]
    expected = tuple(value) if isinstance(value, list) else value

    assert getattr(read(kind, **{name: value}).sampling, name) == expected
    assert getattr(read(kind, **{name: None}).sampling, name) == getattr(Sampling(), name)
    assert (refused(kind, **{name: wrong}).param or "").startswith(name)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("fields", "form", "feature"),
    [
        ({"grammar": GBNF}, {"type": "grammar", "grammar": GBNF}, Feature.GRAMMAR),
        (
            {"response_format": {"type": "grammar", "grammar": GBNF, "x": 1}},
            {"type": "grammar", "grammar": GBNF},
            Feature.GRAMMAR,
        ),
        ({"regex": "a+"}, {"type": "regex", "regex": "a+"}, Feature.GRAMMAR),
        ({"guided_regex": "a+"}, {"type": "regex", "regex": "a+"}, Feature.GRAMMAR),
        (
            {"response_format": {"type": "regex", "regex": "a+"}},
            {"type": "regex", "regex": "a+"},
            Feature.GRAMMAR,
        ),
        ({"json_schema": SCHEMA}, AS_SCHEMA, Feature.SCHEMA),
        ({"guided_json": SCHEMA}, AS_SCHEMA, Feature.SCHEMA),
        ({"guided_json": json.dumps(SCHEMA)}, AS_SCHEMA, Feature.SCHEMA),
        ({"guided_grammar": GBNF}, {"type": "grammar", "grammar": GBNF}, Feature.GRAMMAR),
        ({"guided_choice": ["a.b", "(c)"]}, {"type": "regex", "regex": r"a\.b|\(c\)"}, Feature.GRAMMAR),
        ({"structured_outputs": {"json": SCHEMA}}, AS_SCHEMA, Feature.SCHEMA),
        ({"structured_outputs": {"json": json.dumps(SCHEMA)}}, AS_SCHEMA, Feature.SCHEMA),
        ({"structured_outputs": {"regex": "a+"}}, {"type": "regex", "regex": "a+"}, Feature.GRAMMAR),
        ({"structured_outputs": {"choice": ["a"]}}, {"type": "regex", "regex": "a"}, Feature.GRAMMAR),
        ({"structured_outputs": {"grammar": GBNF}}, {"type": "grammar", "grammar": GBNF}, Feature.GRAMMAR),
        (
            {
                "structured_outputs": {
                    "json_object": True,
                    "disable_any_whitespace": False,
                    "disable_fallback": True,
                }
            },
            {"type": "json_object"},
            Feature.SCHEMA,
        ),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, AS_SCHEMA, Feature.SCHEMA),
        ({"response_format": {"type": "json_object"}}, {"type": "json_object"}, Feature.SCHEMA),
    ],
)
def test_a_form_has_many_names(
    kind: str, fields: dict[str, Any], form: dict[str, Any], feature: Feature
) -> None:
    """Whatever a client calls it, a call's form is one `response_format`, and a feature that steps need."""
    call = read(kind, **fields)

    assert (call.response_format, call.extra) == (form, {})
    assert call.features == {feature}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"structured_outputs": {"grammar": ""}}, "structured_outputs.grammar"),
        ({"response_format": {"type": "grammar", "grammar": ""}}, "response_format.grammar"),
        ({"grammar": 1}, "grammar"),
        ({"regex": ""}, "regex"),
        ({"regex": "a" * 8193}, "regex"),
        ({"json_schema": "{}"}, "json_schema"),
        ({"grammar": GBNF, "regex": "a"}, "regex"),
        ({"response_format": {"type": "json_object"}, "grammar": GBNF}, "grammar"),
        ({"response_format": {"type": "grammar"}}, "response_format.grammar"),
        ({"response_format": {"type": "regex", "regex": 1}}, "response_format.regex"),
        ({"response_format": {"type": "json_object", "schema": 1}}, "response_format.schema"),
        ({"response_format": {"type": ["text"]}}, "response_format.type"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "[1]"}, "guided_json"),
        ({"guided_json": '{"a":' * 400 + "{}" + "}" * 400}, "guided_json"),
        ({"guided_json": '{"a":' * 9999 + "{}" + "}" * 9999}, "guided_json"),
        ({"guided_choice": []}, "guided_choice"),
        ({"guided_choice": [""]}, "guided_choice[0]"),
        ({"guided_choice": ["a" * 3000, "b" * 1096]}, "guided_choice"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs.choice"),
        ({"structured_outputs": {"json": "x"}}, "structured_outputs.json"),
        (
            {"guided_regex": "a", "structured_outputs": {"json_object": True}},
            "structured_outputs.json_object",
        ),
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
    ],
)
def test_a_wrong_form_is_refused_by_name(kind: str, fields: dict[str, Any], param: str) -> None:
    """Forms that are none, too long, or two at once."""
    assert refused(kind, **fields).param == param


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": SCHEMA, "guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern"),
        ({"grammar": GBNF, "grammar_lazy": True}, "grammar_lazy"),
        ({"grammar": GBNF, "grammar_triggers": [{"type": 0, "value": "x"}]}, "grammar_triggers"),
        ({"structured_outputs": {"structural_tag": "{}"}}, "structured_outputs.structural_tag"),
        (
            {"structured_outputs": {"json": SCHEMA, "whitespace_pattern": " "}},
            "structured_outputs.whitespace_pattern",
        ),
        (
            {"structured_outputs": {"json": SCHEMA, "disable_additional_properties": True}},
            "structured_outputs.disable_additional_properties",
        ),
        (
            {"structured_outputs": {"json": SCHEMA, "disable_any_whitespace": True}},
            "structured_outputs.disable_any_whitespace",
        ),
        ({"structured_outputs": {"regex": "a", "sideways": 1}}, "structured_outputs"),
    ],
)
def test_what_would_change_a_form_is_never_ignored(kind: str, fields: dict[str, Any], param: str) -> None:
    """Other servers' ways of keeping to a form that are not known here are refused by name."""
    refusal = refused(kind, **fields)

    assert refusal.param == param
    assert param.rpartition(".")[2] in refusal.message


@pytest.mark.parametrize("kind", BOTH)
def test_harmless_values_beside_a_form_are_fine(kind: str) -> None:
    """What asks for nothing, or for what is done anyway."""
    outputs = {"regex": "a", "disable_fallback": True, "disable_additional_properties": False}
    call = read(kind, structured_outputs=outputs, grammar_lazy=False, grammar_triggers=[], cache_prompt=True)

    assert (call.response_format, call.extra) == ({"type": "regex", "regex": "a"}, {})
    assert read(kind, structured_outputs={}).response_format is None
    assert read(kind, cache_prompt=False).extra == {"cache_prompt": False}


@pytest.mark.parametrize("choices", [["a" * 4096], ["a" * 3000, "b" * 1095]])
def test_choices_may_fill_their_room(choices: list[str]) -> None:
    """All of it; only what separates them counts beside them."""
    form = read("chat", guided_choice=choices).response_format

    assert form == {"type": "regex", "regex": "|".join(choices)}


def test_two_forms_are_named_both() -> None:
    """So that the client knows which to leave out."""
    message = refused("chat", guided_regex="a", structured_outputs={"choice": ["a"]}).message

    assert message == "structured_outputs.choice: not together with guided_regex"


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=5))
def test_choices_are_taken_at_their_word(choices: list[str]) -> None:
    """Whatever they are made of: each of them matches as a whole, and nothing else of theirs does."""
    form = read("chat", guided_choice=choices).response_format
    assert form is not None
    pattern = re.compile(form["regex"], re.DOTALL)

    for text in [*choices, *(one + other for one in choices for other in choices), ""]:
        assert bool(pattern.fullmatch(text)) == (text in choices)


@pytest.mark.parametrize(
    ("kind", "fields", "most"),
    [
        ("chat", {"n_predict": 5}, 5),
        ("chat", {"n_predict": -1}, None),
        ("chat", {"n_predict": 5, "max_tokens": 5}, 5),
        ("chat", {"n_predict": 5, "max_completion_tokens": 5, "max_tokens": 9}, 5),
        ("chat", {}, None),
        ("chat", {"max_tokens": -1}, None),
        ("chat", {"max_completion_tokens": -1, "max_tokens": 9}, None),
        ("chat", {"max_tokens": -1, "n_predict": -1}, None),
        ("completion", {"max_tokens": -1}, None),
        ("completion", {"max_tokens": 0}, 0),
        ("completion", {"n_predict": 5}, 5),
        ("completion", {"n_predict": 0}, 0),
        ("completion", {"n_predict": -1}, None),
        ("completion", {}, 16),
    ],
)
def test_the_limit_is_as_clients_of_local_servers_write_it(
    kind: str, fields: dict[str, int], most: int | None
) -> None:
    """`n_predict` is `max_tokens`; -1 in either lets the answer be as long as it gets."""
    call = read(kind, **fields)

    assert (call.sampling.max_tokens, call.extra) == (most, {})


@pytest.mark.parametrize("kind", BOTH)
def test_two_limits_are_refused(kind: str) -> None:
    """Of two that differ nobody knows which is meant; none is below -1, and a chat's is not 0."""
    assert (
        refused(kind, n_predict=5, max_tokens=6).message == "n_predict: not together with another max_tokens"
    )
    assert refused(kind, n_predict=-1, max_tokens=6).param == "n_predict"
    assert refused(kind, n_predict=-2).param == "n_predict"
    assert refused("chat", n_predict=0).param == "n_predict"


@pytest.mark.parametrize("kind", BOTH)
def test_a_whole_number_may_have_a_point(kind: str) -> None:
    """2.0 is 2 where a whole number is wanted, and stays what it is where any JSON goes."""
    asked = {"max_tokens": 2.0, "n": 1.0, "seed": -3.0, "temperature": 1.0, "unknown": {"deep": 2.0}}
    sampling = read(kind, **asked).sampling

    assert (sampling.max_tokens, sampling.seed, sampling.temperature) == (2, -3, 1.0)
    assert read(kind, **asked).extra == {"unknown": {"deep": 2.0}}


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    "fields", [{"stop": ""}, {"stop": []}, {"grammar": ""}, {"guided_grammar": ""}, {"logit_bias": []}]
)
def test_an_empty_field_is_none(kind: str, fields: dict[str, Any]) -> None:
    """Clients that send every field of theirs leave those empty that nobody filled in."""
    assert read(kind, **fields) == read(kind)
    assert read(kind, **fields, regex="a").response_format == {"type": "regex", "regex": "a"}


@pytest.mark.parametrize("kind", BOTH)
def test_a_bias_may_be_written_as_pairs(kind: str) -> None:
    """As llama-server has it: `false` bans a token as OpenAI's -100 does."""
    assert read(kind, logit_bias=[[5, 1.5], [6, -2], [7, False]]).sampling.logit_bias == {
        5: 1.5,
        6: -2.0,
        7: -100.0,
    }


def test_a_text_form_beside_a_grammar_is_no_second_one() -> None:
    """`response_format: text` asks for nothing."""
    call = read("chat", response_format={"type": "text"}, grammar=GBNF)

    assert call.response_format == {"type": "grammar", "grammar": GBNF}


def test_tools_and_grammars_do_not_go_together() -> None:
    """A tool's call is written in the model's own form; a schema for the rest is fine."""
    assert refused("chat", tools=[TOOL], grammar=GBNF).param == "grammar"
    assert refused("chat", tools=[TOOL], regex="a").param == "regex"
    assert refused("chat", tools=[TOOL], guided_choice=["a"]).param == "guided_choice"
    assert (
        refused("chat", tools=[TOOL], response_format={"type": "regex", "regex": "a"}).param
        == "response_format"
    )
    assert read("chat", tools=[TOOL], tool_choice="none", grammar=GBNF).features == {Feature.GRAMMAR}
    assert read("chat", tools=[TOOL], json_schema=SCHEMA).features == {Feature.TOOLS, Feature.SCHEMA}


@pytest.mark.parametrize("kind", BOTH)
def test_adapters_are_chosen_by_name(kind: str) -> None:
    """`lora` names adapters, with a scale; none named is none asked for."""
    call = read(kind, lora=[{"name": "polite", "scale": 0.5}, {"name": "terse"}])

    assert call.adapters == (Adapter("polite", 0.5), Adapter("terse", 1.0))
    assert call.features == {Feature.ADAPTERS}
    assert read(kind, lora=[]).features == frozenset()


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize(
    ("lora", "param"),
    [
        ([{"id": 0, "scale": 1.0}], "lora[0].id"),
        ([{"name": "a"}, {"name": "b", "path": "/etc/passwd"}], "lora[1].path"),
        ([{"scale": 1.0}], "lora[0].name"),
        ([{"name": "a"}, {"name": "a"}], "lora"),
        ([{"name": "a", "scale": 1e9}], "lora[0].scale"),
        ([{"name": ""}], "lora[0].name"),
        ([{"name": f"a{i}"} for i in range(9)], "lora"),
        ("polite", "lora"),
    ],
)
def test_wrong_adapters_are_refused_by_name(kind: str, lora: Any, param: str) -> None:
    """Numbers and paths would let a client choose files; the rest are slips."""
    assert refused(kind, lora=lora).param == param


@pytest.mark.parametrize("kind", BOTH)
def test_truncation_is_only_as_asked(kind: str) -> None:
    """Two ways of cutting a prompt that is too long; any other word is refused."""
    assert read(kind, truncate="middle").truncate == "middle"
    assert read(kind).truncate is None
    assert refused(kind, truncate=True).param == "truncate"


def test_parallel_tool_calls_belong_to_tools() -> None:
    """The wish is kept where tools can be called, and means nothing elsewhere."""
    assert read("chat", tools=[TOOL], parallel_tool_calls=False).parallel_tool_calls is False
    assert read("chat", parallel_tool_calls=False).parallel_tool_calls is None
    assert refused("chat", tools=[TOOL], parallel_tool_calls="no").param == "parallel_tool_calls"


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ({"reasoning_budget": 100}, 100),
        ({"thinking_budget_tokens": 0}, 0),
        ({"reasoning_budget": 5, "thinking_budget_tokens": 9}, 5),
        ({"reasoning_budget": -1}, None),
        ({}, None),
    ],
)
def test_reasoning_has_a_budget(fields: dict[str, Any], tokens: int | None) -> None:
    """Two names, the first counts; -1 is none."""
    assert read("chat", **fields).reasoning_tokens == tokens


def test_reasoning_words_are_checked() -> None:
    """OpenAI's efforts are known, and nothing else."""
    assert read("chat", reasoning_effort="minimal").reasoning_effort == "minimal"
    assert refused("chat", reasoning_effort="huge").param == "reasoning_effort"
    assert refused("chat", reasoning_budget=-2).param == "reasoning_budget"


def test_template_values_are_plain() -> None:
    """Texts, numbers and truth values reach the template; null is not set."""
    values = {"enable_thinking": False, "style": "terse", "depth": 3, "gone": None}

    assert read("chat", chat_template_kwargs=values).template_values == {
        "enable_thinking": False,
        "style": "terse",
        "depth": 3,
    }


@pytest.mark.parametrize(
    ("values", "param"),
    [
        ({"a": [1]}, "chat_template_kwargs.a"),
        ({"a": {}}, "chat_template_kwargs.a"),
        ({"a": "x" * 1025}, "chat_template_kwargs.a"),
        ({"messages": "x"}, "chat_template_kwargs.messages"),
        ({"add_generation_prompt": False}, "chat_template_kwargs.add_generation_prompt"),
        ({"a b": 1}, "chat_template_kwargs"),
        ({f"a{i}": 1 for i in range(33)}, "chat_template_kwargs"),
        ([1], "chat_template_kwargs"),
    ],
)
def test_other_template_values_are_refused_by_name(values: Any, param: str) -> None:
    """Nothing nested, nothing long, and nothing that the router itself gives a template."""
    assert refused("chat", chat_template_kwargs=values).param == param


def test_token_scores_are_part_of_the_call() -> None:
    """`logprobs` alone asks for the tokens' own; `top_logprobs` for others beside them."""
    assert read("chat", logprobs=True).top_logprobs == 0
    assert read("chat", logprobs=True, top_logprobs=5).top_logprobs == 5
    assert read("chat").top_logprobs is None
    assert read("chat", logprobs=True, top_logprobs=5).extra == {}


def test_choices_are_not_compared() -> None:
    """`best_of` above `n` would need answers that are thrown away: it is refused."""
    assert isinstance(refused("completion", best_of=3, n=2), UnsupportedParameter)
    assert read("completion", best_of=2, n=2).n == 2
