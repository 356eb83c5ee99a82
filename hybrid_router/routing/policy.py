"""A compiled policy: aliases with merged timeouts, rules with compiled patterns."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.config import timeouts
from hybrid_router.config.cloud_schema import is_local
from hybrid_router.config.schema import Alias, Config, TryStep
from hybrid_router.core.call import Adapter, Call, Feature
from hybrid_router.core.step import Step, Timeouts, Treatment
from hybrid_router.routing.conditions import guard, text_patterns
from hybrid_router.routing.findings import finder, kinds_of
from hybrid_router.routing.rules import CompiledRule, compile_rule
from hybrid_router.routing.treatment import merged, said


class Route(Struct, frozen=True, kw_only=True):
    """An alias: its steps in the order of `try`, each with the timeouts that hold for it.

    `adapters` and `truncate` are those of its calls that say nothing of them.
    """

    steps: tuple[Step, ...]
    total_s: float
    treatment: Treatment = Treatment()
    adapters: tuple[Adapter, ...] = ()
    truncate: Literal["middle", "oldest"] | None = None

    def completed(self, call: Call) -> Call:
        """The call with what the alias says where it says nothing itself."""
        if self.adapters and not call.adapters:
            call = replace(call, adapters=self.adapters, features=call.features | {Feature.ADAPTERS})
        if self.truncate is not None and call.truncate is None:
            call = replace(call, truncate=self.truncate)
        return call


class Policy(Struct, frozen=True, kw_only=True):
    """What `plan` needs of router.yaml.

    Attributes:
        aliases: alias → route, in the file's order.
        rules: from first to last.
        text_guard: found wherever a `text` condition of any rule holds; None if there is no such pattern.
        local: backends that are on this machine whether or not they are running.
    """

    aliases: dict[str, Route]
    rules: tuple[CompiledRule, ...] = ()
    text_guard: Any = None
    local: frozenset[str] = frozenset()


def compile_policy(config: Config) -> Policy:
    """Merge timeouts and compile patterns, once for all calls."""
    for said_here in (*config.aliases.values(), *config.rules):
        if said_here.redact:
            finder(kinds_of(said_here.redact))  # it is kept: the first call that needs it does not wait
    return Policy(
        aliases={name: _route(config, name, alias) for name, alias in config.aliases.items()},
        rules=tuple(compile_rule(rule) for rule in config.rules),
        text_guard=guard(text for rule in config.rules for text in text_patterns(rule.when)),
        local=frozenset(name for name, backend in config.backends.items() if is_local(backend)),
    )


def _route(config: Config, name: str, alias: Alias) -> Route:
    because = f"try order of alias {name}"
    return Route(
        steps=tuple(
            Step(
                backend=step.backend,
                model=step.model,
                timeouts=_waits(config, alias, step),
                because=because,
            )
            for step in alias.try_
        ),
        total_s=timeouts.of_call(config, alias),
        treatment=merged(Treatment(), said(alias)),
        adapters=tuple(Adapter(name, scale) for name, scale in alias.adapters.items()),
        truncate=alias.truncate,
    )


def _waits(config: Config, alias: Alias, step: TryStep) -> Timeouts:
    merged = timeouts.of_step(config, alias, step)
    waits = {f"{key}_s": float(getattr(merged, key) or 0) for key in (*timeouts.ATTEMPT, "total")}
    return Timeouts(**waits)
