"""The real starter model within forms: 135 million parameters, valid JSON every time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from hybrid_router.engines.llama.constraint import Constraints
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.seams import Form
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings, Offload

pytestmark = pytest.mark.model
SHORT = {"type": "string", "maxLength": 12}
CITY = {"type": "object", "properties": {"city": SHORT}, "required": ["city"], "additionalProperties": False}


def record(**properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


SCHEMAS: list[dict[str, Any]] = [
    CITY,
    record(name=SHORT, age={"type": "integer", "minimum": 1, "maximum": 120}),
    record(sentiment={"enum": ["positive", "neutral", "negative"]}, sure={"type": "boolean"}),
    record(id={"type": "string", "format": "uuid"}),
    record(on={"type": "string", "format": "date"}, at={"type": "string", "format": "ipv4"}),
    record(price={"type": "number", "exclusiveMinimum": 0, "maximum": 10}),
    record(zip={"type": "string", "pattern": "^[A-Z]{2}-[0-9]{4}$"}),
    record(tags={"type": "array", "items": SHORT, "minItems": 2, "maxItems": 3}),
    record(home=CITY, work={"anyOf": [CITY, {"type": "null"}]}),
    {"type": "array", "prefixItems": [SHORT, {"type": "integer"}], "items": False, "minItems": 2},
    {"oneOf": [record(kind={"const": "a"}, a=SHORT), record(kind={"const": "b"}, b={"type": "boolean"})]},
    {"$ref": "#/$defs/node", "$defs": {"node": record(value={"enum": [1, 2]}, last={"type": "boolean"})}},
    {"type": "object", "additionalProperties": {"type": "boolean"}, "minProperties": 1, "maxProperties": 2},
    {"allOf": [{"properties": {"x": {"type": "integer"}}}, record(x={"multipleOf": 5, "maximum": 95})]},
    {"enum": ["red", {"green": [1, None]}, 3.5]},
]  # fmt: skip


@dataclass
class Model:
    """A plain loop around the model: one sequence, one token a step, or all that are forced."""

    weights: Weights
    context: Context
    constraints: Constraints

    def write(self, asked: str, form: Form, temperature: float, most_tokens: int = 160) -> str:
        constraint = self.constraints.compile(form)
        self.context.forget(0)
        next_tokens = self.weights.tokenize(f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n")
        dice, written, at = np.random.default_rng(11), b"", 0
        for _ in range(most_tokens):
            last = len(next_tokens) - 1
            self.context.decode([(t, at + i, 0, i == last) for i, t in enumerate(next_tokens)])
            at += len(next_tokens)
            logits = self.context.logits(last)
            constraint.restrict(logits)
            chances = logits / temperature + dice.gumbel(size=len(logits)) if temperature else logits
            token = int(chances.argmax())
            if self.weights.ends(token):
                return written.decode()
            constraint.accept(token)
            next_tokens = [token]
            for token in constraint.forced():
                constraint.accept(token)
                next_tokens.append(token)
            written += b"".join(map(self.weights.piece, next_tokens))
            if constraint.complete:
                return written.decode()
        pytest.fail(f"no end: {written.decode('utf-8', 'replace')}")


@pytest.fixture(scope="module")
def model(model_settings: LlamaSettings) -> Iterator[Model]:
    weights = Weights(model_settings.path, Offload())
    context = Context(weights, model_settings, cells_count=512, sequences_count=1, batch_count=512)
    yield Model(weights, context, Constraints(weights))
    context.close()
    weights.close()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.timeout(60)
def test_a_small_model_writes_valid_answers(model: Model, temperature: float) -> None:
    """Greedy or by chance, each answer is valid, and comes to its end by itself."""
    for schema in SCHEMAS:
        answer = model.write("Make up an example.", Form("json_schema", schema), temperature)
        Draft202012Validator(schema).validate(json.loads(answer))


def test_a_small_model_writes_an_object_an_expression_and_a_grammar(model: Model) -> None:
    """Forms other than schemas bind it as well."""
    pair = '{"type": "object", "maxProperties": 2, "additionalProperties": {"type": "boolean"}}'
    assert isinstance(json.loads(model.write("An object.", Form("json_schema", json.loads(pair)), 1)), dict)
    assert re.fullmatch(r"\d{1,2}:\d\d", model.write("What time is it?", Form("regex", r"\d{1,2}:\d\d"), 0))
    grammar = 'root ::= ("yes" | "no") ", " ("because" | "but") " " [a-z]{3,8} "."'
    said = model.write("Is water wet?", Form("gbnf", grammar), 1)
    assert re.fullmatch(r"(yes|no), (because|but) [a-z]{3,8}\.", said)
