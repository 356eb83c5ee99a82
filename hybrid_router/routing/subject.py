"""What conditions look at: a call and the facts, with what is costly to find out found out once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

from hybrid_router.core.call import Call, Message, RefusalPart
from hybrid_router.routing.estimate import prompt_tokens
from hybrid_router.routing.facts import Facts


class Subject:
    """One call under decision.  Text is gathered and counted once, however many rules ask."""

    def __init__(self, call: Call, facts: Facts, guard: Any = None) -> None:
        """`guard` is a pattern without which no `text` condition can hold; None if there is none."""
        self.call = call
        self.facts = facts
        self._guard = guard

    @cached_property
    def suspicious(self) -> bool:
        """Whether a `text` condition may hold at all."""
        return self._guard is None or self._guard.search(self.utf8) is not None

    @cached_property
    def text(self) -> str:
        return everything_written(self.call)

    @cached_property
    def utf8(self) -> bytes:
        """The text as RE2 reads it; half a surrogate pair becomes `?` instead of an error."""
        return self.text.encode("utf-8", "replace")

    @cached_property
    def prompt_tokens(self) -> int:
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
