"""Typed conditions → predicates.  Patterns compile once, when the policy does; cheap tests come first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

import re2

from hybrid_router.config.schema import Above, Condition
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.language import detector
from hybrid_router.routing import file_names
from hybrid_router.routing.findings import finder, kinds_of
from hybrid_router.routing.subject import Subject

Predicate: TypeAlias = Callable[[Subject], bool]

_FROM_PICTURES = frozenset({Feature.IMAGE_INPUT, Feature.INPAINTING})


def compiled(condition: Condition, *, denied: bool = False) -> Predicate:
    """A predicate that holds when every key of `condition` holds; of an empty one, always.

    Args:
        denied: the condition stands below a `not` (an odd number of them), see `_headers` and `_finds`.
    """
    tests = tuple(_tests(condition, denied))
    if len(tests) == 1:
        return tests[0]
    return lambda subject: all(test(subject) for test in tests)


def _tests(condition: Condition, denied: bool) -> Iterator[Predicate]:
    """One predicate for each key that is set, the cheap ones first."""
    yield from _of_the_call(condition)
    if condition.header is not None:
        yield _headers(condition.header, _every_value_matches if denied else _some_value_matches)
    yield from _nested(condition, denied)
    if condition.prompt_tokens is not None:
        yield _size(condition.prompt_tokens)
    if condition.files is not None:
        yield _files(condition.files)
    if condition.text is not None:
        yield _text(condition.text)
    if condition.finds is not None:
        yield _finds(condition.finds, denied)
    if condition.language is not None:
        yield _language(condition.language)


def _of_the_call(condition: Condition) -> Iterator[Predicate]:
    """Tests that cost next to nothing."""
    if condition.alias is not None:
        yield _alias(frozenset(condition.alias))
    if condition.operation is not None:
        yield _operation(frozenset(Operation(name) for name in condition.operation))
    if condition.key is not None:
        yield _key(frozenset(condition.key))
    if condition.path is not None:
        yield _path(frozenset(condition.path))
    if condition.has is not None:
        yield _has(frozenset(Feature(name) for name in condition.has))
    if condition.time is not None:
        yield _time(condition.time)


def _nested(condition: Condition, denied: bool) -> Iterator[Predicate]:
    if condition.not_ is not None:
        yield _negated(compiled(condition.not_, denied=not denied))
    if condition.all is not None:
        yield _every(tuple(compiled(inner, denied=denied) for inner in condition.all))
    if condition.any is not None:
        yield _some(tuple(compiled(inner, denied=denied) for inner in condition.any))


def _negated(test: Predicate) -> Predicate:
    return lambda subject: not test(subject)


def _every(tests: tuple[Predicate, ...]) -> Predicate:
    return lambda subject: all(test(subject) for test in tests)


def _some(tests: tuple[Predicate, ...]) -> Predicate:
    return lambda subject: any(test(subject) for test in tests)


def _alias(names: frozenset[str]) -> Predicate:
    return lambda subject: subject.call.alias in names


def _operation(operations: frozenset[Operation]) -> Predicate:
    return lambda subject: subject.call.operation in operations


def _key(names: frozenset[str]) -> Predicate:
    return lambda subject: subject.call.principal in names


def _path(paths: frozenset[str]) -> Predicate:
    return lambda subject: subject.call.path in paths


def _has(features: frozenset[Feature]) -> Predicate:
    return lambda subject: features <= brought(subject.call)


def brought(call: Call) -> frozenset[Feature]:
    """What a call carries: what a step must be able to do for it, and pictures and sound that come as files.

    Told by the operation too: a call that is only explained, or planned again, has its files no more.
    """
    if call.operation is Operation.TRANSCRIBE:
        return call.features | {Feature.AUDIO}
    pictured = call.operation is Operation.CLASSIFY and not call.prompts
    if call.uploads or pictured or not _FROM_PICTURES.isdisjoint(call.features):
        return call.features | {Feature.IMAGES}
    return call.features


def _time(window: str) -> Predicate:
    """`22:00-06:30`: the first minute counts, the last does not; it may pass midnight."""
    begin, end = (minute_of_day(clock) for clock in window.split("-"))
    if begin < end:
        return lambda subject: begin <= subject.facts.minute_of_day < end
    return lambda subject: not end <= subject.facts.minute_of_day < begin


def minute_of_day(clock: str) -> int:
    """Minutes since midnight of `06:30`."""
    hours, minutes = clock.split(":")
    return int(hours) * 60 + int(minutes)


def _headers(patterns: dict[str, str], matches: Callable[[Any, str], bool]) -> Predicate:
    """Every named header is there and matches as a whole.

    A header that is sent several times has several values.  One of them is enough, and below a `not` one
    that does not match is enough: a header that comes on top never takes a call out of a rule, so that
    nothing can be added to a private call that lets it leave.
    """
    wanted = tuple((name.lower(), pattern(text)) for name, text in patterns.items())

    def test(subject: Subject) -> bool:
        headers = subject.call.headers
        return all(name in headers and matches(whole, headers[name]) for name, whole in wanted)

    return test


def _some_value_matches(whole: Any, text: str) -> bool:
    """Whether one value matches, or all of them as they stand: a comma may belong to the value."""
    return any(whole.fullmatch(value) for value in (text.encode("utf-8", "replace"), *_values(text)))


def _every_value_matches(whole: Any, text: str) -> bool:
    return all(whole.fullmatch(value) for value in _values(text))


def _values(text: str) -> Iterator[bytes]:
    """The values of a header: several lines and one with commas mean the same (RFC 9110, section 5.3)."""
    return (value.strip(b" \t") for value in text.encode("utf-8", "replace").split(b","))


def _size(size: Above) -> Predicate:
    def test(subject: Subject) -> bool:
        count = subject.prompt_tokens
        return (size.above is None or count > size.above) and (size.below is None or count < size.below)

    return test


def _text(patterns: tuple[str, ...]) -> Predicate:
    found = tuple(pattern(text) for text in patterns)
    return lambda subject: subject.suspicious and any(one.search(subject.utf8) for one in found)


def _files(globs: tuple[str, ...]) -> Predicate:
    names = file_names.named(globs)
    return lambda subject: names.search(subject.readable) is not None


def _finds(names: tuple[str, ...], denied: bool) -> Predicate:
    """A finding of one of these kinds.

    What is too much to be checked may be one: then the condition holds, and below a `not` it does not.  So
    the rule holds either way: nobody hides something from a rule by a flood.
    """
    looking = finder(kinds_of(names))
    return lambda subject: subject.finds(looking, doubt=not denied)


def _language(names: tuple[str, ...]) -> Predicate:
    wanted = frozenset(names)
    told = detector(wanted)  # loads the model now, and not when the first call waits
    return lambda subject: not wanted.isdisjoint(subject.languages(told))


def text_patterns(condition: Condition) -> Iterator[str]:
    """Every `text` pattern in a condition, however deep."""
    yield from condition.text or ()
    for inner in (*(condition.any or ()), *(condition.all or ())):
        yield from text_patterns(inner)
    if condition.not_ is not None:
        yield from text_patterns(condition.not_)


def guard(patterns: Iterable[str]) -> Any:
    """One pattern that is found wherever any of `patterns` is, or None if they do not fit into one.

    Looking for fifty costs RE2 what looking for one does: a prompt in which nothing is to be found, as
    nearly all are, is read once.
    """
    texts = tuple(dict.fromkeys(patterns))
    if any(r"\Q" in text for text in texts):
        return None  # quoting that is left open would swallow the pattern that follows
    try:
        return pattern("|".join(f"(?:{text})" for text in texts))
    except re2.error:
        return None


def pattern(text: str) -> Any:
    """A compiled pattern that reads UTF-8 bytes, so that a text is encoded once, not once a pattern."""
    options = re2.Options()
    options.log_errors = False
    return re2.compile(text.encode(), options)
