"""What conditions look at: a call and the facts, with what is costly to find out found out once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hybrid_router.core.call import Call, Message, RefusalPart
from hybrid_router.routing.estimate import prompt_tokens
from hybrid_router.routing.facts import Facts


class Subject:
    """One call under decision.  Text is gathered and counted once, however many rules ask.

    Plain slots: a `cached_property` takes a lock, and this is made for every call.
    """

    __slots__ = ("_guard", "_suspicious", "_text", "_utf8", "call", "facts")

    def __init__(self, call: Call, facts: Facts, guard: Any = None) -> None:
        """`guard` is a pattern without which no `text` condition can hold; None if there is none."""
        self.call = call
        self.facts = facts
        self._guard = guard
        self._suspicious: bool | None = None
        self._text: str | None = None
        self._utf8: bytes | None = None

    @property
    def suspicious(self) -> bool:
        """Whether a `text` condition may hold at all."""
        if self._suspicious is None:
            self._suspicious = self._guard is None or self._guard.search(self.utf8) is not None
        return self._suspicious

    @property
    def text(self) -> str:
        """Everything written in the call."""
        if self._text is None:
            self._text = everything_written(self.call)
        return self._text

    @property
    def utf8(self) -> bytes:
        """The text as RE2 reads it; half a surrogate pair becomes `?` instead of an error."""
        if self._utf8 is None:
            self._utf8 = self.text.encode("utf-8", "replace")
        return self._utf8

    @property
    def prompt_tokens(self) -> int:
        """The prompt's size, estimated from lengths alone."""
        return prompt_tokens(self.call, self.text)


def everything_written(call: Call) -> str:
    """All text that would leave the machine with a call, a line for each piece.

    More than the prompt: a secret in a tool's result, in a tool call's arguments, in a schema or in a
    field we only pass on is as private as one in a message.  Pictures, sound, files and prompts given as
    token ids cannot be read here; `has` and `operation` conditions are for those.
    """
    pieces: list[str] = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    for message in call.messages:
        pieces.extend(_of_message(message))
    pieces.extend(call.sampling.stop)
    for rest in (call.tools, call.tool_choice, call.response_format, call.extra):
        if rest:
            pieces.extend(_strings(rest))
    return "\n".join(pieces)


def _of_message(message: Message) -> Iterator[str]:
    yield message.text
    if isinstance(message.content, list):
        yield from (part.refusal for part in message.content if isinstance(part, RefusalPart))
    if message.name:
        yield message.name
    if message.reasoning_content:
        yield message.reasoning_content
    for tool_call in message.tool_calls or ():
        yield tool_call.function.name
        yield tool_call.function.arguments


def _strings(value: Any) -> Iterator[str]:
    """Every string in parsed JSON, keys included.  A stack, since JSON may nest deeper than calls may."""
    stack = [value]
    while stack:
        match stack.pop():
            case str() as text:
                yield text
            case dict() as mapping:
                stack.extend(mapping.keys())
                stack.extend(mapping.values())
            case list() | tuple() as items:
                stack.extend(items)
            case _:
                pass
