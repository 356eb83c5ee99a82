"""What becomes of the catalogue when an account tells what it has."""

from __future__ import annotations

import copy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from hybrid_router.api.workers_ai import listing
from hybrid_router.catalogue import refresh
from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Catalogue, Model, load

TODAY = date(2026, 11, 22)
SHIPPED = load()
LLAMA = "@cf/meta/llama-3.2-1b-instruct"
Row = dict[str, Any]


def rows() -> dict[str, Row]:
    """A search that shows what ships, by model."""
    shown = listing.search(SHIPPED, {"include_deprecated": "true"}, TODAY)["result"]
    return {row["name"]: copy.deepcopy(row) for row in shown}


def refreshed(told: dict[str, Row], schemas: dict[str, Any] | None = None) -> Catalogue:
    """The catalogue after that."""
    return refresh.refreshed(SHIPPED, told.values(), schemas or {}, TODAY)


def the(catalogue: Catalogue, name: str = LLAMA) -> Model:
    """One of its models."""
    return catalogue.by_id()[name]


def put(row: Row, **properties: Any) -> None:
    """Give a row other properties; None takes one away."""
    kept = [each for each in row["properties"] if each["property_id"] not in properties]
    new = [{"property_id": name, "value": value} for name, value in properties.items() if value is not None]
    row["properties"] = kept + new


def test_what_is_told_replaces_what_shipped() -> None:
    """Context, description, flags; and the day is today's, with where it comes from."""
    told = rows()
    told[LLAMA]["description"] = "another"
    put(told[LLAMA], context_window="123456", vision="true", beta="true")

    found = refreshed(told)

    assert (the(found).description, the(found).context_window) == ("another", 123456)
    assert the(found).vision
    assert the(found).beta
    assert found.dated == "2026-11-22"
    assert found.attribution == (*SHIPPED.attribution, refresh.ATTRIBUTION)
    assert refresh.refreshed(found, told.values(), {}, TODAY) == found


def test_what_is_not_told_stays() -> None:
    """A row without properties takes nothing from what is known but its passing states."""
    told = rows()
    told[LLAMA] = {"name": LLAMA}

    before, after = the(SHIPPED), the(refreshed(told))

    assert after == replace(before, beta=False, partner=False, requires_workers_paid=False)


def test_prices_are_taken_over_and_come_to_neurons() -> None:
    """A changed line at the rate of a neuron; one that is the same keeps the published figure."""
    told = rows()
    same = the(SHIPPED).price[1]
    lines = [
        {"unit": "per M input tokens", "price": 1.1, "currency": "USD"},
        {"unit": same.unit, "price": same.usd, "currency": "USD"},
        {"unit": "per M output tokens", "price": 1, "currency": "EUR"},
        {"unit": "per M cached input tokens", "price": "dear", "currency": "USD"},
    ]
    put(told[LLAMA], price=lines)

    first, second = the(refreshed(told)).price

    assert first.neurons == pytest.approx(1.1 / 0.000011)
    assert second == same


@pytest.mark.parametrize(("day", "status"), [("2026-11-22", "deprecated"), ("2026-12-01", "listed")])
def test_a_day_of_deprecation_is_kept_and_counts_when_it_comes(day: str, status: str) -> None:
    """Before it the model is called as ever."""
    told = rows()
    put(told[LLAMA], planned_deprecation_date=day)

    found = the(refreshed(told))

    assert (found.deprecated_on, found.status) == (day, status)


def test_a_model_that_is_no_longer_shown_is_gone() -> None:
    """Its row stays, so that it can be named with a successor."""
    told = rows()
    del told[LLAMA]

    assert the(refreshed(told)).status == "withdrawn_date_unknown"


def test_a_search_that_shows_next_to_nothing_changes_nothing() -> None:
    """An account's filter or an outage is not the end of all models."""
    with pytest.raises(refresh.NotAll, match="not even half"):
        refreshed(dict(list(rows().items())[:5]))


@pytest.mark.parametrize(
    ("task", "output", "wanted"),
    [
        ("Text Generation", {"properties": {"choices": {"type": "array"}}}, Family.CHAT),
        ("Text Generation", {"properties": {"response": {}}}, Family.CLASSIC),
        ("Text Embeddings", {}, Family.VECTORS),
        ("Text-to-Image", {"properties": {"image": {"type": "string"}}}, Family.PICTURE_BASE64),
        ("Text-to-Image", {}, Family.PICTURE_PNG),
        ("Translation", SHIPPED.output_schema(the(SHIPPED, "@cf/meta/m2m100-1.2b")), Family.TRANSLATION),
    ],
)
def test_a_new_model_is_asked_like_others_of_its_task(task: str, output: Row, wanted: Family) -> None:
    """With its schemas, from the day on which it is told."""
    told = rows()
    name = "@cf/new/thing"
    told[name] = {"id": "u", "name": name, "task": {"id": "t", "name": task}, "properties": []}

    schemas = {name: {"input": {"type": "object", "description": "long"}, "output": output}}
    found = refreshed(told, schemas)

    assert family(the(found, name)) is wanted
    assert found.input_schema(the(found, name)) == {"type": "object"}
    assert the(found, name).streaming == (task == "Text Generation")


def test_a_changed_schema_gets_a_name_of_its_own() -> None:
    """The other models that shared the old one keep it."""
    sharing = [model for model in SHIPPED.models if model.input_schema == the(SHIPPED).input_schema]
    changed = {"input": {"type": "object", "required": ["new"]}, "output": None}

    found = refreshed(rows(), {LLAMA: changed})

    assert found.input_schema(the(found)) == changed["input"]
    assert found.output_schema(the(found)) == SHIPPED.output_schema(the(SHIPPED))
    for model in sharing:
        if model.id != LLAMA:
            assert found.input_schema(the(found, model.id)) == SHIPPED.input_schema(model)


@pytest.mark.parametrize("row", [{}, {"name": 3}, {"name": LLAMA, "task": "x", "properties": [3, {}]}])
def test_rows_that_make_no_sense_harm_nobody(row: Row) -> None:
    """What is not understood is as if it were not told."""
    told = rows() | {"odd": row}

    assert the(refreshed(told)).status == "listed"


def test_the_newer_one_counts(tmp_path: Path) -> None:
    """What ships later takes its place again, and what cannot be read is passed over."""
    newer, older = (replace(SHIPPED, dated=day) for day in ("2999-01-01", "2000-01-01"))
    assert refresh.newest(tmp_path) == SHIPPED

    path = refresh.write(tmp_path / "state", newer)
    assert refresh.newest(tmp_path / "state") == newer
    refresh.write(tmp_path / "state", older)
    assert refresh.newest(tmp_path / "state") == SHIPPED
    path.write_text("{")
    assert refresh.newest(tmp_path / "state") == SHIPPED
    with pytest.raises(refresh.Unreadable, match="cannot be read, so what ships is used"):
        refresh.read(tmp_path / "state")
    assert [each.name for each in path.parent.iterdir()] == [refresh.FILE_NAME]
