"""Redaction for clouds: what a policy wants kept here leaves as placeholders, and comes back as itself.

Everything of a call that would leave is searched: messages, prompts, tools, forms, fields that are passed
on, and what the client has of an answer already.  A value that is found once is replaced wherever it stands,
always by the same placeholder.  Fail-closed: what cannot be searched, or still holds a finding after all,
does not leave.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from typing import Any, TypeAlias

import msgspec
import re2
from msgspec import structs
from msgspec.structs import replace

from hybrid_router.core.asks import Ask, Painting
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import (
    Call,
    FunctionCall,
    Message,
    Part,
    RefusalPart,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.core.errors import PrefillRefused, RedactionImpossible
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.dispatch.restoring import Restorer
from hybrid_router.routing.findings import Effort, Finder, Flood, Span, finder, kinds_of, united

_NAMES = {
    "api_keys": "API_KEY",
    "private_keys": "PRIVATE_KEY",
    "tokens": "TOKEN",
    "emails": "EMAIL",
    "phones": "PHONE",
    "cards": "CARD",
    "ibans": "IBAN",
}
_TAKEN = re.compile(rf"(?:{'|'.join(_NAMES.values())})_[0-9]+")
_DEEPEST = 100
_MOST_CHARS = 2 * 2**20
_MOST_VALUES = 1_000
_MOST_VALUES_CHARS = 65_536
_PATTERN_BYTES = 128 * 2**20
_TELLING_CHARS = 2  # less of a value than this says nothing of it

Change: TypeAlias = Callable[[str, str], str]  # a text, and the name it is given; an empty one if none


async def run(backend: Backend, call: Call, step: Step, kinds: Iterable[str]) -> AsyncGenerator[Batch]:
    """As `backend.run`, without findings of `kinds` (as `redact` names them) leaving.

    Raises:
        RedactionImpossible: before anything has left.
        PrefillRefused: what the answer begins with ends within something that is redacted.
    """
    asked, restorer = redacted(call, kinds)
    async with aclosing(backend.run(asked, step)) as batches:
        async for batch in batches:
            if shown := restorer.feed(batch):
                yield shown
    if rest := restorer.end():
        yield rest


def redacted(call: Call, kinds: Iterable[str]) -> tuple[Call, Restorer]:
    """`call` as a cloud may see it, and what puts the values back into its answer.

    Raises:
        RedactionImpossible: it holds what cannot be searched or replaced.
        PrefillRefused: what the answer begins with ends within something that is redacted.
    """
    search = _Search(finder(kinds_of(kinds)))
    try:
        changed(call, search.note)
        values = _Values(search)
        without = changed(replace(call, headers={}), values.replaced)
        changed(without, _Search(search.finder).refuse)
    except Flood as error:
        raise RedactionImpossible("the call holds too much to be searched") from error
    except UnicodeEncodeError as error:
        raise RedactionImpossible("the call holds what is no Unicode") from error
    _check_begun((call.messages[-1].text if call.goes_on else "") + call.written, values)
    _check_stops(without.sampling.stop, values)
    form = call.response_format
    return without, Restorer(values.by_name, json_text=form is not None and form.get("type") != "text")


class _Search:
    """Looks through texts, each once, and remembers what was found."""

    def __init__(self, finder: Finder) -> None:
        self.finder = finder
        self.found: dict[str, str] = {}  # value → kind, in the order of the call
        self.taken: set[str] = set()  # what looks like a placeholder's name already
        self._effort = Effort()
        self._left_chars = _MOST_CHARS
        self._spans: dict[tuple[str, str], list[Span]] = {}

    def note(self, text: str, name: str) -> str:
        """Remember what is found in a text."""
        for begin, end, kind in self.spans(text, name):
            self.found.setdefault(text[begin:end], kind)
        if any(word in text for word in _NAMES.values()):
            self.taken.update(_TAKEN.findall(text))
        return text

    def refuse(self, text: str, name: str) -> str:
        """Find nothing.

        Raises:
            RedactionImpossible: there is something.
        """
        if self.spans(text, name):
            raise RedactionImpossible("something in the call cannot be redacted where it stands")
        return text

    def spans(self, text: str, name: str) -> list[Span]:
        """What is found in a text of this name.

        Raises:
            Flood: too much was searched already.
        """
        known = self._spans.get((text, name))
        if known is None:
            self._left_chars -= len(text)
            if self._left_chars < 0:
                raise Flood
            known = self._spans[text, name] = self._searched(text, name)
        return known

    def _searched(self, text: str, name: str) -> list[Span]:
        spans = self.finder.spans(text, self._effort)
        if not name:
            return spans
        # `password` tells what its value is, all of it.
        head = f"{name}: "
        beside = self.finder.spans(head + text, self._effort)
        if any(span.end > len(head) and span.kind == "tokens" for span in beside):
            return [Span(0, len(text), "tokens")]
        return spans


class _Values:
    """What was found in a call, and the placeholder of each."""

    def __init__(self, search: _Search) -> None:
        self.by_name: dict[str, str] = {}
        self._search = search
        self._marks: dict[str, str] = {}
        self._count: dict[str, int] = {}
        for value, kind in search.found.items():
            self._mark(value, kind)
        self._literal = _any_of(search.found)

    def replaced(self, text: str, name: str) -> str:
        """`text` with placeholders for what was found in it, and for what was found elsewhere."""
        spans = self._search.spans(text, name)
        if self._literal is not None:
            elsewhere = [
                Span(found.start(), found.end(), self._search.found[found[0]])
                for found in self._literal.finditer(text)
            ]
            spans = united(sorted([*spans, *elsewhere]))
        pieces, at = [], 0
        for begin, end, kind in spans:
            pieces += [text[at:begin], self._mark(text[begin:end], kind)]
            at = end
        return "".join([*pieces, text[at:]])

    def _mark(self, value: str, kind: str) -> str:
        """The placeholder of a value."""
        mark = self._marks.get(value)
        if mark is None:
            name = self._fresh(_NAMES[kind])
            self.by_name[name] = value
            mark = self._marks[value] = f"<{name}>"
        return mark

    def _fresh(self, word: str) -> str:
        while True:
            self._count[word] = self._count.get(word, 0) + 1
            name = f"{word}_{self._count[word]}"
            if name not in self._search.taken:
                return name


def _any_of(values: Iterable[str]) -> Any:
    """A pattern of these values, the longest where several begin; None of none.

    Raises:
        RedactionImpossible: they are too many.
    """
    texts = [re2.escape(value) for value in values]
    if not texts:
        return None
    if len(texts) > _MOST_VALUES or sum(map(len, texts)) > _MOST_VALUES_CHARS:
        raise RedactionImpossible("the call holds too much that is to be redacted")
    options = re2.Options()
    options.longest_match = True
    options.max_mem = _PATTERN_BYTES
    return re2.compile("|".join(texts), options)


def changed(call: Call, change: Change) -> Call:
    """`call` with `change` made to every text that would leave with it.

    Raises:
        RedactionImpossible: it holds what is no text, or a name would change that has to be a name.
    """
    if not all(isinstance(prompt, str) for prompt in call.prompts):
        raise RedactionImpossible("a prompt given as token ids cannot be searched")
    if any(change(adapter.name, "") != adapter.name for adapter in call.adapters):
        raise RedactionImpossible("the name of an adapter holds what is to be redacted")
    if call.uploads:
        raise RedactionImpossible("a file cannot be searched")
    return replace(
        call,
        ask=None if call.ask is None else _ask(call.ask, change),
        messages=tuple(_message(message, change) for message in call.messages),
        prompts=tuple(change(prompt, "") for prompt in call.prompts if isinstance(prompt, str)),
        query=change(call.query, ""),
        suffix=_maybe(call.suffix, change),
        template_values=_json(call.template_values, change),
        sampling=_sampling(call.sampling, change),
        tools=tuple(_named(tool, "function", change) for tool in call.tools),
        tool_choice=_json(call.tool_choice, change),
        response_format=_named(call.response_format, "json_schema", change),
        extra=_json(call.extra, change),
        session=_maybe(call.session, change),
        written=change(call.written, ""),
    )


def _ask(ask: Ask, change: Change) -> Ask:
    """Of its details the one that is a text; the others are names."""
    for name, value in structs.asdict(ask).items():
        if isinstance(value, str) and name != "negative" and change(value, "") != value:
            raise RedactionImpossible(f"the {name} holds what is to be redacted")
    return replace(ask, negative=change(ask.negative, "")) if isinstance(ask, Painting) else ask


def _sampling(sampling: Sampling, change: Change) -> Sampling:
    breakers = sampling.dry_sequence_breakers
    return replace(
        sampling,
        stop=tuple(change(stop, "") for stop in sampling.stop),
        dry_sequence_breakers=None if breakers is None else tuple(change(one, "") for one in breakers),
    )


def _message(message: Message, change: Change) -> Message:
    return replace(
        message,
        content=None if message.content is None else change(_content(message.content), ""),
        name=_maybe(message.name, change),
        tool_calls=None
        if message.tool_calls is None
        else [_tool_call(one, change) for one in message.tool_calls],
        tool_call_id=_maybe(message.tool_call_id, change),
        reasoning_content=_maybe(message.reasoning_content, change),
    )


def _maybe(text: str | None, change: Change) -> str | None:
    return None if text is None else change(text, "")


def _content(content: str | list[Part]) -> str:
    """A message's text in one piece: what is split between two parts would be found in neither."""
    if isinstance(content, str):
        return content
    return "".join(_text(part) for part in content)


