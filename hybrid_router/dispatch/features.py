"""What is kept of a call: enough to plan it again under another policy, and nothing that it says."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from hybrid_router.config.schema import Condition, Config
from hybrid_router.core.asks import Ask
from hybrid_router.core.call import Call, Feature, Message, Operation, RefusalPart, TextPart
from hybrid_router.core.secret import SECRET_HEADERS
from hybrid_router.routing.conditions import Predicate, compiled, guard, text_patterns
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.findings import kinds_of
from hybrid_router.routing.subject import Subject

OfText: TypeAlias = Literal["text", "finds", "files", "language"]
OF_TEXT: tuple[OfText, ...] = ("text", "finds", "files", "language")
# They prove who asks.  No rule sees them; a header of this kind is not even named here.
_MOST_HEADERS = 128
_LONGEST_NAME = 64  # as long as a rule can name one


class Features(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Everything that a policy may look at, without the call's text.

    Attributes:
        headers: those that the policy's rules looked at, by name.
        header_names: those that came; of the others nobody knows the value any more.
        minute_of_day, weekday: local time; Monday is 0.
        judged: what conditions on the text said, by `digest`.
    """

    operation: Operation
    alias: str
    principal: str
    prompt_tokens: int
    minute_of_day: int
    weekday: int
    path: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    header_names: tuple[str, ...] = ()
    message_count: int = 0
    has: tuple[Feature, ...] = ()
    choices_count: int = 1
    max_tokens: int | None = None
    stream: bool = False
    deadline_s: float | None = None
    max_cost_usd: float | None = None
    judged: dict[str, bool] = field(default_factory=dict)


class Words(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call's text, for `store.prompts`: all that conditions read.  Pictures, sound and files stay out.

    A prompt that is a number stood for so many token ids.  Of `uploads` their names.
    """

    messages: tuple[Message, ...] = ()
    prompts: tuple[str | int, ...] = ()
    stop: tuple[str, ...] = ()
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    response_format: dict[str, Any] | None = None
    query: str = ""
    suffix: str | None = None
    template_values: dict[str, Any] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    ask: Ask | None = None
    uploads: tuple[str, ...] = ()


class Sought(Struct, frozen=True, kw_only=True):
    """What the rules of a policy look for in calls.

    Attributes:
        headers: names in lower case.
        tests: digest → whether that condition on the text holds.
        guard: found wherever any `text` pattern is; see `routing.policy.Policy`.
    """

    headers: frozenset[str] = frozenset()
    tests: dict[str, Predicate] = field(default_factory=dict)
    guard: Any = None


def sought(config: Config) -> Sought:
    """What a configuration's rules look for."""
    conditions = [leaf for rule in config.rules for leaf in _every(rule.when, denied=False)]
    return Sought(
        headers=frozenset(name.lower() for leaf, _ in conditions for name in leaf.header or ())
        - SECRET_HEADERS,
        tests={
            digest(key, wanted, denied=denied): compiled(one(key, wanted), denied=denied)
            for leaf, denied in conditions
            for key in OF_TEXT
            for wanted in wanted_of(leaf, key)
        },
        guard=guard(text for rule in config.rules for text in text_patterns(rule.when)),
    )


def wanted_of(condition: Condition, key: OfText) -> tuple[str, ...]:
    """What a condition looks for in text, any of which is enough.

    Groups of findings stand by their members.  Languages are told by comparing all that are wanted, so they
    are one thing.
    """
    wanted: tuple[str, ...] = getattr(condition, key) or ()
    if key == "finds":
        return tuple(sorted(kinds_of(wanted)))
    return (",".join(sorted(wanted)),) if key == "language" and wanted else wanted


def digest(key: OfText, wanted: str, *, denied: bool) -> str:
    """Names one thing that a rule looks for in text.

    A pattern may say as much as what it finds (a project's name, a customer's), so it is not kept itself.

    Args:
        denied: it stands below a `not`, where a finding that is in doubt counts the other way.
    """
    sign = "not " if denied and key == "finds" else ""
    return hashlib.blake2b(f"{sign}{key}:{wanted}".encode(), digest_size=6).hexdigest()


def one(key: OfText, wanted: str) -> Condition:
    """The condition that looks for this alone."""
    return replace(Condition(), **{key: tuple(wanted.split(",")) if key == "language" else (wanted,)})


def features(call: Call, prompt_tokens: int, at_s: float, looks_for: Sought) -> Features:
    """What is kept of `call`.  Reads its text if rules do; for a thread.

    Args:
        at_s: when it came, Unix time.
    """
    names = [name for name in call.headers if name not in SECRET_HEADERS and len(name) <= _LONGEST_NAME]
    local = time.localtime(at_s)
    return Features(
        operation=call.operation,
        alias=call.alias,
        principal=call.principal,
        prompt_tokens=prompt_tokens,
        minute_of_day=local.tm_hour * 60 + local.tm_min,
        weekday=local.tm_wday,
        path=call.path,
        headers={name: call.headers[name] for name in names if name in looks_for.headers},
        header_names=tuple(names[:_MOST_HEADERS]),
        message_count=len(call.messages),
        has=tuple(sorted(call.features)),
        choices_count=call.choices_count,
        max_tokens=call.sampling.max_tokens,
        stream=call.stream,
        deadline_s=call.deadline_s,
        max_cost_usd=call.max_cost_usd,
        judged=judged(call, looks_for),
    )


def judged(call: Call, looks_for: Sought) -> dict[str, bool]:
    """What each condition on the text says of `call`."""
    if not looks_for.tests:
        return {}
    subject = Subject(call, Facts(), looks_for.guard)
    return {name: bool(holds(subject)) for name, holds in looks_for.tests.items()}


def words(call: Call) -> Words:
    """The call's text."""
    return Words(
        messages=tuple(_readable(message) for message in call.messages),
        prompts=tuple(prompt if isinstance(prompt, str) else len(prompt) for prompt in call.prompts),
        stop=call.sampling.stop,
        tools=call.tools,
        tool_choice=call.tool_choice,
        response_format=call.response_format,
        query=call.query,
        suffix=call.suffix,
        template_values=call.template_values,
        extra=call.extra,
        ask=call.ask,
        uploads=tuple(upload.name for upload in call.uploads),
    )


def _readable(message: Message) -> Message:
    """A message without what cannot be read as text."""
    if not isinstance(message.content, list):
        return message
    return replace(
        message, content=[part for part in message.content if isinstance(part, TextPart | RefusalPart)]
    )


def _every(condition: Condition, *, denied: bool) -> Iterator[tuple[Condition, bool]]:
    """A condition and all inside it, and whether they stand below a `not`."""
    yield condition, denied
    for inner in (*(condition.any or ()), *(condition.all or ())):
        yield from _every(inner, denied=denied)
    if condition.not_ is not None:
        yield from _every(condition.not_, denied=not denied)
