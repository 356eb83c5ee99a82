"""Streams as the service's variants write them: events into the documents of `data:` lines.  No I/O."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol

from hybrid_router.api.workers_ai.text_documents import Stamp, usage_of
from hybrid_router.api.workers_ai.text_streams import Document
from hybrid_router.core.event import Event, Finish, Reasoning, Text, ToolFragment, Usage


class Stream(Protocol):
    """One way of writing a stream."""

    def chunks(self, event: Event) -> Iterator[Document]:
        """The documents that `event` is told with; none for usage."""
        ...

    def ending(self, usage: Usage, neurons: float) -> Iterator[Document]:
        """What comes between the last event and `[DONE]`."""
        ...


class ChatStream:
    """`chat.completion.chunk` documents, or `text_completion` ones with `completion`."""

    def __init__(
        self,
        stamp: Stamp,
        *,
        prompt_tokens: int,
        usage_style: Literal["delta", "cumulative", "final"],
        trailing_usage: bool,
        completion: bool = False,
    ) -> None:
        self._stamp = stamp
        self._prompt_tokens = prompt_tokens
        self._style = usage_style
        self._trailing = trailing_usage
        self._completion = completion
        self._begun: set[int] = set()
        self._told_tokens = 0

    def chunks(self, event: Event) -> Iterator[Document]:
        """A chunk for each event; before a choice's first, one that names the role."""
        if isinstance(event, Usage):
            return
        if event.index not in self._begun and not self._completion:
            opening = {"role": "assistant", "content": ""}
            yield self._chunk(event.index, opening, None, 0 if self._begun else self._prompt_tokens, 0)
        self._begun.add(event.index)
        told = 1 if isinstance(event, Text | Reasoning) else 0
        reason = event.reason if isinstance(event, Finish) else None
        yield self._chunk(event.index, _delta(event), reason, 0, told)

    def ending(self, usage: Usage, neurons: float) -> Iterator[Document]:
        """A chunk without choices, then the service's own trailing line, if that is on.

        With `delta` usage and the trailing line the chunk tells nothing, as captured; otherwise it holds
        the totals.
        """
        totals = usage_of(usage, neurons)
        bare = self._style == "delta" and self._trailing
        yield self._document([], usage_of(Usage(0, 0)) if bare else totals)
        if self._trailing:
            yield {"response": "", "usage": totals}

    def _chunk(self, index: int, delta: Document, reason: str | None, asked: int, told: int) -> Document:
        self._told_tokens += told
        body = {"text": delta.get("content", "")} if self._completion else {"delta": delta}
        choice: Document = {"index": index, **body, "finish_reason": reason}
        if self._style == "final":
            return self._document([choice], None)
        if self._style == "delta":
            return self._document([choice], usage_of(Usage(asked, told)))
        return self._document([choice], usage_of(Usage(self._prompt_tokens, self._told_tokens)))

    def _document(self, choices: list[Document], usage: Document | None) -> Document:
        document: Document = {
            "id": self._stamp.id,
            "object": "text_completion" if self._completion else "chat.completion.chunk",
            "created": self._stamp.created,
            "model": self._stamp.model,
            "choices": choices,
        }
        return document if usage is None else document | {"usage": usage}


def _delta(event: Event) -> Document:
    """What one event adds to a message."""
    match event:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text}
        case ToolFragment():
            return {"tool_calls": [_fragment(event)]}
    return {}


def _fragment(event: ToolFragment) -> Document:
    """The head with id and name, or a piece of the arguments."""
    fragment: Document = {"index": event.position}
    function: Document = {}
    if event.id is not None:
        fragment |= {"id": event.id, "type": "function"}
    if event.name is not None:
        function["name"] = event.name
    if event.arguments or event.name is None:
        function["arguments"] = event.arguments
    return fragment | {"function": function}


def with_numbers(document: Document) -> Document:
    """`document` with text that reads as a whole number written as one, as some classic models do."""
    text = document.get("response")
    if isinstance(text, str) and text.strip().isdecimal():
        return document | {"response": int(text)}
    choices = document.get("choices")
    return document | {"choices": [_number_in(choice) for choice in choices]} if choices else document


def _number_in(choice: Document) -> Document:
    """A choice with its content as a number, if it reads as one."""
    for place in ("delta", "message"):
        content = choice.get(place, {}).get("content")
        if isinstance(content, str) and content.strip().isdecimal():
            return choice | {place: choice[place] | {"content": int(content)}}
    return choice
