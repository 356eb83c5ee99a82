"""Calls for which a rule holds, made from the rule's condition.

What is made is tried on the policy afterwards, so this may be wrong, but not for long.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.config.schema import Above, Condition
from hybrid_router.drill import samples
from hybrid_router.drill.pattern import examples
from hybrid_router.routing.conditions import minute_of_day
from hybrid_router.routing.estimate import ASCII_PER_TOKEN

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_PATHS = {"chat": CHAT, "complete": COMPLETIONS}
_MARGIN_TOKENS = 64
_EXAMPLES_COUNT = 6
_SAID = "Tell me something."
_PICTURE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAA"
    "DUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up.",
        "parameters": {"type": "object", "properties": {"what": {"type": "string", "description": "it"}}},
    },
}
_SCHEMA = {"name": "answer", "schema": {"type": "object", "properties": {"answer": {"type": "string"}}}}


class Sketch(Struct, frozen=True, kw_only=True):
    """What a call shall be like.

    Attributes:
        path: None: it does not matter, so chat.
        key: name of the caller's key; None: it does not matter.
        texts: the prompt's lines.
        tokens_count: the prompt is filled up to so many, estimated.
        minute: of the day at which it is made; None: now.
    """

    alias: str
    stream: bool = True
    path: str | None = None
    key: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    texts: tuple[str, ...] = ()
    tokens_count: int = 0
    has: frozenset[str] = frozenset()
    minute: int | None = None

    def body(self) -> bytes:
        """The request's body."""
        text = "\n".join(self.texts or (_SAID,))
        missing_count = self.tokens_count * ASCII_PER_TOKEN - len(text)
        if missing_count > 0:
            text += "\n" + "word " * (missing_count // len("word ") + 1)
        fields = self._features() | {"model": self.alias, "stream": self.stream}
        if self.path == COMPLETIONS:
            return msgspec.json.encode({**fields, "prompt": text})
        content: Any = [{"type": "text", "text": text}, *self._parts()] if self._parts() else text
        return msgspec.json.encode({**fields, "messages": [{"role": "user", "content": content}]})

    def _features(self) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        if "tools" in self.has:
            fields["tools"] = [_TOOL]
        if "schema" in self.has:
            fields["response_format"] = {"type": "json_schema", "json_schema": _SCHEMA}
        if "grammar" in self.has:
            fields["regex"] = "[a-z ]+"
        if "infill" in self.has:
            fields["suffix"] = "the end"
        if "adapters" in self.has:
            fields["lora"] = [{"name": "any"}]
        if "logprobs" in self.has:
            fields["logprobs"] = 1 if self.path == COMPLETIONS else True
        return fields

    def _parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = []
        if "images" in self.has:
            parts.append({"type": "image_url", "image_url": {"url": _PICTURE}})
        if "audio" in self.has:
            parts.append({"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}})
        return parts


Need: TypeAlias = Callable[[Sketch], Iterator[Sketch]]


def ways(condition: Condition, sketch: Sketch) -> Iterator[Sketch]:
    """`sketch` changed so that `condition` may hold, in different ways; none if it cannot."""
    return _met(list(_needs(condition)), sketch)


def _met(needs: list[Need], sketch: Sketch) -> Iterator[Sketch]:
    if not needs:
        yield sketch
        return
    for one in needs[0](sketch):
        yield from _met(needs[1:], one)


def _needs(condition: Condition) -> Iterator[Need]:
    """One for each key of a condition."""
    yield from _of_the_request(condition)
    yield from _of_the_text(condition)
    if condition.any is not None:
        yield _some(condition.any)
    for inner in condition.all or ():
        yield from _needs(inner)
    if condition.not_ is not None:
        yield _without(condition.not_)


def _of_the_request(condition: Condition) -> Iterator[Need]:
    if condition.alias is not None:
        yield _alias(condition.alias)
    if condition.operation is not None:
        yield _path(tuple(_PATHS[operation] for operation in condition.operation if operation in _PATHS))
    if condition.path is not None:
        yield _path(condition.path)
    if condition.key is not None:
        yield _key(condition.key)
    if condition.has is not None:
        yield _has(condition.has)
    if condition.time is not None:
        yield _time(condition.time)
    for name, pattern in (condition.header or {}).items():
        yield _header(name.lower(), pattern)


def _of_the_text(condition: Condition) -> Iterator[Need]:
    if condition.language is not None:
        written = [samples.written_in(language) for language in condition.language]
        yield _said(text for text in written if text)
    if condition.text is not None:
        yield _said(text for pattern in condition.text for text in islice(examples(pattern), _EXAMPLES_COUNT))
    if condition.finds is not None:
        yield _said(samples.found_as(kind) for kind in condition.finds)
    if condition.files is not None:
        yield _said(f"Look at {samples.file_like(glob)} please." for glob in condition.files)
    if condition.prompt_tokens is not None:
        yield _sized(condition.prompt_tokens)


def _alias(names: tuple[str, ...]) -> Need:
    return lambda sketch: iter([sketch] if sketch.alias in names else [])


def _path(paths: tuple[str, ...]) -> Need:
    def met(sketch: Sketch) -> Iterator[Sketch]:
        for path in paths:
            if path in _PATHS.values() and sketch.path in {None, path}:
                yield replace(sketch, path=path)

    return met


def _key(names: tuple[str, ...]) -> Need:
    def met(sketch: Sketch) -> Iterator[Sketch]:
        for name in names:
            if sketch.key in {None, name}:
                yield replace(sketch, key=name)

    return met


def _has(features: tuple[str, ...]) -> Need:
    return lambda sketch: iter([replace(sketch, has=sketch.has | set(features))])


def _time(window: str) -> Need:
    begin, end = (minute_of_day(clock) for clock in window.split("-"))

    def met(sketch: Sketch) -> Iterator[Sketch]:
        minutes = (begin, (end - 1) % 1440) if sketch.minute is None else (sketch.minute,)
        for minute in minutes:
            if within(window, minute):
                yield replace(sketch, minute=minute)

    return met


def within(window: str, minute: int) -> bool:
    """Whether a minute of the day lies in `22:00-06:30`."""
    begin, end = (minute_of_day(clock) for clock in window.split("-"))
    return begin <= minute < end if begin < end else not end <= minute < begin


def _header(name: str, pattern: str) -> Need:
    def met(sketch: Sketch) -> Iterator[Sketch]:
        others = tuple(header for header in sketch.headers if header[0] != name)
        if len(others) < len(sketch.headers):
            yield sketch
        for value in islice(examples(pattern), _EXAMPLES_COUNT):
            if value.isprintable() and value == value.strip():
                yield replace(sketch, headers=(*others, (name, value)))

    return met


def _said(texts: Iterable[str]) -> Need:
    found = list(dict.fromkeys(texts))

    def met(sketch: Sketch) -> Iterator[Sketch]:
        if sketch.texts:
            yield sketch
        for text in found:
            yield replace(sketch, texts=(*sketch.texts, text))

    return met


def _sized(size: Above) -> Need:
    def met(sketch: Sketch) -> Iterator[Sketch]:
        if size.above is None:
            yield sketch
            return
        room_count = _MARGIN_TOKENS if size.below is None else (size.below - size.above) // 2
        yield replace(
            sketch, tokens_count=max(sketch.tokens_count, size.above + min(room_count, _MARGIN_TOKENS))
        )

    return met


def _some(conditions: tuple[Condition, ...]) -> Need:
    def met(sketch: Sketch) -> Iterator[Sketch]:
        for inner in conditions:
            yield from ways(inner, sketch)

    return met


def _without(condition: Condition) -> Need:
    """Most calls are not what a `not` denies; where they are, the other way round is tried."""

    def met(sketch: Sketch) -> Iterator[Sketch]:
        yield sketch
        if condition.not_ is not None:
            yield from ways(condition.not_, sketch)
        if condition.prompt_tokens is not None and condition.prompt_tokens.below is not None:
            yield replace(sketch, tokens_count=condition.prompt_tokens.below + _MARGIN_TOKENS)
        if condition.time is not None:
            yield replace(sketch, minute=minute_of_day(condition.time.partition("-")[2]))
        if sketch.path is None:
            yield replace(sketch, path=COMPLETIONS)
        for name in condition.header or {}:
            yield replace(sketch, headers=(*sketch.headers, (name.lower(), "something-else")))

    return met
