"""Which calls a policy is drilled with: for each alias a streamed and a plain one, and one for each rule."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TypeAlias

from msgspec import Struct, field
from msgspec.structs import replace

from hybrid_router.api.openai import chat_request, completion_request
from hybrid_router.config.check import KINDS, NO_KEY
from hybrid_router.config.cloud_schema import is_local
from hybrid_router.config.schema import Condition, Config, Rule
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.core.step import Plan
from hybrid_router.drill.sketch import CHAT, COMPLETIONS, Sketch, ways, within
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, compile_policy

_MOST_WAYS = 300
FactsOf: TypeAlias = Callable[[Policy], Facts]
_NEVER = Condition(not_=Condition())


class Route(Struct, kw_only=True):
    """Calls that the policy treats alike.

    Attributes:
        kinds: what they are: `streamed`, `plain`, and the rules that were to hold.
        private: the rule that keeps them at home.
        config: the user's, with the time of day settled.
    """

    alias: str
    kinds: list[str]
    sketch: Sketch
    plan: Plan
    config: Config
    private: str | None = None


class Undrilled(Struct, frozen=True, kw_only=True):
    """A rule for which no call could be made."""

    rule: str
    private: bool


class Routes(Struct, kw_only=True):
    """What is drilled, and what cannot be."""

    routes: list[Route] = field(default_factory=list)
    undrilled: list[Undrilled] = field(default_factory=list)


class Wanted(Struct, frozen=True, kw_only=True):
    """What the caller of the drill adds to calls whose rule cannot be met otherwise."""

    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""


def is_private(rule: Rule, config: Config) -> bool:
    """Whether a rule keeps calls on this machine."""
    if rule.local_only:
        return True
    return bool(rule.only) and all(_is_local(target, config) for target in rule.only or ())


def _is_local(target: str, config: Config) -> bool:
    if target in KINDS:
        return target == "local"
    backend = config.backends.get(target.partition("/")[0])
    return backend is not None and is_local(backend)


def routes(config: Config, facts: FactsOf, aliases: Iterable[str], wanted: Wanted) -> Routes:
    """Every route of `aliases`; calls that are treated alike are one, private ones stand alone.

    Args:
        facts: what is known when a call comes.
    """
    found = Routes()
    maker = _Maker(config, facts)
    made: set[str] = set()
    for alias in aliases:
        known: list[Route] = []
        for kind, sketch in (("streamed", Sketch(alias=alias)), ("plain", Sketch(alias=alias, stream=False))):
            known.append(maker.route(kind, sketch))
        for rule in config.rules:
            route = maker.of_rule(rule, alias, wanted)
            if route is not None:
                made.add(rule.name)
                _add(route, known)
        found.routes += known
    found.undrilled = [
        Undrilled(rule=rule.name, private=is_private(rule, config))
        for rule in config.rules
        if rule.name not in made and _concerns(rule.when, aliases)
    ]
    return found


def _add(route: Route, known: list[Route]) -> None:
    """Add a route, or its kind to one that is treated alike."""
    for other in known:
        alike = other.private is None and route.private is None and _treated(other) == _treated(route)
        if alike and other.sketch.stream == route.sketch.stream:
            other.kinds += route.kinds
            return
    known.append(route)


def _treated(route: Route) -> tuple[object, ...]:
    decided = route.plan
    names = tuple(step.name for step in decided.steps)
    return names, decided.refused, decided.treatment, decided.local_only, decided.total_s


def _concerns(condition: Condition, aliases: Iterable[str]) -> bool:
    """Whether a rule's condition allows one of `aliases` at all."""
    return condition.alias is None or any(alias in condition.alias for alias in aliases)


class _Maker:
    """Makes calls and tries them on the policy.  Policies are compiled once for each time of day."""

    def __init__(self, config: Config, facts: FactsOf) -> None:
        self._config = config
        self._facts = facts
        self._settled: dict[int, tuple[Config, Policy]] = {}
        now = datetime.datetime.now().astimezone()
        self._now = now.hour * 60 + now.minute

    def route(self, kind: str, sketch: Sketch) -> Route:
        """A route as `sketch` has it."""
        config, policy = self._at(sketch)
        call = decoded(sketch, self._config)
        decided = plan(call, self._facts(policy), policy)
        return Route(alias=sketch.alias, kinds=[kind], sketch=sketch, plan=decided, config=config)

    def of_rule(self, rule: Rule, alias: str, wanted: Wanted) -> Route | None:
        """A route for which `rule` holds; None if none could be made."""
        for sketch in islice(_tries(rule, alias, wanted), _MOST_WAYS):
            try:
                route = self.route(f"rule {rule.name}", sketch)
            except RouterError:
                continue  # no call at all: a feature that this endpoint does not take
            if rule.name in route.plan.rules:
                route.private = rule.name if is_private(rule, self._config) else None
                return route
        return None

    def _at(self, sketch: Sketch) -> tuple[Config, Policy]:
        minute = self._now if sketch.minute is None else sketch.minute
        if minute not in self._settled:
            rules = tuple(replace(rule, when=_settled(rule.when, minute)) for rule in self._config.rules)
            config = replace(self._config, rules=rules)
            self._settled[minute] = config, compile_policy(config)
        return self._settled[minute]


def _tries(rule: Rule, alias: str, wanted: Wanted) -> Iterator[Sketch]:
    """Sketches for a rule: made from its condition, then from what the caller gave as well."""
    bare = Sketch(alias=alias)
    yield from islice(ways(rule.when, bare), _MOST_WAYS // 2)
    if wanted.headers or wanted.text:
        texts = (wanted.text,) if wanted.text else ()
        given = replace(bare, headers=wanted.headers, texts=texts)
        yield given
        yield from ways(rule.when, given)


def _settled(condition: Condition, minute: int) -> Condition:
    """`condition` without times of day: as it is at `minute`."""
    if condition.time is not None and not within(condition.time, minute):
        return _NEVER
    return replace(
        condition,
        time=None,
        any=None if condition.any is None else tuple(_settled(inner, minute) for inner in condition.any),
        all=None if condition.all is None else tuple(_settled(inner, minute) for inner in condition.all),
        not_=None if condition.not_ is None else _settled(condition.not_, minute),
    )


def principal(sketch: Sketch, config: Config) -> str:
    """Whose key the call carries: where keys are needed, somebody's."""
    if sketch.key is not None:
        return sketch.key
    return config.server.keys[0].name if config.server.keys else NO_KEY


def decoded(sketch: Sketch, config: Config) -> Call:
    """The call that a sketch's request becomes.

    Raises:
        RouterError: it is none.
    """
    path = sketch.path or CHAT
    decode = completion_request.decode if path == COMPLETIONS else chat_request.decode
    asked = decode(
        sketch.body(), call_id="drill", principal=principal(sketch, config), headers=dict(sketch.headers)
    )
    return replace(asked.call, path=path)
