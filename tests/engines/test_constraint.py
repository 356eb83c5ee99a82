"""Answers within forms: always valid, whatever tokens a model would choose.  No model writes here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from random_schemas import Babbler, random_schema

from hybrid_router.engines.llama.constraint import Constraints, FormConstraint
from hybrid_router.engines.llama.seams import Form
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import Offload
from hybrid_router.engines.task import PREFILL_REFUSED, TaskRefused

pytestmark = pytest.mark.model
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer", "minimum": 0}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def weights(model_path: Path) -> Iterator[Weights]:
    """The starter model's vocabulary alone."""
    opened = Weights(str(model_path), Offload(), vocabulary_only=True)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def constraints(weights: Weights) -> Constraints:
    return Constraints(weights)


@pytest.fixture(scope="module")
def babbler(weights: Weights) -> Babbler:
    return Babbler(weights, seed=1)


def allowed(constraint: FormConstraint, weights: Weights) -> set[int]:
    """The tokens that may come next."""
    logits = np.zeros(weights.vocabulary_count, np.float32)
    constraint.restrict(logits)
    return set(np.flatnonzero(np.isfinite(logits)).tolist())


def refusal(constraints: Constraints, kind: Any, source: Any, written: str = "") -> TaskRefused:
    with pytest.raises(TaskRefused) as caught:
        constraints.compile(Form(kind, source), written)
    return caught.value


@pytest.mark.parametrize("part", range(5))
def test_answers_of_500_random_schemas_are_valid(
    constraints: Constraints, babbler: Babbler, part: int
) -> None:
    """Whatever a schema demands, every answer is valid; nearly all of these schemas can be enforced."""
    refused = 0
    for seed in range(100 * part, 100 * (part + 1)):
        schema = random_schema(seed)
        try:
            constraint = constraints.compile(Form("json_schema", schema))
        except TaskRefused:
            refused += 1
            continue
        answer = babbler.text(babbler.again(seed).write(constraint))
        Draft202012Validator(schema).validate(json.loads(answer))
    assert refused <= 10


def test_any_beginning_is_continued_validly(constraints: Constraints, babbler: Babbler) -> None:
    """Cut behind any character, an answer goes on within its form, and what comes out is whole and valid."""
    form = Form("json_schema", PERSON)
    answer = babbler.text(babbler.again(1).write(constraints.compile(form)))
    for cut in range(len(answer) + 1):
        rest = babbler.write(constraints.compile(form, answer[:cut]))
        whole = answer[:cut] + babbler.text(rest)
        Draft202012Validator(PERSON).validate(json.loads(whole))


@settings(max_examples=60)
@given(seed=st.integers(1000, 2000), share=st.floats(0, 1))
def test_a_broken_answer_of_any_schema_goes_on(
    constraints: Constraints, babbler: Babbler, seed: int, share: float
) -> None:
    """For any schema and any place where a stream may break, the whole answer is valid."""
    schema = random_schema(seed)
    form = Form("json_schema", schema)
    try:
        answer = babbler.text(babbler.again(seed).write(constraints.compile(form)))
    except TaskRefused:
        return
    written = answer[: int(share * len(answer))]
    whole = written + babbler.text(babbler.write(constraints.compile(form, written)))
    Draft202012Validator(schema).validate(json.loads(whole))


@pytest.mark.parametrize(
    "pattern",
    [
        r"\d{4}-\d{2}-\d{2}",
        r"(yes|no|maybe)",
        r"[a-z]+@[a-z]+\.(com|org)",
        r"[^\n]{5,20}!",
        r"^\p{Lu}\w* (?i:hello)$",
        r"(.*\n){2}end",
    ],
)
def test_answers_match_their_expression(constraints: Constraints, babbler: Babbler, pattern: str) -> None:
    """The whole answer matches, from its first character to its last."""
    babbler.again(1)
    for _ in range(10):
        answer = babbler.text(
            babbler.write(
                constraints.compile(Form("regex", pattern)),
                (b"@", b"!", b"\n", b" ", b".", b"hello", b"com", b"end"),
            )
        )
        assert re.fullmatch(pattern.replace(r"\p{Lu}", "[^\\W\\d_]"), answer), answer


def test_declared_properties_cannot_come_again_in_disguise(constraints: Constraints) -> None:
    r"""A key written with \u escapes would be an additional one, of any type, and win when it is read."""
    form = Form("json_schema", {"type": "object", "properties": {"a": {"type": "integer"}}})
    constraints.compile(form, '{"a": 1, "b')
    assert refusal(constraints, "json_schema", form.source, '{"a": 1, "\\u0061').code == PREFILL_REFUSED
    assert refusal(constraints, "json_schema", form.source, '{"a": 1, "a"').code == PREFILL_REFUSED


