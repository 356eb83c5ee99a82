"""The catalogue as the API lists it: model search and model schemas.  Pure."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.catalogue.workers_ai import Catalogue, Model

_KEPT_AFTER_DEPRECATION = timedelta(days=92)
_FLAGS = {
    "async_queue": "async_batch",
    "function_calling": "function_calling",
    "reasoning": "reasoning",
    "partner": "partner",
    "beta": "beta",
    "lora": "lora",
    "vision": "vision",
    "require_workers_paid": "requires_workers_paid",
    "realtime": "realtime",
}
_NUMBERS = {
    "context_window": "context_window",
    "max_input_tokens": "max_input_tokens",
    "output_dimensions": "dimensions",
}


def search(catalogue: Catalogue, query: Mapping[str, str], today: date) -> dict[str, Any]:
    """`GET /ai/models/search`.  Without `per_page`, everything is one page."""
    found = [model for model in catalogue.models if _wanted(model, query, today)]
    if query.get("format") == "openrouter":
        return {"data": [_openrouter_row(model) for model in found]}
    per_page = _positive(query, "per_page", max(1, len(found)))
    page = _positive(query, "page", 1)
    rows = [row(catalogue, model) for model in found[(page - 1) * per_page : page * per_page]]
    told = {
        "page": page,
        "per_page": per_page,
        "count": len(rows),
        "total_count": len(found),
        "total_pages": -(-len(found) // per_page),
    }
    return wrapped(rows, result_info=told)


def schemas(catalogue: Catalogue, model: Model | None) -> dict[str, Any]:
    """`GET /ai/models/schema`."""
    if model is None:
        raise Refusal(5007)
    return wrapped({"input": catalogue.input_schema(model), "output": catalogue.output_schema(model)})


def row(catalogue: Catalogue, model: Model) -> dict[str, Any]:
    """One model as the search shows it."""
    return {
        "id": model.uuid or str(uuid.uuid5(uuid.NAMESPACE_URL, model.id)),
        "source": _source(model),
        "name": model.id,
        "description": model.description,
        "task": {
            "id": catalogue.tasks.get(model.task) or str(uuid.uuid5(uuid.NAMESPACE_URL, model.task)),
            "name": model.task,
            "description": "",
        },
        "tags": [],
        "properties": _properties(model),
    }


def _properties(model: Model) -> list[dict[str, Any]]:
    """What is known, as texts; absence means no, or unknown."""
    found: dict[str, Any] = {name: "true" for name, flag in _FLAGS.items() if getattr(model, flag)}
    found |= {
        name: str(value) for name, key in _NUMBERS.items() if (value := getattr(model, key)) is not None
    }
    if model.price:
        found["price"] = [{"unit": line.unit, "price": line.usd, "currency": "USD"} for line in model.price]
    if model.deprecated_on:
        found["planned_deprecation_date"] = model.deprecated_on
    return [{"property_id": name, "value": value} for name, value in (found | model.properties).items()]


def _wanted(model: Model, query: Mapping[str, str], today: date) -> bool:
    """Whether every filter of the query lets `model` through."""
    if not _listed(model, query, today):
        return False
    text = query.get("search", "").lower()
    if text and text not in model.id.lower() and text not in model.description.lower():
        return False
    author = query.get("author", "").lower()
    return (
        query.get("task") in (None, "", model.task)
        and (not author or author == model.id.split("/")[1].lower())
        and query.get("source", str(_source(model))) == str(_source(model))
        and not (model.beta and _true(query, "hide_experimental"))
    )


def _listed(model: Model, query: Mapping[str, str], today: date) -> bool:
    """Models past their date are shown for three months, and only when asked for."""
    if model.status == "withdrawn_date_unknown":
        return False
    if model.status != "deprecated":
        return True
    if not _true(query, "include_deprecated") or model.deprecated_on is None:
        return False
    return today - date.fromisoformat(model.deprecated_on) <= _KEPT_AFTER_DEPRECATION


def _source(model: Model) -> int:
    return 1 if model.id.startswith("@cf/") else 2


def _true(query: Mapping[str, str], name: str) -> bool:
    return query.get(name, "").lower() in ("1", "true")


def _positive(query: Mapping[str, str], name: str, default: int) -> int:
    """A page number or size; nonsense counts as the default."""
    text = query.get(name, "")
    return int(text) if text.isdecimal() and int(text) > 0 else default


def _openrouter_row(model: Model) -> dict[str, Any]:
    """One model in the form for model directories: prices per token, as texts."""
    usd = {line.unit: line.usd for line in model.price}
    pricing = {
        "prompt": f"{usd.get('per M input tokens', 0) / 1e6:.12f}",
        "completion": f"{usd.get('per M output tokens', 0) / 1e6:.12f}",
    }
    features = {"tools": model.function_calling, "reasoning": model.reasoning}
    return {
        "id": model.id,
        "name": model.id.rpartition("/")[2],
        "context_length": model.context_window,
        "input_modalities": ["text", "image"] if model.vision else ["text"],
        "output_modalities": ["text"],
        "pricing": pricing,
        "supported_features": [name for name, has in features.items() if has],
    }
