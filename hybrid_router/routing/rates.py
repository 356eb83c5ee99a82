"""What models cost: the catalogue's prices, replaced by those that router.yaml writes.  Pure."""

from __future__ import annotations

from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Catalogue, Model
from hybrid_router.config import cloud_schema, schema
from hybrid_router.routing.ledger import Rate


def rates(config: schema.Config, known: Catalogue) -> dict[str, Rate]:
    """The price of every Workers AI step that an alias tries, by `backend/model`.

    A model without a published price is taken to cost as much as the dearest: what is counted may be too
    much then, never too little.
    """
    prices = _Prices(known)
    found = {}
    for alias in config.aliases.values():
        for step in alias.try_:
            backend = config.backends.get(step.backend)
            if isinstance(backend, cloud_schema.WorkersAIBackend):
                written = backend.neurons.rates.get(step.model)
                found[step.step] = prices.of(step.model) if written is None else _written(written)
    return found


class _Prices:
    """The catalogue's."""

    def __init__(self, known: Catalogue) -> None:
        self._models = known.by_id()
        priced = [_published(model) for model in known.models if model.task == TEXT_GENERATION]
        self._dearest = Rate(
            input=max(rate.input for rate in priced),
            output=max(rate.output for rate in priced),
            cached_input=max(rate.input for rate in priced),
        )

    def of(self, name: str) -> Rate:
        """The price of the model that answers to `name`."""
        model = self._models.get(name)
        if model is not None and model.aliased_to is not None:
            model = self._models.get(model.aliased_to)
        if model is None or not model.neurons_per_million("input"):
            return self._dearest
        return _published(model)


def _published(model: Model) -> Rate:
    price = model.neurons_per_million
    return Rate(
        input=price("input"),
        output=price("output"),
        cached_input=price("cached input") or price("input"),
    )


def _written(rate: cloud_schema.Rate) -> Rate:
    cached = rate.input if rate.cached_input is None else rate.cached_input
    return Rate(input=rate.input, output=rate.output, cached_input=cached)
