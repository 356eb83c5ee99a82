"""The catalogue as an account tells it today, from what ships and the API's model search and schemas.

The search does not tell everything: wire forms, streaming, successors and limits stay as they shipped.  What
is refreshed lies in the state folder, and counts as long as it is newer than what ships.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import msgspec
from msgspec.structs import replace

from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Catalogue, Model, Price, Status

FILE_NAME = "workers-ai-catalogue.json"
ATTRIBUTION = "Cloudflare API, models/search and models/schema, as answered to this account"
_FEWEST_SHARE = 0.5
_SIDES = ("input", "output")
_KEPT = ("info", "terms", "languages")
_NUMBERS = {
    "context_window": "context_window",
    "max_input_tokens": "max_input_tokens",
    "output_dimensions": "dimensions",
}
# What is once known to be able stays so: the search leaves out what nobody filled in.
_ABILITIES = {
    "async_queue": "async_batch",
    "function_calling": "function_calling",
    "reasoning": "reasoning",
    "lora": "lora",
    "vision": "vision",
    "realtime": "realtime",
}
# Task and a property of the answer → what that means for its form.
_MARKS = {
    (TEXT_GENERATION, b'"choices"'): "chat.completion",
    ("Text-to-Image", b'"image":'): "base64 image",
}
_STATES = {"partner": "partner", "beta": "beta", "require_workers_paid": "requires_workers_paid"}


class NotAll(ValueError):
    """A search that cannot have shown every model."""


class Unreadable(ValueError):
    """A refreshed catalogue that is there and is none."""


def refreshed(
    known: Catalogue, rows: Iterable[Mapping[str, Any]], schemas: Mapping[str, Mapping[str, Any]], today: date
) -> Catalogue:
    """What is known, with what the search and the schemas say now.

    Args:
        rows: every model of the search, deprecated ones included.
        schemas: by model: `input` and `output`, or None where that is not told.

    Raises:
        NotAll: most of the models that there were are missing.
    """
    told = {row["name"]: row for row in rows if isinstance(row.get("name"), str)}
    before = known.by_id()
    listed = [model.id for model in known.models if not model.gone]
    if len(told.keys() & set(listed)) < _FEWEST_SHARE * len(listed):
        raise NotAll(f"the search shows {len(told)} models, of the {len(listed)} known ones not even half")
    book = Schemas(known.schemas)
    models = [
        _updated(model, told[model.id], known, today) if model.id in told else _missing(model)
        for model in known.models
    ]
    models += [_fresh(told[name], known, schemas, today) for name in sorted(told.keys() - before.keys())]
    models = [book.written(model, schemas.get(model.id, {})) for model in models]
    return replace(
        known,
        dated=today.isoformat(),
        attribution=tuple(dict.fromkeys([*known.attribution, ATTRIBUTION])),
        tasks=_tasks(known.tasks, told.values()),
        models=tuple(models),
        schemas=book.used(models),
    )


def newest(folder: Path) -> Catalogue:
    """The refreshed catalogue of a state folder if it is newer than what ships, else what ships."""
    try:
        return newer(read(folder))
    except Unreadable:
        return newer(None)


def newer(found: Catalogue | None) -> Catalogue:
    """A refreshed catalogue if it is newer than what ships, else what ships."""
    shipped = workers_ai.load()
    return found if found is not None and found.dated > shipped.dated else shipped


def read(folder: Path) -> Catalogue | None:
    """The refreshed one; None if there is none.

    Raises:
        Unreadable: there is something else.
    """
    path = folder / FILE_NAME
    try:
        return msgspec.json.decode(path.read_bytes(), type=Catalogue)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise Unreadable(f"{path} cannot be read, so what ships is used: {error}") from error


def write(folder: Path, catalogue: Catalogue) -> Path:
    """Put it in the place of an earlier one, in one go."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=FILE_NAME, dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(catalogue), indent=1))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(folder / FILE_NAME)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    return folder / FILE_NAME


