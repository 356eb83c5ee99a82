"""The grammar part: llguidance beside llama.cpp's own grammar, on schemas as people write them.

Both are driven by the same chance instead of a model: at each place a token of those allowed, mostly one that
leads to an end.  So what is timed is the constraint alone, and both write about the same texts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import fmean, median
from typing import Any, Protocol

import jsonschema
import llama_cpp as llama
import msgspec
import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf
from msgspec import Struct, field
from numpy.typing import NDArray

from bench.grammar_schemas import realistic_schemas
from bench.routing_report import Block
from hybrid_router.engines.llama.constraint import Constraints, FormConstraint
from hybrid_router.engines.llama.seams import Form
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import Offload
from hybrid_router.engines.task import TaskRefused

_MODEL = Path("models/SmolLM2-135M-Instruct.Q4_1.gguf")
_SCHEMAS_COUNT = 300
_MOST_TOKENS = 250
_ENDINGS = (b"}]", b'"', b",: 0123456789", b"@")


class Row(Struct, kw_only=True):
    """One library."""

    library: str
    schemas_count: int
    compiled_count: int = 0
    ended_count: int = 0
    valid_count: int = 0
    compile_s: list[float] = field(default_factory=list)
    token_s: list[float] = field(default_factory=list)


class Grammars(Struct, kw_only=True):
    """The whole part."""

    rows: list[Row]
    vocabulary_s: float
    vocabulary_count: int


class _Bound(Protocol):
    """A constraint on one answer, of either library."""

    def restrict(self, logits: NDArray[np.float32]) -> None: ...

    def accept(self, token: int) -> None: ...

    def may_end(self, logits: NDArray[np.float32]) -> bool: ...

    def close(self) -> None: ...


def measure(say: Callable[[str], None]) -> Grammars:
    """Both libraries on the same schemas."""
    weights = Weights(str(_MODEL), Offload(), vocabulary_only=True)
    constraints = Constraints(weights)
    begun_s = time.perf_counter()
    _ = constraints.tokenizer
    found = Grammars(
        rows=[], vocabulary_s=time.perf_counter() - begun_s, vocabulary_count=weights.vocabulary_count
    )
    ways: dict[str, Callable[[Any], _Bound | None]] = {
        "llguidance": lambda schema: _guided(constraints, schema, weights),
        "llama.cpp": lambda schema: _own(weights, schema),
    }
    schemas = realistic_schemas(_SCHEMAS_COUNT)
    for library, compiled in ways.items():
        row = Row(library=library, schemas_count=len(schemas))
        chance = _Chance(weights)
        for number, schema in enumerate(schemas):
            say(f"grammar: {library} {number + 1}/{len(schemas)}")
            _take(row, schema, compiled, chance.again(number))
        found.rows.append(row)
    weights.close()
    return found


def block(found: Grammars) -> Block:
    """Coverage and cost."""
    return Block(
        "Answers within a schema",
        [
            f"A vocabulary of {found.vocabulary_count:,} tokens, read by llguidance in "
            f"{found.vocabulary_s:.2f} s, once for a model. CPU time of one thread."
        ],
        [
            ["library", "schemas", "compiled", "ended", "valid", "compile ms", "µs a token", "p99 µs"],
            *map(_cells, found.rows),
        ],
    )


def _cells(row: Row) -> list[str]:
    tokens = sorted(row.token_s) or [0.0]
    return [
        row.library,
        f"{row.schemas_count}",
        f"{row.compiled_count / row.schemas_count:.1%}",
        f"{row.ended_count / row.schemas_count:.1%}",
        f"{row.valid_count / row.schemas_count:.1%}",
        f"{median(row.compile_s or [0.0]) * 1e3:.2f}",
        f"{fmean(tokens) * 1e6:,.0f}",
        f"{tokens[int(0.99 * len(tokens))] * 1e6:,.0f}",
    ]


def _take(row: Row, schema: Any, compiled: Callable[[Any], _Bound | None], chance: _Chance) -> None:
    """One schema: compile, write an answer, look whether it is valid."""
    begun_s = time.thread_time()
    bound = compiled(schema)
    if bound is None:
        return
    row.compile_s.append(time.thread_time() - begun_s)
    row.compiled_count += 1
    answer = chance.write(bound, row.token_s)
    bound.close()
    if answer is None:
        return
    row.ended_count += 1
    with suppress(json.JSONDecodeError, jsonschema.ValidationError, UnicodeDecodeError):
        jsonschema.Draft202012Validator(schema).validate(json.loads(answer.decode()))
        row.valid_count += 1


class _Guided:
    """llguidance, as the engine uses it."""

    def __init__(self, constraint: FormConstraint) -> None:
        self.restrict, self.accept = constraint.restrict, constraint.accept
        self._constraint = constraint

    def may_end(self, _logits: NDArray[np.float32]) -> bool:
        return self._constraint.may_end

    def close(self) -> None:
        """Nothing to free."""


def _guided(constraints: Constraints, schema: Any, weights: Weights) -> _Guided | None:
    try:
        constraint = constraints.compile(Form("json_schema", schema))
    except TaskRefused:
        return None
    constraint.restrict(np.zeros(weights.vocabulary_count, np.float32))  # what is made when first needed
    return _Guided(constraint)


_DTYPE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class _Own:
    """llama.cpp's sampler, asked about every token, as its own programs do once a token was refused."""

    def __init__(self, weights: Weights, sampler: Any) -> None:
        self._sampler = sampler
        self._candidates = np.zeros(weights.vocabulary_count, _DTYPE)
        self._ids = np.arange(weights.vocabulary_count, dtype=np.int32)
        self._end = next(t for t in range(weights.vocabulary_count) if weights.ends(t))

    def restrict(self, logits: NDArray[np.float32]) -> None:
        self._candidates["id"], self._candidates["logit"] = self._ids, logits
        pointer = self._candidates.ctypes.data_as(llama.llama_token_data_p)
        array = llama.llama_token_data_array(
            data=pointer, size=len(self._candidates), selected=-1, sorted=False
        )
        llama.llama_sampler_apply(self._sampler, llama.byref(array))
        logits[:] = self._candidates["logit"]

    def accept(self, token: int) -> None:
        llama.llama_sampler_accept(self._sampler, token)

    def may_end(self, logits: NDArray[np.float32]) -> bool:
        return bool(np.isfinite(logits[self._end]))

    def close(self) -> None:
        llama.llama_sampler_free(self._sampler)


