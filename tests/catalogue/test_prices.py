"""Prices in every unit that the catalogue has, against figures worked out by hand."""

from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.catalogue.prices import Work, megapixels, neurons, tiles, unknown_units, usd
from hybrid_router.catalogue.workers_ai import Catalogue, load

FLUX = "@cf/black-forest-labs/"


@cache
def known() -> Catalogue:
    """The shipped table."""
    return load()


def cost(model: str, **work: object) -> float:
    """Neurons of some work."""
    return neurons(known().by_id()[model].price, Work(**work))  # type: ignore[arg-type]


MADE = {"pictures_count": 1, "tiles_count": 4, "megapixels": 1}


@pytest.mark.parametrize(
    ("model", "work", "expected"),
    [
        ("@cf/meta/llama-3.2-1b-instruct", {"prompt_tokens": 200, "completion_tokens": 50}, 1.404),
        (
            "@cf/moonshotai/kimi-k2.6",
            {"prompt_tokens": 1000, "cached_tokens": 600, "completion_tokens": 100},
            79.6362,
        ),
        ("@cf/zai-org/glm-4.7-flash", {"prompt_tokens": 1000, "cached_tokens": 600}, 5.5),
        ("@cf/baai/bge-m3", {"prompt_tokens": 1_000_000}, 1075),
        ("@cf/openai/whisper", {"sound_s": 90.0}, 61.71),
        ("@cf/openai/whisper-large-v3-turbo", {"sound_s": 30.0}, 23.315),
        ("@cf/deepgram/nova-3", {"sound_s": 60.0}, 472.73),
        ("@cf/deepgram/nova-3", {"sound_s": 60.0, "live": True}, 836.36),
        ("@cf/deepgram/flux", {"sound_s": 60.0, "live": True}, 700),
        ("@cf/pipecat-ai/smart-turn-v2", {"sound_s": 6.0}, 0.051),
        ("@cf/myshell-ai/melotts", {"sound_s": 20.0}, 6.21),
        ("@cf/deepgram/aura-1", {"characters_count": 250}, 340.91),
        ("@cf/deepgram/aura-2-en", {"characters_count": 1000}, 2727.27),
        ("@cf/microsoft/resnet-50", {"seen_count": 2}, 0.45611),
        (f"{FLUX}flux-1-schnell", {**MADE, "steps_count": 4}, 57.6),
        (f"{FLUX}flux-1-schnell", {**MADE, "pictures_count": 3, "steps_count": 8}, 288),
        ("@cf/leonardo/phoenix-1.0", {**MADE, "steps_count": 25}, 2370),
        ("@cf/leonardo/lucid-origin", {**MADE, "steps_count": 10}, 2664),
        (f"{FLUX}flux-2-dev", {**MADE, "steps_count": 20}, 3000),
        (f"{FLUX}flux-2-dev", {**MADE, "steps_count": 20, "input_tiles_count": 2}, 3750),
        (f"{FLUX}flux-2-klein-4b", {**MADE, "steps_count": 4, "input_tiles_count": 1}, 109.57),
        (f"{FLUX}flux-2-klein-9b", MADE, 1363.64),
        (f"{FLUX}flux-2-klein-9b", {**MADE, "megapixels": 3, "input_megapixels": 2}, 2090.92),
    ],
)
def test_work_costs_what_the_pricing_page_says(model: str, work: dict[str, object], expected: float) -> None:
    """Each unit of the catalogue at its published rate; units of one model add up."""
    assert cost(model, **work) == pytest.approx(expected, rel=1e-9)


def test_every_unit_of_the_catalogue_is_counted() -> None:
    """No line of any model's price is passed over."""
    assert [model.id for model in known().models if unknown_units(model)] == []


@given(prompt=st.integers(0, 10**7), completion=st.integers(0, 10**6), share=st.floats(0, 1))
def test_tokens_are_exact_for_every_model(prompt: int, completion: int, share: float) -> None:
    """For tokens as reported the sum is that of the rates, to the last digit."""
    cached = int(prompt * share)
    work = Work(prompt_tokens=prompt, completion_tokens=completion, cached_tokens=cached)
    for model in known().models:
        rates = {line.unit: line.neurons for line in model.price}
        rate_in = rates.get("per M input tokens", 0.0)
        spent = (prompt - cached) * rate_in + cached * rates.get("per M cached input tokens", rate_in)
        spent += completion * rates.get("per M output tokens", 0.0)
        assert neurons(model.price, work) == spent / 1_000_000


def test_dollars_and_neurons_are_one_price() -> None:
    """The listed dollars are the neurons at 0.011 USD a thousand, but for rounding there and one odd row."""
    work = Work(
        prompt_tokens=10**6, completion_tokens=10**6, cached_tokens=10**5, characters_count=1000,
        sound_s=60.0, pictures_count=1, tiles_count=4, megapixels=2, steps_count=4,
        seen_count=10**6, input_tiles_count=1, input_megapixels=1,
    )  # fmt: skip
    priced = [model for model in known().models if model.price and "smart-turn" not in model.id]

    assert len(priced) > 60
    for model in priced:
        in_usd = neurons(model.price, work) * known().neuron_usd
        assert usd(model.price, work) == pytest.approx(in_usd, rel=0.11), model.id


@pytest.mark.parametrize(
    ("width", "height", "in_tiles", "in_megapixels"),
    [
        (512, 512, 1, 1),
        (513, 512, 2, 1),
        (1024, 1024, 4, 1),
        (1025, 1024, 6, 2),
        (1024, 768, 4, 1),
        (0, 0, 0, 0),
    ],
)
def test_a_picture_takes_what_it_begins(width: int, height: int, in_tiles: int, in_megapixels: int) -> None:
    """Tiles are counted by side and megapixels by area, begun ones in full."""
    assert (tiles(width, height), megapixels(width, height)) == (in_tiles, in_megapixels)


def test_a_model_that_is_gone_names_one_that_is_there() -> None:
    """Successors are listed models, of retired ones alone; only object detection has none."""
    models = known().by_id()
    gone = [model for model in known().models if model.gone]

    assert len(gone) == 40
    assert [model.id for model in gone if model.successor is None] == ["@cf/facebook/detr-resnet-50"]
    for model in known().models:
        if model.successor is not None:
            assert model.gone
            assert models[model.successor].status == "listed"
            assert model.aliased_to in {None, model.successor}
    assert known().successors_dated >= "2026-10-01"