class Schemas:
    """Schemas by name; equal ones are kept once."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self._by_name = dict(known)
        self._names: dict[bytes, str] = {
            _text(schema): name for name, schema in reversed(list(known.items()))
        }

    def written(self, model: Model, told: Mapping[str, Any]) -> Model:
        """`model` with the names of its schemas; what is not told stays."""
        changed = {
            f"{side}_schema": self._name(model, side, slim(told[side])) for side in _SIDES if told.get(side)
        }
        return replace(model, **changed)

    def used(self, models: Iterable[Model]) -> dict[str, Any]:
        """Those that a model refers to."""
        wanted = {name for model in models for name in (model.input_schema, model.output_schema)}
        return {name: schema for name, schema in self._by_name.items() if name in wanted}

    def _name(self, model: Model, side: str, schema: Any) -> str:
        current = model.input_schema if side == "input" else model.output_schema
        if current is not None and _text(self._by_name[current]) == _text(schema):
            return current
        text = _text(schema)
        if text not in self._names:
            name = f"{model.id.rpartition('/')[2]}.{side}"
            while name in self._by_name:
                name += "+"
            self._names[text] = name
            self._by_name[name] = schema
        return self._names[text]


def slim(schema: Any) -> Any:
    """`schema` without texts that only people read."""
    if isinstance(schema, list):
        return [slim(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties" and isinstance(value, dict):
            kept[key] = {name: slim(inner) for name, inner in value.items()}
        elif key not in {"description", "examples", "example"} or not isinstance(value, str | list):
            kept[key] = slim(value)
    return kept


def _text(schema: Any) -> bytes:
    return msgspec.json.encode(schema, order="deterministic")


def _missing(model: Model) -> Model:
    """What the search no longer shows is gone; since when, it does not say."""
    return model if model.gone else replace(model, status="withdrawn_date_unknown")


def _updated(model: Model, row: Mapping[str, Any], known: Catalogue, today: date) -> Model:
    told = _properties(row)
    deprecated_on = _day(told.get("planned_deprecation_date")) or model.deprecated_on
    fields: dict[str, Any] = {
        "description": row.get("description") or model.description,
        "uuid": row.get("id") or model.uuid,
        "task": _task(row) or model.task,
        "deprecated_on": deprecated_on,
        "status": _status(model, deprecated_on, today),
        "price": _price(told.get("price"), model.price, known.neuron_usd),
        "properties": model.properties | {name: told[name] for name in _KEPT if name in told},
    }
    for name, own in _NUMBERS.items():
        fields[own] = _number(told.get(name)) or getattr(model, own)
    for name, own in _ABILITIES.items():
        fields[own] = told.get(name) == "true" or getattr(model, own)
    for name, own in _STATES.items():
        fields[own] = told.get(name) == "true"
    return replace(model, **fields)


def _fresh(
    row: Mapping[str, Any], known: Catalogue, schemas: Mapping[str, Mapping[str, Any]], today: date
) -> Model:
    """A model that did not ship."""
    task = _task(row) or TEXT_GENERATION
    begun = Model(
        id=row["name"],
        task=task,
        status="listed",
        native_result=_result(task, slim(schemas.get(row["name"], {}).get("output")), known),
        streaming=task == TEXT_GENERATION,
    )
    return _updated(begun, row, known, today)


def _result(task: str, output: Any, known: Catalogue) -> str:
    """What a model answers: as one of its task with the same schema, as the schema says, or as most do."""
    alike = [model for model in known.models if model.task == task]
    told = _text(output)
    for model in alike:
        if output and told == _text(known.output_schema(model)):
            return model.native_result
    for (fits, mark), result in _MARKS.items():
        if task == fits and mark in told:
            return result
    most = Counter(model.native_result for model in alike).most_common(1)
    return most[0][0] if most else ""


def _status(model: Model, deprecated_on: str | None, today: date) -> Status:
    """The search shows it, so it is there, unless its day has come."""
    if deprecated_on is not None and deprecated_on <= today.isoformat():
        return "deprecated"
    return "listed" if model.gone else model.status


def _properties(row: Mapping[str, Any]) -> dict[str, Any]:
    listed = row.get("properties")
    rows = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    return {str(each.get("property_id")): each.get("value") for each in rows}


def _task(row: Mapping[str, Any]) -> str | None:
    task = row.get("task")
    name = task.get("name") if isinstance(task, dict) else None
    return name if isinstance(name, str) and name else None


def _tasks(known: Mapping[str, str | None], rows: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
    told = {name: row["task"].get("id") for row in rows if (name := _task(row)) is not None}
    return {name: told.get(name) or known.get(name) for name in dict.fromkeys([*known, *sorted(told)])}


def _price(told: Any, before: tuple[Price, ...], neuron_usd: float) -> tuple[Price, ...]:
    """The lines that are told; one that has not changed keeps its neurons, which are published rounded."""
    if not isinstance(told, list) or not told:
        return before
    same = {(line.unit, line.usd): line for line in before}
    lines = [each for each in told if isinstance(each, dict) and each.get("currency", "USD") == "USD"]
    read = [(str(each.get("unit")), _amount(each.get("price"))) for each in lines]
    return tuple(
        same.get((unit, usd)) or Price(unit=unit, usd=usd, neurons=round(usd / neuron_usd, 4))
        for unit, usd in read
        if usd is not None
    )


def _amount(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


def _number(value: Any) -> int | None:
    amount = _amount(value)
    return int(amount) if amount is not None and 0 < amount < 2**53 else None


def _day(value: Any) -> str | None:
    try:
        return date.fromisoformat(str(value)[:10]).isoformat()
    except ValueError:
        return None