def _own(weights: Weights, schema: Any) -> _Own | None:
    """The schema by llama-cpp-python's converter, a port of llama.cpp's."""
    try:
        grammar = json_schema_to_gbnf(msgspec.json.encode(schema).decode())
    except (ValueError, KeyError, AssertionError, NotImplementedError, TypeError, RecursionError):
        return None
    sampler = llama.llama_sampler_init_grammar(weights.vocab, grammar.encode(), b"root")
    return _Own(weights, sampler) if sampler else None


class _Chance:
    """Chooses tokens instead of a model."""

    def __init__(self, weights: Weights) -> None:
        count = weights.vocabulary_count
        self._pieces = [weights.piece(token) for token in range(count)]
        self._words = np.array([not weights.ends(token) for token in range(count)])
        self._ending = [
            np.array([bool(piece) and not piece.strip(characters) for piece in self._pieces])
            for characters in _ENDINGS
        ]
        self._logits = np.zeros(count, np.float32)

    def again(self, seed: int) -> _Chance:
        """Begin anew, the same for both libraries."""
        self._random = np.random.default_rng(seed)
        return self

    def write(self, bound: _Bound, token_s: list[float]) -> bytes | None:
        """An answer, and the seconds of each token's mask and acceptance; None: it came to no end."""
        written = b""
        for _ in range(_MOST_TOKENS):
            self._logits[:] = 0
            begun_s = time.thread_time()
            bound.restrict(self._logits)
            masked_s = time.thread_time() - begun_s
            allowed = np.isfinite(self._logits) & self._words
            if bound.may_end(self._logits):
                return written
            if not allowed.any():
                return None
            token = self._choose(allowed)
            begun_s = time.thread_time()
            bound.accept(token)
            token_s.append(masked_s + time.thread_time() - begun_s)
            written += self._pieces[token]
        return None

    def _choose(self, allowed: NDArray[np.bool_]) -> int:
        if self._random.random() < 0.8:  # noqa: PLR2004 - four times of five towards an end
            for kind in self._random.permutation(len(self._ending)):
                if (both := self._ending[kind] & allowed).any():
                    return int(self._random.choice(np.flatnonzero(both)))
        return int(self._random.choice(np.flatnonzero(allowed)))