def _text(part: Part) -> str:
    match part:
        case TextPart(text=text) | RefusalPart(refusal=text):
            return text
        case _:
            kind = type(part).__struct_config__.tag
            raise RedactionImpossible(f"a message holds a part of type `{kind}`, which cannot be searched")


def _tool_call(tool_call: ToolCall, change: Change) -> ToolCall:
    function = tool_call.function
    if change(function.name, "") != function.name:
        raise RedactionImpossible("the name of a function that was called holds what is to be redacted")
    arguments = FunctionCall(function.name, _arguments(function.arguments, change))
    return replace(tool_call, id=change(tool_call.id, ""), function=arguments)


def _arguments(text: str, change: Change) -> str:
    """A string of JSON that stays one.  What is none is changed as the text it is."""
    try:
        parsed = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        if "\\u" in text:
            raise RedactionImpossible("a tool call's arguments are no JSON and hold escapes") from None
        return change(text, "")
    result = _json(parsed, change)
    written = text if result == parsed else msgspec.json.encode(result).decode()
    again = change(written, "")  # of a key that is there twice, only the last value was parsed
    if again != written and not _is_json(again):
        raise RedactionImpossible("a tool call's arguments would be no JSON any more")
    return again


def _is_json(text: str) -> bool:
    try:
        msgspec.json.decode(text)
    except msgspec.DecodeError:
        return False
    return True


