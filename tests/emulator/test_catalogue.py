"""The table of Workers AI's models."""

from __future__ import annotations

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.catalogue.prices import Work, neurons
from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, Catalogue, Price, load


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    """The shipped table."""
    return load()


def test_the_shipped_table_is_whole(catalogue: Catalogue) -> None:
    """110 models with ids of their own, dated, attributed, the text models with a schema each."""
    text_models = [model for model in catalogue.models if model.task == TEXT_GENERATION]

    assert len(catalogue.models) == len(catalogue.by_id()) == 110
    assert len(text_models) == 72
    assert all(catalogue.input_schema(model) for model in text_models)
    assert catalogue.dated == "2026-10-01"
    assert any("CC BY 4.0" in work for work in catalogue.attribution)


def test_every_schema_is_a_schema(catalogue: Catalogue) -> None:
    """Each schema passes the check of its own language, and each reference to one is met."""
    for schema in catalogue.schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    for model in catalogue.models:
        assert {model.input_schema, model.output_schema} - {None} <= catalogue.schemas.keys()


def test_aliases_lead_to_models(catalogue: Catalogue) -> None:
    """A model that another one answers for names one of the table."""
    assert {model.aliased_to for model in catalogue.models} - {None} <= catalogue.by_id().keys()


@pytest.mark.parametrize(
    ("model_id", "rate_in", "rate_out"),
    [
        ("@cf/meta/llama-3.2-1b-instruct", 2457, 18252),
        ("@cf/meta/llama-3.3-70b-instruct-fp8-fast", 26668, 204805),
        ("@cf/openai/gpt-oss-20b", 18182, 27273),
    ],
)
def test_published_prices_are_in_the_table(
    catalogue: Catalogue, model_id: str, rate_in: float, rate_out: float
) -> None:
    """A million tokens each way cost what the pricing page says."""
    work = Work(prompt_tokens=10**6, completion_tokens=10**6)
    assert neurons(catalogue.by_id()[model_id].price, work) == rate_in + rate_out


@given(
    prompt=st.integers(0, 10**6),
    output=st.integers(0, 10**6),
    cached_share=st.floats(0, 1),
    listed=st.booleans(),
)
def test_cached_tokens_cost_their_own_rate_where_one_is_listed(
    prompt: int, output: int, cached_share: float, listed: bool
) -> None:
    """In, cached and out are each charged at their rate; without a cached rate the ordinary one holds."""
    cached = int(prompt * cached_share)
    price = [
        Price(unit="per M input tokens", usd=0, neurons=4000),
        Price(unit="per M output tokens", usd=0, neurons=9000),
    ]
    price += [Price(unit="per M cached input tokens", usd=0, neurons=1000)] * listed
    work = Work(prompt_tokens=prompt, completion_tokens=output, cached_tokens=cached)

    whole = (prompt - cached) * 4000 + cached * (1000 if listed else 4000) + output * 9000
    assert neurons(price, work) == whole / 1_000_000


def test_an_unpriced_model_costs_nothing(catalogue: Catalogue) -> None:
    """Beta models without a price use no neurons."""
    work = Work(prompt_tokens=1000, completion_tokens=1000)
    assert neurons(catalogue.by_id()["@cf/google/gemma-7b-it-lora"].price, work) == 0


def test_rate_limits_follow_task_model_and_plan(catalogue: Catalogue) -> None:
    """300 a minute for text, 20 for models that need the paid plan, 1500 where a model has its own."""
    models = catalogue.by_id()

    assert catalogue.minute_limit(models["@cf/meta/llama-3.2-1b-instruct"]) == 300
    assert catalogue.minute_limit(models["@cf/moonshotai/kimi-k2.6"]) == 20
    assert catalogue.minute_limit(models["@cf/baai/bge-large-en-v1.5"]) == 1500
