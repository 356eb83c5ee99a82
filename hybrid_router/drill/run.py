"""The whole drill: every route under every fault of every step, and what was found that must not be."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence

import aiohttp
from msgspec import Struct, field

from hybrid_router.backends.clouds import idle_cloud
from hybrid_router.backends.local import Local
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import is_local
from hybrid_router.config.schema import Config
from hybrid_router.core.call import Feature
from hybrid_router.drill.clouds import clouds
from hybrid_router.drill.faults import FAULTS, Fault
from hybrid_router.drill.fresh import Fresh
from hybrid_router.drill.loop import ClosedLoop
from hybrid_router.drill.routes import Route, Routes, Undrilled, Wanted, routes
from hybrid_router.drill.trial import Failing, Seen, Trials
from hybrid_router.drill.voice import letters

EVERY_CLOUD, EVERY_STEP = "every cloud", "every step"
OnTrial = Callable[[int, int], None]
"""Told how many calls were made, of how many."""


class Situation(Struct, frozen=True, kw_only=True):
    """Who fails, and how: a step, `every cloud` or `every step`.  All empty: everything works."""

    who: str = ""
    fault: str = ""
    title: str = ""


class Trial(Struct, frozen=True, kw_only=True):
    """A situation and what a client saw in it."""

    situation: Situation
    seen: Seen


class Drilled(Struct, frozen=True, kw_only=True):
    """A route with its trials."""

    route: Route
    trials: tuple[Trial, ...]


class Finding(Struct, frozen=True, kw_only=True):
    """Something that must never happen, and where it did."""

    alias: str
    kind: str
    situation: Situation
    what: str


class Report(Struct, kw_only=True):
    """A whole drill.

    Attributes:
        others: aliases that nobody can chat with, with what their models do.
    """

    drilled: list[Drilled] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    undrilled: list[Undrilled] = field(default_factory=list)
    others: dict[str, str] = field(default_factory=dict)

    @property
    def calls_count(self) -> int:
        """Calls that were made."""
        return sum(len(one.trials) for one in self.drilled)


def drill(
    config: Config, aliases: Sequence[str], wanted: Wanted, on_trial: OnTrial = lambda made, of: None
) -> Report:
    """Drill `aliases`.  Runs a loop of its own, whose clock skips waits and whose network ends here."""
    fresh, features = Fresh(config), _features(config)
    found = routes(config, lambda policy: fresh.facts(policy, features), aliases, wanted)
    with asyncio.Runner(loop_factory=ClosedLoop) as runner:
        return runner.run(_drilled(config, found, fresh, on_trial))


async def _drilled(config: Config, found: Routes, fresh: Fresh, on_trial: OnTrial) -> Report:
    loop = asyncio.get_running_loop()
    if not isinstance(loop, ClosedLoop):
        raise TypeError("a drill runs in a loop that ends at this machine")
    report = Report(undrilled=found.undrilled)
    named = letters(step.step for alias in config.aliases.values() for step in alias.try_)
    remote = {step: letter for step, letter in named.items() if not _is_local(step, config)}
    plans = [(route, list(situations(route, config))) for route in found.routes]
    count, made_count = sum(len(ways) for _, ways in plans), 0
    connector = aiohttp.TCPConnector(force_close=True)
    timeout = aiohttp.ClientTimeout(total=None)
    async with clouds(remote) as there, aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        trials = Trials(loop, there, named, fresh, http)
        for route, ways in plans:
            made = []
            for situation, failing in ways:
                made.append(Trial(situation=situation, seen=await trials.seen(route, failing)))
                on_trial(made_count := made_count + 1, count)
            report.drilled.append(Drilled(route=route, trials=tuple(made)))
            report.findings += [one for trial in made if (one := finding(route, trial)) is not None]
    return report


def situations(route: Route, config: Config) -> Iterator[tuple[Situation, Failing]]:
    """All well; each step failing alone; every cloud; every step."""
    yield Situation(), {}
    steps = list(dict.fromkeys(step.step for step in config.aliases[route.alias].try_))
    remote = [step for step in steps if not _is_local(step, config)]
    for step in steps:
        yield from _alone(step, config)
    if remote:
        some = [fault for fault in FAULTS if fault.cloud and (fault.everywhere or len(remote) > 1)]
        yield from _together(EVERY_CLOUD, some, remote)
    if len(steps) > 1:
        yield from _together(EVERY_STEP, FAULTS, steps)


def _alone(step: str, config: Config) -> Iterator[tuple[Situation, Failing]]:
    """A step that fails in all of its own ways."""
    for fault in FAULTS:
        title = fault.local_title if _is_local(step, config) else fault.title
        if title and not fault.everywhere:
            yield Situation(who=step, fault=fault.name, title=title), {step: fault}


def _together(who: str, faults: Iterable[Fault], steps: Sequence[str]) -> Iterator[tuple[Situation, Failing]]:
    for fault in faults:
        titles = [fault.title, fault.local_title if who == EVERY_STEP else ""]
        title = " / ".join(dict.fromkeys(filter(None, titles)))
        yield Situation(who=who, fault=fault.name, title=title), dict.fromkeys(steps, fault)


def finding(route: Route, trial: Trial) -> Finding | None:
    """What must not be seen, if it was."""
    seen = trial.seen
    allowed = set() if route.private else {step.name for step in route.plan.steps}
    away = [step for step in seen.reached if step not in allowed]
    what = None
    if away:
        kept = (
            f"rule {route.private} keeps it on this machine" if route.private else "its plan has no such step"
        )
        what = f"the call reached {', '.join(away)}, although {kept}"
    elif seen.ending == "hung":
        what = f"the call had not ended after {seen.ended_s:.1f} s; its deadline is {route.plan.total_s:g} s"
    elif seen.ending == "dropped":
        what = "the connection ended without an answer and without an error"
    if what is None:
        return None
    return Finding(alias=route.alias, kind=", ".join(route.kinds), situation=trial.situation, what=what)


def _is_local(step: str, config: Config) -> bool:
    return is_local(config.backends[step.partition("/")[0]])


def _features(config: Config) -> dict[str, frozenset[Feature]]:
    """Step → what it can do, by the backends' own word."""
    known = catalogue.load().by_id()
    found = {}
    for alias in config.aliases.values():
        for step in alias.try_:
            written = config.backends[step.backend]
            if isinstance(written, LocalBackend):
                found[step.step] = Local({}).features(step.model)
            else:
                found[step.step] = idle_cloud("", written, known).features(step.model)
    return found
