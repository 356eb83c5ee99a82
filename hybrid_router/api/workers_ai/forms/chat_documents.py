"""Answers of text models that OpenAI has no form for, and its Responses object.  Folds over events; pure."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from hybrid_router.api.calls import Chunks
from hybrid_router.api.openai import reply
from hybrid_router.api.workers_ai.text_documents import Answer, Shape, Stamp, document
from hybrid_router.api.workers_ai.text_streams import ClassicStream
from hybrid_router.core.call import Call
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Finish, Text, Usage, without_remarks

_HAZARD = re.compile(r"\bS1[0-4]\b|\bS[1-9]\b")
_DONE = b"data: [DONE]\n\n"
_ALIVE = b":\n\n"


def classic(call: Call, events: Batch) -> dict[str, Any]:
    """`{"response"}`, with tool calls and usage where there are any.

    Raises:
        StreamBroken: the answer is not whole.
    """
    form = (call.response_format or {}).get("type")
    return _folded("classic", call, events, 0, as_json=form in ("json_object", "json_schema"))


def responses(call: Call, created_s: int, events: Batch) -> dict[str, Any]:
    """OpenAI's Responses object, its text alone.

    Raises:
        StreamBroken: the answer is not whole.
    """
    return _folded("responses", call, events, created_s, as_json=False)


def _folded(form: Shape, call: Call, events: Batch, created_s: int, *, as_json: bool) -> dict[str, Any]:
    _, usage = reply.fold(call, events)
    answer = Answer()
    answer.take(without_remarks(events))
    stamp = Stamp(id=call.id, created=created_s, model=call.alias)
    counted = usage or Usage(0, 0)
    told = document(form, answer, counted, counted.neurons or 0.0, stamp, as_json=as_json)
    if usage is None:  # what nobody counted is left out, not made up
        del told["usage"]
    elif usage.neurons is None:
        told["usage"].pop("neurons", None)
    return told


def verdict(said: Any) -> dict[str, Any] | None:
    """A guard's `unsafe\\nS1,S10` as the object that its JSON form has; None: it is no verdict."""
    if not isinstance(said, str):
        return None
    first, _, rest = said.strip().partition("\n")
    word = first.strip().lower()
    if word not in ("safe", "unsafe"):
        return None
    return {"safe": word == "safe", "categories": _HAZARD.findall(rest) if word == "unsafe" else []}


class ClassicChunks:
    """`{"response", "p"}` lines, one with usage, `[DONE]`."""

    def __init__(self, call: Call) -> None:
        self._stream = ClassicStream(with_tools=bool(call.tools))
        self._usage: Usage | None = None
        self._finished = False

    @property
    def whole(self) -> bool:
        """Whether the answer has its finish reason."""
        return self._finished

    def encode(self, batch: Batch) -> bytes:
        """One batch's lines."""
        lines = []
        for event in without_remarks(batch):
            if isinstance(event, Usage):
                self._usage = event
                continue
            if event.index != 0:
                raise reply.unasked()
            self._finished = self._finished or isinstance(event, Finish)
            lines += [_line(document) for document in self._stream.chunks(event)]
        return b"".join(lines)

    def end(self) -> bytes:
        """Usage, if somebody counted, and the end mark."""
        if self._usage is None:
            return _DONE
        return b"".join(map(_line, self._stream.ending(self._usage, 0.0))) + _DONE


class GuardChunks:
    """A stream held back until it is a verdict: who looks for `unsafe` takes any other word for `safe`.

    Args:
        told: how it is written.
    """

    def __init__(self, told: Chunks, model: str) -> None:
        self._told = told
        self._model = model
        self._held: Batch = []

    @property
    def whole(self) -> bool:
        """Whether the answer has its finish reason."""
        return self._told.whole

    def encode(self, batch: Batch) -> bytes:
        """All of it with its end, a sign of life before.

        Raises:
            StreamBroken: it is no verdict.
        """
        self._held += batch
        if not self.whole:
            if not any(isinstance(event, Finish) for event in batch):
                return _ALIVE
            if verdict("".join(event.text for event in self._held if isinstance(event, Text))) is None:
                raise StreamBroken(no_verdict(self._model))
        held, self._held = self._held, []
        return self._told.encode(held)

    def end(self) -> bytes:
        """What comes after a whole answer."""
        return self._told.end()


def no_verdict(model: str) -> str:
    """What to say of a model that answers in a guard's place."""
    return f"no verdict came for {model}: name an alias of a guard for it"


def _line(told: dict[str, Any]) -> bytes:
    return b"data: " + msgspec.json.encode(told) + b"\n\n"
