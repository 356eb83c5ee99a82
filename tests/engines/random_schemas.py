"""Random JSON Schemas over the keywords that are enforced, mostly satisfiable, and random answers."""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from hybrid_router.engines.llama.constraint import FormConstraint
from hybrid_router.engines.llama.weights import Weights

NAMES = (
    "id",
    "name",
    "größe",
    "a b",
    "x/y",
    'q"uote',
    "back\\slash",
    "tab\there",
    "nested",
    "~tilde",
    "日付",
)
PATTERNS = (
    "^[A-Z]{2}-\\d{3}$",
    "^a+b?$",
    "^(foo|bar)",
    "^(?:[a-f0-9]{2}:){2}[a-f0-9]{2}$",
    "\\d",
    "^[^\\s@]+@x$",
)
FORMATS = (
    "date",
    "time",
    "date-time",
    "email",
    "ipv4",
    "ipv6",
    "uuid",
    "hostname",
    "duration",
    "uri",
    "int32",
)
LITERALS = ("red", "sehr grün", 'a"b', "", 0, -3, 2.5, True, None, [1, "x"], {"k": [None]})

Json: TypeAlias = dict[str, Any]
Flags: TypeAlias = NDArray[np.bool_]
MOST_TOKENS = 1500


def random_schema(seed: int) -> Json:
    """The schema of this number; now and then with definitions that refer to themselves."""
    dice = random.Random(seed)  # noqa: S311 - the same schemas each time
    schema = _any(dice, 3)
    if dice.random() < 0.2:
        schema = {"type": "object", "properties": {"value": schema, "next": {"$ref": "#/$defs/node"}}}
        node = {
            "anyOf": [{"type": "null"}, {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}]
        }
        schema["$defs"] = {"node": node}
    return schema


def _any(dice: random.Random, depth: int) -> Json:
    leaves: list[Callable[[random.Random], Json]] = [_string, _number, _integer, _literal, _plain]
    if depth == 0:
        return dice.choice(leaves)(dice)
    branches: list[Callable[[random.Random, int], Json]] = [_object, _object, _array, _union, _both]
    if dice.random() < 0.35:
        return dice.choice(leaves)(dice)
    return dice.choice(branches)(dice, depth - 1)


def _plain(dice: random.Random) -> Json:
    return dice.choice(
        ({}, {"type": ["string", "null"]}, {"type": "boolean"}, {"type": ["integer", "array"]})
    )


def _literal(dice: random.Random) -> Json:
    if dice.random() < 0.3:
        return {"const": dice.choice(LITERALS)}
    return {"enum": dice.sample(LITERALS, dice.randint(1, 5)), "title": "a choice"}


def _string(dice: random.Random) -> Json:
    match dice.randint(0, 3):
        case 0:
            return {"type": "string", "pattern": dice.choice(PATTERNS)}
        case 1:
            return {"type": "string", "format": dice.choice(FORMATS)}
        case 2:
            least = dice.randint(0, 4)
            return {"type": "string", "minLength": least, "maxLength": least + dice.randint(0, 9)}
        case _:
            return {"type": "string", "description": "anything"}


def _bounds(dice: random.Random, scale: float) -> Json:
    low = round(dice.uniform(-50, 50) * scale, 2)
    high = round(low + dice.uniform(2, 100) * scale, 2)
    return {
        dice.choice(("minimum", "exclusiveMinimum", "title")): low,
        dice.choice(("maximum", "exclusiveMaximum", "title")): high,
    }


def _number(dice: random.Random) -> Json:
    return {"type": "number", **_bounds(dice, dice.choice((1, 0.1, 1000))), "title": "a number"}


def _integer(dice: random.Random) -> Json:
    if dice.random() < 0.3:
        return {
            "type": "integer",
            "multipleOf": dice.choice((2, 3, 5, 7, 10)),
            "minimum": dice.randint(-9, 9),
        }
    return {"type": "integer", **_bounds(dice, 10), "title": "an integer"}