def _named(value: Any, key: str, change: Change) -> Any:
    """A declaration with its parts changed, but not its name."""
    result = _json(value, change)
    if _name(result, key) != _name(value, key):
        raise RedactionImpossible(f"the name of a {key} holds what is to be redacted")
    return result


def _name(value: Any, key: str) -> Any:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner.get("name") if isinstance(inner, dict) else None


def _json(value: Any, change: Change, name: str = "", depth: int = 0) -> Any:
    """Parsed JSON with every text and number in it changed; a number that is redacted becomes a text."""
    if depth > _DEEPEST:
        raise RedactionImpossible("a field is nested too deeply to be searched")
    match value:
        case str():
            return change(value, name)
        case dict():
            return {change(key, ""): _json(inner, change, key, depth + 1) for key, inner in value.items()}
        case list() | tuple():
            return [_json(inner, change, name, depth + 1) for inner in value]
        case bool() | None:
            return value
        case _:
            written = str(value)
            result = change(written, name)
            return value if result == written else result


def _check_begun(begun: str, values: _Values) -> None:
    """Nobody goes on in the middle of a value: its first half would leave.

    Raises:
        PrefillRefused: the beginning of the answer ends within one.
    """
    for value in values.by_name.values():
        for count in range(_TELLING_CHARS, min(len(value) - 1, len(begun)) + 1):
            if begun.endswith(value[:count]):
                raise PrefillRefused("what the answer begins with ends within something that is redacted")


def _check_stops(stops: tuple[str, ...], values: _Values) -> None:
    """An answer stops at the client's stop strings, not within a placeholder or for what it stands for.

    Raises:
        RedactionImpossible: it might.
    """
    for name, value in values.by_name.items():
        mark = f"<{name}>"
        for stop in stops:
            within = stop != mark and (stop in mark or stop in value)
            if within or stop.endswith("<") or stop.startswith(">"):
                raise RedactionImpossible("a stop string is part of something that is redacted")
