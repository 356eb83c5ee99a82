"""A compiled policy: aliases with merged timeouts, rules with compiled patterns."""

from __future__ import annotations

from msgspec import Struct

from hybrid_router.config.schema import Rule
from hybrid_router.core.step import Step


class Route(Struct, frozen=True, kw_only=True):
    """An alias: its steps in the order of `try`, each with the timeouts that hold for it."""

    steps: tuple[Step, ...]
    total_s: float


class Policy(Struct, frozen=True, kw_only=True):
    """What `plan` needs of router.yaml."""

    aliases: dict[str, Route]
    rules: tuple[Rule, ...]  # TODO(policy): compiled form
