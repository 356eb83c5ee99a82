"""From a task to passages: prompts put before texts, texts that are too long refused or cut."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, TypeAlias

from hybrid_router.core.asks import Encoding as Asked
from hybrid_router.core.call import Operation
from hybrid_router.engines.encoders.passage import Passage
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.task import Task, TaskRefused

Reading: TypeAlias = Generator[None, None, list[Passage]]

# So much text is read at a time: 20 ms or so.
_SLICE_CHARACTERS = 32_768
# No vocabulary has longer tokens in ordinary text: what is beyond is not even looked at.
_MOST_CHARACTERS_A_TOKEN = 128
# Names under which models keep a prompt of this purpose.
_PROMPT_NAMES = {
    "query": ("query", "search_query", "s2p_query"),
    "document": ("document", "passage", "search_document"),
    "classification": ("classification", "Classification"),
    "clustering": ("clustering", "Clustering"),
}


class Encoded(Protocol):
    """A text as a tokenizer reads it: `tokenizers.Encoding`."""

    @property
    def ids(self) -> list[int]: ...

    @property
    def type_ids(self) -> list[int]: ...

    @property
    def sequence_ids(self) -> list[int | None]: ...


class Reader(Protocol):
    """What of a model reading needs."""

    context: int
    vocabulary_count: int
    prompts: dict[str, str]
    default_prompt_name: str | None
    pools_prompts: bool

    def read(self, texts: Sequence[str], query: str | None = None) -> Sequence[Encoded]:
        """See `model.EncoderModel.read`."""
        ...


class Texts:
    """Reads the tasks of one model."""

    def __init__(self, reader: Reader, settings: EncoderSettings) -> None:
        self._reader = reader
        self._operation = Operation.RERANK if settings.purpose == "rerank" else Operation.EMBED
        self._most_characters = _MOST_CHARACTERS_A_TOKEN * reader.context
        self._written = {"query": settings.query_prompt, "document": settings.document_prompt}

    def of(self, task: Task) -> Reading:
        """The task's passages, read piece by piece.

        Raises:
            TaskRefused: not what this model does, or a text that it cannot take; says which.
        """
        if task.operation is not self._operation:
            raise TaskRefused("unsupported_parameter", _other(self._operation, task), by_call=True)
        if not task.prompts:
            raise _wrong("there is nothing to compute: the list of texts is empty")
        if task.operation is Operation.RERANK and not task.query:
            raise _wrong("the query is empty", "query")
        return self._read(task, self._prompt(task))

    def _read(self, task: Task, prompt: str) -> Reading:
        """Token ids are taken as they are: whoever made them put the marks around, and the prompt in."""
        found: list[Passage] = []
        prompt_count = self._prompt_count(prompt)
        for piece in _pieces(task.prompts):
            if found:
                yield
            texts = [self._bounded(index, text, prompt) for index, text in piece if isinstance(text, str)]
            encoded = iter(self._reader.read(texts, task.query or None)) if texts else iter(())
            for index, text in piece:
                if isinstance(text, str):
                    found.append(self._passage(task, index, next(encoded), prompt_count))
                else:
                    found.append(self._given(task, index, list(text)))
        return found

    def _bounded(self, index: int, text: str, prompt: str) -> str:
        if not text:
            raise _wrong(f"text {index} is empty")
        return prompt + text[: self._most_characters]

    def _passage(self, task: Task, index: int, text: Encoded, prompt_count: int) -> Passage:
        """A text's tokens.  What may be cut is the text alone, or the document behind the query."""
        gap = self._gap(task, index, len(text.ids), lambda: self._own(text, prompt_count))
        return Passage(
            task.id,
            index,
            _without(text.ids, gap),
            _without(text.type_ids, gap) if any(text.type_ids) else None,
            0 if self._reader.pools_prompts else prompt_count,
            truncated=bool(gap),
        )

    def _own(self, text: Encoded, prompt_count: int) -> range:
        """Where a text's own tokens are, without marks, prompt and query."""
        part = 1 if self._operation is Operation.RERANK else 0
        places = [at for at, sequence in enumerate(text.sequence_ids) if sequence == part]
        return range(max(places[0], prompt_count), places[-1] + 1) if places else range(0)

    def _given(self, task: Task, index: int, tokens: list[int]) -> Passage:
        """Token ids of the model's own vocabulary."""
        if self._operation is Operation.RERANK:
            raise _wrong("documents to rank are texts, not token ids", "documents")
        if any(not 0 <= token < self._reader.vocabulary_count for token in tokens):
            last = self._reader.vocabulary_count - 1
            raise _wrong(f"text {index} holds a token id outside 0 to {last}")
        gap = self._gap(task, index, len(tokens), lambda: range(1, len(tokens) - 1))
        return Passage(task.id, index, _without(tokens, gap), truncated=bool(gap))

    def _gap(self, task: Task, index: int, count: int, own: Callable[[], range]) -> range:
        """The places that are left out, of a text's own: none, where it is short enough.

        Raises:
            TaskRefused: there are too many, and nothing may be left out, or what must stay is too long.
        """
        over_count = count - self._reader.context
        if over_count <= 0:
            return range(0)
        places = own()
        room_count = len(places) - over_count
        if task.truncate is None or room_count < 1:
            raise self._too_long(task, index, count)
        kept_count = {"oldest": 0, "middle": room_count // 2}.get(task.truncate, room_count)
        return places[kept_count : kept_count + over_count]

    def _too_long(self, task: Task, index: int, count: int) -> TaskRefused:
        ranks = task.operation is Operation.RERANK
        with_query = " with the query" if ranks else ""
        return TaskRefused(
            "context_length_exceeded",
            f"text {index}{with_query} has {count} tokens, this model takes {self._reader.context}; "
            "divide it, shorten it, or say with `truncate` what may be left out",
            by_call=True,
            param=f"{'documents' if ranks else 'input'}[{index}]",
        )

    def _prompt(self, task: Task) -> str:
        """What stands before each text of the task."""
        if task.operation is Operation.RERANK:
            return ""
        asked = task.ask if isinstance(task.ask, Asked) else Asked()
        prompts = self._reader.prompts
        if asked.prompt_name is not None:
            if asked.prompt_name not in prompts:
                known = ", ".join(sorted(prompts)) or "none"
                raise _wrong(f"prompt_name: this model knows {known}", "prompt_name")
            return prompts[asked.prompt_name]
        if asked.purpose is not None:
            if (written := self._written.get(asked.purpose)) is not None:
                return written
            for name in _PROMPT_NAMES[asked.purpose]:
                if prompts.get(name):
                    return prompts[name]
        return prompts.get(self._reader.default_prompt_name or "", "")

    def _prompt_count(self, prompt: str) -> int:
        """How many tokens a text begins with because of it: the first mark and the prompt's own."""
        if not prompt:
            return 0
        (encoded,) = self._reader.read([prompt])
        return len(encoded.ids) - (1 if encoded.sequence_ids[-1] is None else 0)


def _without(numbers: list[int], gap: range) -> list[int]:
    return numbers[: gap.start] + numbers[gap.stop :] if gap else numbers


def _pieces(prompts: tuple[str | tuple[int, ...], ...]) -> Iterator[list[tuple[int, str | tuple[int, ...]]]]:
    """The texts with their places, so many at a time that reading them takes a moment."""
    piece: list[tuple[int, str | tuple[int, ...]]] = []
    count = 0
    for index, text in enumerate(prompts):
        if piece and count + len(text) > _SLICE_CHARACTERS:
            yield piece
            piece, count = [], 0
        piece.append((index, text))
        count += len(text)
    yield piece


def _wrong(message: str, param: str | None = "input") -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True, param=param)


def _other(operation: Operation, task: Task) -> str:
    does = "embeds texts" if operation is Operation.EMBED else "ranks documents"
    return f"{task.operation}: this model {does}; take another, or set its `purpose`"
