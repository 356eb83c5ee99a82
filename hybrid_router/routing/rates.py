"""What models cost: the catalogue's prices, replaced by those that router.yaml writes.  Pure."""

from __future__ import annotations

from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.prices import PICTURE, SOUND, SPOKEN, Work, neurons
from hybrid_router.catalogue.usual import usual
from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Catalogue, Model, Price
from hybrid_router.config import cloud_schema, schema
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.routing.ledger import Rate

_TRANSLATORS = frozenset({Family.TRANSLATION, Family.TRANSLATIONS})
_TOKENS = frozenset({"per M input tokens", "per M output tokens", "per M cached input tokens"})
_ALIKE = Work(  # by which models of one task are compared
    prompt_tokens=1_000_000,
    completion_tokens=1_000_000,
    characters_count=1000,
    sound_s=60.0,
    seen_count=1_000_000,
    pictures_count=1,
    tiles_count=4,
    megapixels=1,
    steps_count=20,
)


def rates(config: schema.Config, known: Catalogue) -> dict[str, Rate]:
    """The price of every cloud's step that an alias tries, by `backend/model`, where one is known.

    A model of Workers AI without a published price is taken to cost as much as the dearest of its task: what
    is counted may be too much then, never too little.
    """
    prices = _Prices(known)
    found = {}
    for alias in config.aliases.values():
        for step in alias.try_:
            rate = _rate(config.backends.get(step.backend), step, prices)
            if rate is not None:
                found[step.step] = rate
    return found


def _rate(backend: cloud_schema.BackendConfig | None, step: schema.TryStep, prices: _Prices) -> Rate | None:
    match backend:
        case cloud_schema.WorkersAIBackend():
            written = backend.neurons.rates.get(step.model)
            return prices.of(step.model) if written is None else _written(written)
        case LocalBackend() | None:
            return None
    declared = backend.models.get(step.model)
    return None if declared is None or declared.price is None else _in_dollars(declared.price)


class _Prices:
    """The catalogue's."""

    def __init__(self, known: Catalogue) -> None:
        self._models = known.by_id()
        self._known = known
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
        if model is None:
            return self._dearest
        return _published(model) if model.price else self._guessed(model)

    def _guessed(self, model: Model) -> Rate:
        """As the dearest model of its task."""
        if model.task == TEXT_GENERATION:
            return self._dearest
        alike = [each for each in self._known.models if each.task == model.task and each.price]
        if not alike:
            return self._dearest
        return _published(model, max(alike, key=lambda each: neurons(each.price, _ALIKE)).price)


def _published(model: Model, price: tuple[Price, ...] | None = None) -> Rate:
    """The rate of `model`, at its own price or another."""
    lines = model.price if price is None else price
    tokens = {line.unit: line.neurons for line in lines if line.unit in _TOKENS}
    of_input = tokens.get("per M input tokens", 0.0)
    return Rate(
        input=of_input,
        output=tokens.get("per M output tokens", 0.0),
        cached_input=tokens.get("per M cached input tokens", of_input),
        beyond=tuple(line for line in lines if line.unit not in _TOKENS),
        usual=usual(model.id),
        translates=family(model) in _TRANSLATORS,
    )


def _written(rate: cloud_schema.Rate) -> Rate:
    cached = rate.input if rate.cached_input is None else rate.cached_input
    beyond = {SPOKEN: rate.thousand_characters, SOUND: rate.minute, PICTURE: rate.picture}
    return Rate(
        input=rate.input,
        output=rate.output,
        cached_input=cached,
        beyond=tuple(Price(unit=unit, usd=0.0, neurons=each) for unit, each in beyond.items() if each),
    )


def _in_dollars(price: cloud_schema.Price) -> Rate:
    cached = price.input if price.cached_input is None else price.cached_input
    return Rate(input=price.input, output=price.output, cached_input=cached, currency="usd")
