"""From a task to the token ids of each text that is to be embedded, or ranked."""

from __future__ import annotations

import re

import llama_cpp as llama

from hybrid_router.core.call import Operation
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Task, TaskRefused

_HOLES = re.compile(r"\{(query|document)\}")


class Passages:
    """Reads the tasks of one model.  `length` is how many tokens it takes at once."""

    def __init__(self, weights: Weights, settings: LlamaSettings, length: int) -> None:
        self._weights = weights
        self._purpose = settings.purpose
        self._length = length
        self._template = weights.template("rerank") if settings.purpose == "rerank" else None

    def of(self, task: Task) -> list[tuple[list[int], bool]]:
        """Token ids of each text, or of each document with the query, and whether some were left out.

        Raises:
            TaskRefused: not what this model does, or a text that it cannot take; says which.
        """
        if task.operation != self._purpose:
            raise TaskRefused("unsupported_parameter", _other_purpose(self._purpose, task), by_call=True)
        if not task.prompts:
            raise _wrong("there is nothing to compute: the list of texts is empty")
        if task.operation is Operation.RERANK:
            found = [(tokens, False) for tokens in self._pairs(task)]
        else:
            found = [self._text(index, text, task.truncate) for index, text in enumerate(task.prompts)]
        for index, (tokens, _) in enumerate(found):
            self._check(index, tokens)
        return found

    def _text(self, index: int, text: str | tuple[int, ...], truncate: str | None) -> tuple[list[int], bool]:
        if not text:
            raise _wrong(f"text {index} is empty")
        tokens = self._weights.tokenize(text) if isinstance(text, str) else list(text)
        if truncate is None or len(tokens) <= self._length:
            return tokens, False
        ends = self._ends()
        return shortened(tokens, self._length, ends, middle=truncate == "middle", end=truncate == "end"), True

    def _ends(self) -> frozenset[int]:
        """The special tokens that stand around a text."""
        return frozenset(self._weights.tokenize("", add_special=True))

    def _pairs(self, task: Task) -> list[list[int]]:
        if not task.query:
            raise _wrong("the query is empty")
        documents = [document for document in task.prompts if isinstance(document, str)]
        if len(documents) < len(task.prompts):
            raise _wrong("documents to rank are texts, not token ids")
        if self._template is not None:
            return [self._rendered(self._template, task.query, document) for document in documents]
        query = self._words(task.query)
        return [self._pair(query, self._words(document)) for document in documents]

    def _words(self, text: str) -> list[int]:
        return self._weights.tokenize(text, add_special=False, read_special=False)

    def _rendered(self, template: str, query: str, document: str) -> list[int]:
        """Both in their places, in one go: a query may hold the word `{document}`."""
        text = _HOLES.sub(lambda hole: query if hole[1] == "query" else document, template)
        return self._weights.tokenize(text, add_special=False)

    def _pair(self, query: list[int], document: list[int]) -> list[int]:
        """As llama-server puts them together: only the marks that the vocabulary asks for."""
        vocab, special = self._weights.vocab, self._weights.special
        bos = special("bos") if llama.llama_vocab_get_add_bos(vocab) else None
        sep = special("sep") if llama.llama_vocab_get_add_sep(vocab) else None
        eos = None
        if llama.llama_vocab_get_add_eos(vocab):
            eos = special("sep") if special("eos") is None else special("eos")
        marks = [[] if mark is None else [mark] for mark in (bos, eos, sep)]
        return [*marks[0], *query, *marks[1], *marks[2], *document, *marks[1]]

    def _check(self, index: int, tokens: list[int]) -> None:
        if not tokens:
            raise _wrong(f"text {index} has no tokens")
        if any(not 0 <= token < self._weights.vocabulary_count for token in tokens):
            last = self._weights.vocabulary_count - 1
            raise _wrong(f"text {index} holds a token id outside 0 to {last}")
        if len(tokens) > self._length:
            with_query = " with the query" if self._purpose == "rerank" else ""
            raise TaskRefused(
                "context_length_exceeded",
                f"text {index}{with_query} has {len(tokens)} tokens, this model takes {self._length}; "
                "divide it, or shorten it",
                by_call=True,
                param=f"{'documents' if self._purpose == 'rerank' else 'input'}[{index}]",
            )


def shortened(
    tokens: list[int], room_count: int, ends: frozenset[int], *, middle: bool, end: bool = False
) -> list[int]:
    """As many of a text's tokens as there is room for: the last, or those at both its ends, or the first.

    Args:
        middle: what is left out is its middle.
        end: what is left out is its end.

    The special tokens `ends` that stand first and last stay where they are.
    """
    first = tokens[:1] if tokens[0] in ends else []
    last = tokens[-1:] if tokens[-1] in ends else []
    inner = tokens[len(first) : len(tokens) - len(last)]
    room_count = max(1, room_count - len(first) - len(last))
    head_count = room_count // 2 if middle else room_count if end else 0
    return [*first, *inner[:head_count], *inner[len(inner) - (room_count - head_count) :], *last]


def _wrong(message: str) -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True)


def _other_purpose(purpose: str, task: Task) -> str:
    does = "embeds texts" if purpose == "embed" else "ranks documents"
    wanted = task.operation if task.operation in {Operation.EMBED, Operation.RERANK} else "generate"
    return (
        f"{task.operation}: this model {does}; take another, or set `purpose: {wanted}` where its file allows"
    )