def test_white_space_is_never_a_choice(constraints: Constraints, weights: Weights) -> None:
    """Between two things of a JSON answer stands what must stand there: no blanks for ever."""
    for written in ("", '{"name": "x"', '{"name": "x", "age": 7'):
        for token in allowed(constraints.compile(Form("json_schema", PERSON), written), weights):
            assert weights.ends(token) or weights.piece(token).strip()


@pytest.mark.parametrize(
    "written", ['{"name":"x","a', '{\n  "name": "x",\n  "a', '{"name":"x" ,\t"a', "{\r\n"]
)
def test_beginnings_in_another_hand_are_continued(
    constraints: Constraints, babbler: Babbler, written: str
) -> None:
    """Another backend may have begun with no white space or with much; more than so much is nobody's."""
    form = Form("json_schema", PERSON)
    whole = written + babbler.again(5).text(babbler.write(constraints.compile(form, written)))
    Draft202012Validator(PERSON).validate(json.loads(whole))
    assert refusal(constraints, "json_schema", PERSON, "{" + " " * 41).code == PREFILL_REFUSED


def test_the_end_comes_only_where_the_form_allows_it(constraints: Constraints, weights: Weights) -> None:
    """A token that ends answers is allowed exactly where the answer is one of the form."""
    ends = {t for t in range(weights.vocabulary_count) if weights.ends(t)}
    form = Form("regex", "[a-z]{2,4}")
    for text, may_end in (("", False), ("a", False), ("ab", True), ("abc", True)):
        constraint = constraints.compile(form, text)
        assert constraint.may_end is may_end
        assert (ends & allowed(constraint, weights)) == (ends if may_end else set())
        assert not constraint.complete


def test_a_whole_answer_is_complete(constraints: Constraints) -> None:
    """Where nothing can follow, the engine need not ask the model for its end."""
    assert constraints.compile(Form("regex", "[a-z]{2,4}"), "abcd").complete
    assert constraints.compile(Form("json_schema", PERSON), '{"name": "x", "age": 7}').complete
    assert not constraints.compile(Form("json_schema", PERSON), '{"name": "x", "age": 7').complete
    assert not constraints.compile(Form("json_schema", {"type": "integer"}), "12").complete


def test_forced_tokens_are_the_only_way(constraints: Constraints, weights: Weights) -> None:
    """Each forced token is accepted, and nothing that is not a beginning of what is forced is allowed."""
    constraint = constraints.compile(Form("json_schema", PERSON))
    for _ in range(2):
        forced = constraint.forced()
        text = b"".join(map(weights.piece, forced))
        assert b'{"name":'.startswith(text) or b'", "age":'.startswith(text)
        assert text
        for token in forced:
            pieces = {weights.piece(t) for t in allowed(constraint, weights)}
            assert all(text.startswith(piece) for piece in pieces)
            constraint.accept(token)
            text = text[len(weights.piece(token)) :]
        if not constraint.forced():
            break
    constraint = constraints.compile(Form("json_schema", PERSON), '{"name": "x"')
    assert b"".join(map(weights.piece, constraint.forced())).startswith(b', "age')
    assert constraints.compile(Form("regex", "[a-z]+")).forced() == []
    assert len(constraints.compile(Form("regex", "(ab){500}")).forced()) <= 64


def test_forks_go_their_own_ways(constraints: Constraints, babbler: Babbler, weights: Weights) -> None:
    """What one choice writes changes nothing for the others, nor for later calls of the same form."""
    form = Form("json_schema", PERSON)
    babbler.again(1)
    first = constraints.compile(form, '{"name": "')
    before = allowed(first, weights)
    forks = [first.fork() for _ in range(4)]
    answers = ['{"name": "' + babbler.text(babbler.write(fork)) for fork in forks]
    assert len(set(answers)) == 4
    for answer in answers:
        Draft202012Validator(PERSON).validate(json.loads(answer))
    assert allowed(first, weights) == before
    assert allowed(constraints.compile(form), weights) == allowed(constraints.compile(form), weights)
    assert not constraints.compile(form).complete


def test_a_token_that_was_not_allowed_is_an_error(constraints: Constraints, weights: Weights) -> None:
    """An engine that goes astray hears of it, and the child lives on."""
    constraint = constraints.compile(Form("json_schema", PERSON))
    with pytest.raises(TaskRefused, match="left its form") as caught:
        constraint.accept(weights.tokenize("hello", add_special=False)[0])
    assert not caught.value.by_call


