"""Answers within a form: a JSON Schema, a grammar, a regular expression.  Built on llguidance.

Measured on two busy cores with 49,152 tokens (docs/benchmarks.md): the vocabulary takes 0.4 s and 20 MB,
once for a model, at the first call that needs it (152,000 tokens: 1.3 s, 58 MB); a form 1 ms, one of 2,000
properties 0.4 s; a fork 1 µs; a token 0.14 ms, of which 20 µs apply the mask.

What is refused before anything is computed: forms beyond `_SOURCE_BYTES`, nested or repeated beyond bounds
(`schemas`, `gbnf`), and forms whose first mask is slow.  llguidance descends into references by recursion and
has no bound there: 1,500 schemas that refer to each other in a row end a process with 8 MiB of stack, so
forms are compiled on a thread with a stack of its own, large enough for all that the bounds let through.

Source: llguidance 1.9, its docs/syntax.md, parser/src/api.rs for limits.
"""

from __future__ import annotations

import ctypes
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Self

import llama_cpp as llama
import llguidance
import numpy as np
from numpy.typing import NDArray

from hybrid_router.engines.llama.gbnf import MOST_RULES, lark_of
from hybrid_router.engines.llama.schemas import MOST_UNROLLED, enforceable, refuse, unrolled_count
from hybrid_router.engines.llama.seams import Form
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.task import PREFILL_REFUSED, TaskRefused

# White space as most JSON has it that models have read, and never a choice: a small model that may write line
# ends writes them for ever.  (Without any, the starter model was overruled half as much again.)
# No \u escapes: a key would have two spellings, and declared properties could come again in disguise.
WRITING: Mapping[str, Any] = {
    "item_separator": ", ",
    "key_separator": ": ",
    "whitespace_flexible": False,
    "coerce_one_of": False,
    "lenient": False,
    "json_allowed_escapes": '"\\bfnrt',
}
# How others write, who begin an answer that is continued here: without white space, or with much, in bounds.
_COMPACT = {"item_separator": ",", "key_separator": ":"}
_LOOSE = {**_COMPACT, "whitespace_flexible": True, "whitespace_pattern": "[ \n\r\t]{1,40}"}
_OTHER_WRITINGS = ({**WRITING, **_COMPACT}, {**WRITING, **_LOOSE})
_SOURCE_BYTES = 256 * 1024
_KEPT_FORMS_COUNT = 32
_STACK_BYTES = 256 * 2**20  # address space; what is not used costs nothing
_SLOW_S = 0.5
_MOST_FORCED_COUNT = 64
_REASON_LENGTH = 240
_RULE = re.compile(r"^[ \t]*[\w!?.-]+[ \t]*(?:\[[^\]\n]*\])?[ \t]*:", re.MULTILINE)
_DIGIT = re.compile(r"\\(.)", re.DOTALL)
_COUNTED = re.compile(r"\{\s*(\d+)?\s*,?\s*(\d+)?\s*\}")
_NOT_ALLOWED = "doesn't satisfy the grammar"  # else a limit was reached
_LONGEST_TOKEN_BYTES = 1024  # longer ones are no text
_SPECIAL = b"\xff"  # how llguidance marks a token that no text contains