def _object(dice: random.Random, depth: int) -> Json:
    names = dice.sample(NAMES, dice.randint(0, 4))
    made: Json = {"type": "object", "properties": {name: _any(dice, depth) for name in names}}
    made["required"] = [name for name in names if dice.random() < 0.6]
    match dice.randint(0, 4):
        case 0 | 1:
            made["additionalProperties"] = False
        case 2:
            made["additionalProperties"] = _any(dice, 0)
        case 3:
            made["patternProperties"] = {"^p_[a-z]+$": _any(dice, 0)}
        case _:
            made["required"] = names
            made["minProperties"], made["maxProperties"] = len(names) + 1, len(names) + 3
    return made


def _array(dice: random.Random, depth: int) -> Json:
    least = dice.randint(0, 2)
    made: Json = {"type": "array", "items": _any(dice, depth), "uniqueItems": False}
    if dice.random() < 0.5:
        made |= {"minItems": least, "maxItems": least + dice.randint(0, 3)}
    if dice.random() < 0.3:
        made["prefixItems"] = [_any(dice, 0), _any(dice, 0)]
    return made


def _union(dice: random.Random, depth: int) -> Json:
    if dice.random() < 0.4:
        kinds = [
            {"type": "object", "properties": {"kind": {"const": k}}, "required": ["kind"]} for k in "abc"
        ]
        return {"oneOf": kinds}
    return {"anyOf": [_any(dice, depth) for _ in range(dice.randint(1, 3))]}


def _both(dice: random.Random, depth: int) -> Json:
    first, second = (
        {"type": "object", "properties": {name: _any(dice, depth)}, "required": [name]}
        for name in ("left", "right")
    )
    return {"allOf": [first, second], "type": "object"}


class Babbler:
    """Writes answers by chance: any token that is allowed, but with a mind to come to an end."""

    def __init__(self, weights: Weights, seed: int) -> None:
        count = weights.vocabulary_count
        self._weights = weights
        self._random = np.random.default_rng(seed)
        self._pieces = [weights.piece(token) for token in range(count)]
        self._words = np.array([not weights.ends(token) for token in range(count)])
        self._logits = np.zeros(count, np.float32)

    def write(
        self,
        constraint: FormConstraint,
        ending: tuple[bytes, ...] = (b"}]", b'"', b",: 0123456789", b"@", b".x"),
    ) -> list[int]:
        """Tokens of a whole answer; one all of whose characters are of one kind of `ending` is preferred.

        Fails where it cannot end, or where nothing is allowed though the answer is not complete.
        """
        preferred = [self._made_of(characters) for characters in ending]
        tokens: list[int] = []
        while not constraint.complete:
            if constraint.may_end and self._random.random() < 0.5:
                break
            assert len(tokens) < MOST_TOKENS, "no end in sight"
            freely = 0.3 if len(tokens) < MOST_TOKENS / 10 else 0.05
            tokens.append(self._choose(constraint, preferred if self._random.random() > freely else []))
            constraint.accept(tokens[-1])
        return tokens

    def again(self, seed: int) -> Babbler:
        """Begin anew, so that what is written depends on `seed` alone."""
        self._random = np.random.default_rng(seed)
        return self

    def _choose(self, constraint: FormConstraint, preferred: list[Flags]) -> int:
        self._logits[:] = 0
        constraint.restrict(self._logits)
        allowed = np.isfinite(self._logits) & self._words
        assert allowed.any(), "nothing can follow, and the answer is neither complete nor may it end"
        for kind in self._random.permutation(len(preferred)):
            if (both := preferred[kind] & allowed).any():
                return self._pick(both)
        return self._pick(allowed)

    def _pick(self, tokens: Flags) -> int:
        return int(self._random.choice(np.flatnonzero(tokens)))

    @lru_cache(maxsize=8)  # noqa: B019 - one for a test module
    def _made_of(self, characters: bytes) -> Flags:
        return np.array([bool(piece) and not piece.strip(characters) for piece in self._pieces])

    def text(self, tokens: list[int]) -> str:
        """What the client would see."""
        return b"".join(self._pieces[token] for token in tokens).decode("utf-8")
