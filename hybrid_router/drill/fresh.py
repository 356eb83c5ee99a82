"""A router that has just begun: every backend is on, nothing was learned, the day's neurons are whole."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Config
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Feature
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.metered import Metered
from hybrid_router.dispatch.service import Service
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Rate
from hybrid_router.routing.policy import Policy, compile_policy
from hybrid_router.routing.rates import rates


class Fresh:
    """Makes services that know nothing yet, and says what such a one would go by."""

    def __init__(self, config: Config) -> None:
        """`config` says who is metered; each backend has an account of its own here."""
        self._rates: dict[str, Rate] = rates(config, catalogue.load())
        self._metered = {
            name: Metered(account=name, neurons=one.neurons, default_max_tokens=one.default_max_tokens)
            for name, one in config.backends.items()
            if isinstance(one, WorkersAIBackend)
        }
        self._default_max_tokens = {name: one.default_max_tokens for name, one in self._metered.items()}

    def facts(self, policy: Policy, features: Mapping[str, frozenset[Feature]]) -> Facts:
        """What it would know."""
        meter = self._knowledge().meter
        return Facts(
            local=policy.local,
            features=features,
            allowances=meter.allowances(),
            rates=meter.rates,
            default_max_tokens=self._default_max_tokens,
        )

    def service(self, config: Config, backends: Mapping[str, Backend]) -> Service:
        """What answers calls by `config`; it has no store, and tries no connections of its own."""
        return Service(
            compile_policy(config),
            backends,
            {},
            knowledge=self._knowledge(),
            default_max_tokens=self._default_max_tokens,
        )

    def _knowledge(self) -> Knowledge:
        knowledge = Knowledge()
        knowledge.meter.configure(self._metered, self._rates)
        return knowledge
