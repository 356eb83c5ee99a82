"""The models of Workers AI: task, flags, prices, input schemas.  Dated; see NOTICE.md for sources.

`load()` reads the table that ships with the package.  Nothing is cached here: whoever composes the
program loads once and passes the catalogue on.
"""

from __future__ import annotations

from importlib import resources
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct, field

Status: TypeAlias = Literal["listed", "priced_or_named_not_listed", "deprecated", "withdrawn_date_unknown"]

TEXT_GENERATION = "Text Generation"


class Price(Struct, frozen=True, kw_only=True):
    """One line of a model's price: `unit` in Cloudflare's words, such as `per M input tokens`."""

    unit: str
    usd: float
    neurons: float


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One model.  False and None mean: no, or not known.

    Attributes:
        id: `@cf/author/name`.
        uuid: the catalogue's own id, where published.
        native_result: what `result` holds after `/ai/run`, in the words of the contract.
        input_schema, output_schema: keys of `Catalogue.schemas`.
        aliased_to: the model that answers in this one's place.
        successor: of a model that is gone: which one does its work, by our own judgement.
        properties: further rows of `/ai/models/search`, as published.
    """

    id: str
    task: str
    status: Status
    native_result: str
    uuid: str | None = None
    description: str = ""
    context_window: int | None = None
    max_input_tokens: int | None = None
    dimensions: int | None = None
    price: tuple[Price, ...] = ()
    streaming: bool = False
    function_calling: bool = False
    reasoning: bool = False
    vision: bool = False
    lora: bool = False
    async_batch: bool = False
    beta: bool = False
    partner: bool = False
    realtime: bool = False
    requires_workers_paid: bool = False
    deprecated_on: str | None = None
    aliased_to: str | None = None
    successor: str | None = None
    input_schema: str | None = None
    output_schema: str | None = None
    properties: dict[str, Any] = field(default_factory=dict)

    @property
    def gone(self) -> bool:
        """Whether calls of it fail, now or soon."""
        return self.status in {"deprecated", "withdrawn_date_unknown"}


class Catalogue(Struct, frozen=True, kw_only=True):
    """Every model with what concerns them all.

    Attributes:
        dated: day of the newest source, ISO.
        successors_dated: day on which successors of models that are gone were named.
        tasks: task → its id in the real catalogue, where known.
        rate_limits_per_minute: task → calls an account may make a minute.
        rate_limit_overrides_per_minute: model → the same, where it differs from its task's.
        paid_model_per_minute: the same, for each model that needs the paid plan.
    """

    dated: str
    about: str
    attribution: tuple[str, ...]
    neuron_usd: float
    free_neurons_per_day: float
    tasks: dict[str, str | None]
    rate_limits_per_minute: dict[str, int]
    rate_limit_overrides_per_minute: dict[str, int]
    paid_model_per_minute: int
    models: tuple[Model, ...]
    schemas: dict[str, Any]
    successors_dated: str = ""

    def by_id(self) -> dict[str, Model]:
        """Model id → model, in the table's order."""
        return {model.id: model for model in self.models}

    def input_schema(self, model: Model) -> dict[str, Any] | None:
        """The JSON Schema of what `model` takes, if known."""
        return self.schemas[model.input_schema] if model.input_schema else None

    def output_schema(self, model: Model) -> dict[str, Any] | None:
        """The JSON Schema of what `model` answers, if known."""
        return self.schemas[model.output_schema] if model.output_schema else None

    def minute_limit(self, model: Model) -> int | None:
        """Calls a minute for `model`, or for all models of its task together; None: no limit is known."""
        if model.requires_workers_paid:
            return self.paid_model_per_minute
        own = self.rate_limit_overrides_per_minute.get(model.id)
        return own if own is not None else self.rate_limits_per_minute.get(model.task)

    def counted_as(self, model: Model) -> str:
        """What that limit counts: the model where it has its own, else its task."""
        own = model.requires_workers_paid or model.id in self.rate_limit_overrides_per_minute
        return model.id if own else model.task


def load() -> Catalogue:
    """Read the table that ships with this package."""
    table = resources.files(__package__ or __name__).joinpath("workers_ai.json").read_bytes()
    return msgspec.json.decode(table, type=Catalogue)