def test_special_tokens_are_never_part_of_text(constraints: Constraints, weights: Weights) -> None:
    """A form that allows any text allows only tokens that show some, and the end."""
    for token in allowed(constraints.compile(Form("regex", r"(?s:.*)")), weights):
        assert weights.piece(token) or weights.ends(token)


def test_grammars_can_demand_special_tokens(constraints: Constraints, weights: Weights) -> None:
    """`terminal` names a special token where there is one, and text where there is none."""
    start = weights.tokenize("<|im_start|>", add_special=False)[0]
    grammar = f"start: {constraints.terminal('<|im_start|>')} {constraints.terminal('<tool_call>')}"
    constraint = constraints.compile(Form("lark", grammar))
    assert allowed(constraint, weights) == {start}
    constraint.accept(start)
    assert b"<tool_call>".startswith(b"".join(map(weights.piece, constraint.forced()[:1])))


@pytest.mark.parametrize(
    ("kind", "source", "says"),
    [
        ("regex", "a[b", "unclosed character class"),
        ("regex", r"(?=a)b", "look-around"),
        ("regex", "(a{1000}){1000}", "repetitions"),
        ("regex", 7, "a regex is a text"),
        ("regex", "a" * 300_000, "256 KiB"),
        ("regex", "\ud800", "surrogate"),
        ("lark", "start: foo", 'at 1(8): unknown name: "foo"'),
        ("lark", 'start: "a"{9999999}', "more than 5000 times"),
        (
            "lark",
            "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(3000)) + 'r3000: "x"',
            "1000 rules",
        ),
        ("lark", 'start: A\nA: B{1000}\nB: C{1000}\nC: "a"{1000}', "too long to enforce"),
        ("json_schema", {"type": "widget"}, "Invalid type: widget"),
        ("json_schema", {"type": "string", "pattern": "["}, "unclosed character class"),
        ("json_schema", {"type": "integer", "minimum": 3, "maximum": 2}, "cannot be enforced"),
        ("json_schema", {"oneOf": [{"type": "number"}, {"type": "integer"}]}, "oneOf"),
        ("json_schema", {"enum": [f"value {i}" for i in range(30_000)]}, "256 KiB"),
    ],
)
def test_what_cannot_be_enforced_is_refused(
    constraints: Constraints, kind: str, source: Any, says: str
) -> None:
    """The call is told what is wrong with its form, in one short line, without the library's innards."""
    refused = refusal(constraints, kind, source)
    assert refused.by_call
    assert refused.code == "invalid_request_error"
    assert says in refused.message
    assert "\n" not in refused.message
    assert len(refused.message) < 320


def test_long_chains_of_references_do_not_end_the_process(constraints: Constraints) -> None:
    """Schemas that refer to each other 4,000 deep are compiled or refused; the library alone would crash."""
    chain: dict[str, Any] = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(2400)}
    lists = {f"d{i}": {"type": "array", "items": {"$ref": f"#/$defs/d{i + 1}"}} for i in range(2400)}
    for definitions in (chain, lists):
        schema = {"$ref": "#/$defs/d0", "$defs": {**definitions, "d2400": {"type": "integer"}}}
        constraints.compile(Form("json_schema", schema))


def test_ambiguous_grammars_end_their_own_task_only(constraints: Constraints, weights: Weights) -> None:
    """A grammar that grows without bound as it is followed is refused while it runs; others go on."""
    ambiguous = "start: x\nx: " + " ".join(["y?"] * 60) + "\ny: /[ab]/ | /[a-c]/ | y y"
    constraint = constraints.compile(Form("lark", ambiguous))
    token = weights.tokenize("a", add_special=False)[0]

    def follow() -> None:
        for _ in range(200):
            allowed(constraint, weights)
            constraint.accept(token)

    with pytest.raises(TaskRefused) as caught:
        follow()
    assert caught.value.by_call
    assert constraints.compile(Form("json_schema", PERSON)).forced()


def test_the_vocabulary_is_read_when_first_needed_and_forms_are_kept(weights: Weights) -> None:
    """A model that never gets a form pays nothing; a form that comes again is not compiled again."""
    constraints = Constraints(weights)
    assert constraints._tokenizer is None
    for _ in range(2):
        for number in range(40):
            constraints.compile(Form("regex", f"{number}"))
    assert len(constraints._compiled) == 32
    assert constraints.tokenizer is constraints.tokenizer
