"""What conditions look at: a call and the facts, with what is costly to find out found out once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec.structs import asdict

from hybrid_router.core.call import Call, Message, RefusalPart
from hybrid_router.core.language import Detector, said_by_the_user
from hybrid_router.routing.estimate import prompt_tokens
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.findings import Finder, readable


class Subject:
    """One call under decision.  Text is gathered and counted once, however many rules ask.

    Plain slots: a `cached_property` takes a lock, and this is made for every call.
    """

    __slots__ = (
        "_found",
        "_guard",
        "_languages",
        "_prompt_tokens",
        "_readable",
        "_suspicious",
        "_text",
        "_utf8",
        "call",
        "facts",
    )

    def __init__(self, call: Call, facts: Facts, guard: Any = None) -> None:
        """`guard` is a pattern without which no `text` condition can hold; None if there is none."""
        self.call = call
        self.facts = facts
        self._guard = guard
        self._suspicious: bool | None = None
        self._text: str | None = None
        self._utf8: bytes | None = None
        self._prompt_tokens: int | None = None
        self._readable: bytes | None = None
        self._found: dict[Finder, bool | None] = {}
        self._languages: dict[Detector, frozenset[str]] = {}

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
    def readable(self) -> bytes:
        """The text as a reader sees it, see `findings.readable`."""
        if self._readable is None:
            self._readable = self.utf8 if self.text.isascii() else readable(self.text)
        return self._readable

    def finds(self, finder: Finder, *, doubt: bool) -> bool:
        """Whether `finder` finds something; `doubt` if that takes too long to tell."""
        if finder not in self._found:
            self._found[finder] = finder.found(self.readable)
        found = self._found[finder]
        return doubt if found is None else found

    def languages(self, detector: Detector) -> frozenset[str]:
        """What its user writes in, as far as `detector` can tell."""
        if detector not in self._languages:
            self._languages[detector] = detector.languages(said_by_the_user(self.call))
        return self._languages[detector]

    @property
    def prompt_tokens(self) -> int:
        """The prompt's size, estimated from lengths alone."""
        if self._prompt_tokens is None:
            self._prompt_tokens = prompt_tokens(self.call, self.text)
        return self._prompt_tokens


def everything_written(call: Call) -> str:
    """All text that would leave the machine with a call, a line for each piece.

    More than the prompt: a secret in a tool's result, in a tool call's arguments, in a schema or in a
    field we only pass on is as private as one in a message; so is the name of a file.  Pictures, sound,
    files and prompts given as token ids cannot be read here; `has` and `operation` conditions are for those.
    """
    pieces: list[str] = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    for message in call.messages:
        pieces.extend(_of_message(message))
    pieces.extend(piece for piece in (call.query, call.suffix) if piece)
    pieces.extend(call.sampling.stop)
    pieces.extend(call.sampling.dry_sequence_breakers or ())
    pieces.extend(adapter.name for adapter in call.adapters)
    pieces.extend(upload.name for upload in call.uploads)
    pieces.extend(_of_ask(call))
    for rest in (call.tools, call.tool_choice, call.response_format, call.template_values, call.extra):
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
        yield tool_call.id
        yield tool_call.function.name
        yield tool_call.function.arguments
    if message.tool_call_id:
        yield message.tool_call_id


def _of_ask(call: Call) -> Iterator[str]:
    """What the client wrote into the details of its call: a format is one of few, and numbers say nothing."""
    if call.ask is None:
        return
    for name, value in asdict(call.ask).items():
        if value and isinstance(value, str) and name != "format":
            yield _entry(name, value)


def _entry(key: str, value: Any) -> str:
    """A line of a mapping: what `password` means shows only beside its value."""
    return f"{key}: {value}" if isinstance(value, str | int | float) else key


def _strings(value: Any) -> Iterator[str]:
    """Every string and number in parsed JSON, keys too.  A stack: JSON may nest deeper than calls may."""
    stack = [value]
    while stack:
        match stack.pop():
            case str() as text:
                yield text
            case dict() as mapping:
                stack.extend(_entry(key, value) for key, value in mapping.items())
                stack.extend(value for value in mapping.values() if isinstance(value, dict | list))
            case list() | tuple() as items:
                stack.extend(items)
            case int() | float() as number if not isinstance(number, bool):
                yield str(number)
            case _:
                pass