class Constraints:
    """All forms of one model.  Costs nothing until the first is compiled."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        self._tokenizer: llguidance.LLTokenizer | None = None
        self._compiled: OrderedDict[str, llguidance.LLMatcher] = OrderedDict()

    def compile(self, form: Form, written: str = "") -> FormConstraint:
        """What keeps an answer within `form`, of which `written` is out already.

        Raises:
            TaskRefused: the form cannot be enforced, by the call's fault, or `written` is not its beginning.
        """
        if not written:
            return self._begin(_grammar(form, WRITING))
        tokens = tokens_of(written, self._weights)
        for writing in (WRITING, *(_OTHER_WRITINGS if form.kind == "json_schema" else ())):
            constraint = self._begin(_grammar(form, writing))
            if constraint.resume(tokens):
                return constraint
        raise TaskRefused(PREFILL_REFUSED, "the answer's beginning is not within its form")

    def _begin(self, grammar: str) -> FormConstraint:
        matcher = self._compiled.get(grammar)
        if matcher is None:
            matcher = self._compiled[grammar] = self._matcher(grammar)
        self._compiled.move_to_end(grammar)
        while len(self._compiled) > _KEPT_FORMS_COUNT:
            self._compiled.popitem(last=False)
        return FormConstraint(matcher.deep_copy(), self._weights.vocabulary_count)

    def terminal(self, text: str) -> str:
        """How a Lark grammar says `text`: as the special token that is written so, where the vocabulary has
        one, else as a string."""
        tokens = self._weights.tokenize(text, add_special=False)
        if len(tokens) == 1 and self.tokenizer.is_special_token(tokens[0]):
            return f"<[{tokens[0]}]>"
        return json.dumps(text, ensure_ascii=False)

    @property
    def tokenizer(self) -> llguidance.LLTokenizer:
        """The vocabulary as llguidance sees it."""
        if self._tokenizer is None:
            self._tokenizer = _tokenizer(self._weights)
        return self._tokenizer

    def _matcher(self, grammar: str) -> llguidance.LLMatcher:
        """Compile, and look how long the first step takes: some forms explode only there."""
        matcher = _on_large_stack(self.tokenizer, grammar)
        if matcher.is_error():
            raise refuse(f"this form cannot be enforced: {_short(matcher.get_error())}")
        FormConstraint(matcher.deep_copy(), self._weights.vocabulary_count).restrict(
            np.zeros(self._weights.vocabulary_count, np.float32)
        )
        return matcher


class FormConstraint:
    """One sequence within its form.  See `seams.Constraint`."""

    def __init__(self, matcher: llguidance.LLMatcher, vocabulary_count: int) -> None:
        self._matcher = matcher
        self._vocabulary_count = vocabulary_count
        self._mask = np.zeros((vocabulary_count + 31) // 32, np.int32)

    def restrict(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of every token that may not come next to minus infinity.  Tokens that end an answer
        may come where the form allows the end.

        Raises:
            TaskRefused: the form has become too complex to go on.
        """
        begun_s = time.thread_time()
        self._matcher.unsafe_compute_mask_ptr(self._mask.ctypes.data, self._mask.nbytes)
        if time.thread_time() - begun_s > _SLOW_S:
            raise refuse("this form takes too long to enforce; make it smaller, repeat less in it")
        if self._matcher.is_error():
            raise self._broken()
        allowed = np.unpackbits(self._mask.view(np.uint8), bitorder="little", count=self._vocabulary_count)
        np.copyto(logits, -np.inf, where=allowed == 0)

    def accept(self, token: int) -> None:
        """Take the token that was chosen.

        Raises:
            TaskRefused: it was not allowed.
        """
        if not self._matcher.consume_token(token):
            raise self._broken()

    @property
    def complete(self) -> bool:
        """Whether nothing can follow any more: the answer is over."""
        return bool(self._matcher.is_stopped())

    @property
    def may_end(self) -> bool:
        """Whether what was accepted is an answer of the form as it stands."""
        return bool(self._matcher.is_accepting())

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is only one way on.  The last bytes are left out
        where the model might join them with what follows; of a long way only the first tokens come."""
        return list(self._matcher.compute_ff_tokens()[:_MOST_FORCED_COUNT])

    def fork(self) -> Self:
        """Another sequence that has begun alike."""
        return type(self)(self._matcher.deep_copy(), self._vocabulary_count)

    def resume(self, tokens: list[int]) -> bool:
        """Take the tokens of a beginning that somebody else has written.  Returns whether it is one."""
        return bool(self._matcher.try_consume_tokens(tokens) == len(tokens))

    def _broken(self) -> TaskRefused:
        reason = self._matcher.get_error()
        if _NOT_ALLOWED in reason:
            return TaskRefused("backend_error", f"the answer left its form: {_short(reason)}")
        return refuse(f"this form became too complex to be enforced: {_short(reason)}")


def _grammar(form: Form, writing: Mapping[str, Any]) -> str:
    """llguidance's own notation.

    Raises:
        TaskRefused: the form is known to be too much, or wrong.
    """
    if form.kind == "json_schema":
        source = json.dumps(enforceable(form.source) | {"x-guidance": dict(writing)})
        _check_size(source)
        return str(llguidance.LLMatcher.grammar_from_json_schema(source))
    if not isinstance(form.source, str):
        raise refuse(f"a {form.kind} is a text")
    _check_size(form.source)
    if form.kind == "regex":
        if unrolled_count(form.source) > MOST_UNROLLED:
            raise refuse("the regular expression is too long with its repetitions written out")
        return str(llguidance.LLMatcher.grammar_from_regex(_DIGIT.sub(_ascii_digit, form.source)))
    return str(llguidance.LLMatcher.grammar_from_lark(_checked_lark(form)))


def _ascii_digit(escape: re.Match[str]) -> str:
    r"""`\d` means the digits of ASCII, as in ECMA-262: which others there are depends on who looks."""
    return "[0-9]" if escape[1] == "d" else escape[0]


def _checked_lark(form: Form) -> str:
    lark = lark_of(form.source) if form.kind == "gbnf" else form.source
    if len(_RULE.findall(lark)) > MOST_RULES + 1:
        raise refuse(f"the grammar has more than {MOST_RULES} rules")
    if any(int(number) > MOST_UNROLLED for found in _COUNTED.findall(lark) for number in found if number):
        raise refuse(f"the grammar repeats something more than {MOST_UNROLLED} times")
    return lark


def _check_size(source: str) -> None:
    try:
        size_bytes = len(source.encode())
    except UnicodeEncodeError:
        raise refuse("the form holds half a surrogate pair") from None
    if size_bytes > _SOURCE_BYTES:
        raise refuse(f"the form is larger than {_SOURCE_BYTES // 1024} KiB")


def _on_large_stack(tokenizer: llguidance.LLTokenizer, grammar: str) -> llguidance.LLMatcher:
    """Compile where deep recursion does no harm."""
    made: list[llguidance.LLMatcher] = []
    limits = llguidance.LLParserLimits(verbose_errors=False)

    def make() -> None:
        made.append(llguidance.LLMatcher(tokenizer, grammar, log_level=0, limits=limits))

    usual_bytes = threading.stack_size(_STACK_BYTES)
    try:
        thread = threading.Thread(target=make, name="grammar")
        thread.start()
    finally:
        threading.stack_size(usual_bytes)
    thread.join()
    return made[0]


def _tokenizer(weights: Weights) -> llguidance.LLTokenizer:
    """The vocabulary with the bytes that the engine shows.  What shows nothing is no text, and what looks
    like markup is none either, though some vocabularies count it as words."""
    buffer = ctypes.create_string_buffer(_LONGEST_TOKEN_BYTES)
    texts, ends = [], []
    for token in range(weights.vocabulary_count):
        text = _text(weights.vocab, token, buffer, special=False)
        shown = text or _text(weights.vocab, token, buffer, special=True)
        attributes = llama.llama_vocab_get_attr(weights.vocab, token)
        markup = attributes & llama.LLAMA_TOKEN_ATTR_USER_DEFINED and text[:1] + text[-1:] == b"<>"
        texts.append(text if text and not markup else _SPECIAL + shown)
        if weights.ends(token):
            ends.append(token)
    # llguidance.llamacpp.lltokenizer_from_vocab does the same, but for words that show nothing and one end.
    tokenize = ctypes.cast(llama.llama_cpp._lib.llama_tokenize, ctypes.c_void_p).value  # noqa: SLF001
    made: llguidance.LLTokenizer = llguidance.LLTokenizer.from_llamacpp(  # type: ignore[attr-defined]
        tokens=texts, vocab_ptr=weights.vocab, tokenize_fptr=tokenize, eos_token=ends, slices=None
    )
    return made


def _text(vocab: object, token: int, buffer: ctypes.Array[ctypes.c_char], *, special: bool) -> bytes:
    count = llama.llama_token_to_piece(vocab, token, buffer, len(buffer), 0, special)
    return buffer.raw[:count] if count > 0 else b""


def _short(reason: str) -> str:
    """The library's reason in one line, without its dump of states and sources."""
    line = " ".join(reason.partition("<state>")[0].replace("<non-verbose/>", "").split())
    return line if len(line) <= _REASON_LENGTH else line[: _REASON_LENGTH - 1] + "…"
