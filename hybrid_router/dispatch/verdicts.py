"""Whether a condition held for a call of which not everything is known any more: yes, no, or nobody knows.

Three-valued logic (Kleene's): one known no makes a whole `all` a no, whatever the rest is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias

from msgspec.structs import replace

from hybrid_router.config.schema import Condition
from hybrid_router.core.call import Call
from hybrid_router.dispatch.features import OF_TEXT, Features, OfText, digest, one, wanted_of
from hybrid_router.routing.conditions import Predicate, compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.subject import Subject

Verdict: TypeAlias = bool | None


class Case:
    """A stored call before a policy.

    Attributes:
        features: what is known of it.
        spoken: its text is known too.
    """

    __slots__ = ("features", "spoken", "subject")

    def __init__(self, features: Features, call: Call, facts: Facts, *, spoken: bool) -> None:
        """`call` is the call as far as it can be made again."""
        self.features = features
        self.spoken = spoken
        self.subject = Subject(call, facts)


Judge: TypeAlias = Callable[[Case], Verdict]


def judge(condition: Condition, *, denied: bool = False) -> Judge:
    """What says whether `condition` held.

    Args:
        denied: it stands below a `not` (an odd number of them), see `routing.conditions`.
    """
    tests = tuple(_tests(condition, denied))
    return lambda case: every(test(case) for test in tests)


def every(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether all hold."""
    unknown = False
    for verdict in verdicts:
        if verdict is False:
            return False
        unknown |= verdict is None
    return None if unknown else True


def some(verdicts: Iterable[Verdict]) -> Verdict:
    """Whether at least one holds."""
    return _not(every(_not(verdict) for verdict in verdicts))


def _not(verdict: Verdict) -> Verdict:
    return None if verdict is None else not verdict


def _tests(condition: Condition, denied: bool) -> Iterator[Judge]:
    plain = replace(
        condition,
        any=None, all=None, not_=None,
        header=None,
        text=None, finds=None, files=None, language=None,
    )  # fmt: skip
    if plain != Condition():
        yield _known(compiled(plain))
    for name, pattern in (condition.header or {}).items():
        yield _header(name.lower(), compiled(Condition(header={name: pattern}), denied=denied))
    for key in OF_TEXT:
        if wanted := wanted_of(condition, key):
            yield _any_of(tuple(_in_text(key, each, denied) for each in wanted))
    if condition.not_ is not None:
        yield _denied(judge(condition.not_, denied=not denied))
    yield from (judge(inner, denied=denied) for inner in condition.all or ())
    if condition.any is not None:
        yield _any_of(tuple(judge(inner, denied=denied) for inner in condition.any))


def _known(test: Predicate) -> Judge:
    return lambda case: bool(test(case.subject))


def _denied(test: Judge) -> Judge:
    return lambda case: _not(test(case))


def _any_of(tests: tuple[Judge, ...]) -> Judge:
    return lambda case: some(test(case) for test in tests)


def _header(name: str, test: Predicate) -> Judge:
    """A header that came and whose value nobody looked at then may match or not."""

    def verdict(case: Case) -> Verdict:
        if name in case.features.header_names and name not in case.features.headers:
            return None
        return bool(test(case.subject))

    return verdict


def _in_text(key: OfText, wanted: str, denied: bool) -> Judge:
    """What is looked for in text: look, or remember what was found when it was looked for."""
    name, test = digest(key, wanted, denied=denied), compiled(one(key, wanted), denied=denied)

    def verdict(case: Case) -> Verdict:
        return bool(test(case.subject)) if case.spoken else case.features.judged.get(name)

    return verdict
