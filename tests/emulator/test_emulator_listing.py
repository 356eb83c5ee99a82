"""The catalogue as the API lists it, and the token checks."""

from __future__ import annotations

from typing import Any

import pytest
from emulated import CLASSIC, Cloud, HandClock, emulated, first_code


async def search(cloud: Cloud, query: str = "") -> dict[str, Any]:
    """A model search."""
    status, document = await cloud.get(f"{cloud.ai_url}/models/search{query}")
    assert status == 200
    found: dict[str, Any] = document
    return found


async def test_a_row_has_the_published_shape() -> None:
    """Id, source, name, task and properties, whose values are texts but for the price."""
    async with emulated() as cloud:
        first = await search(cloud, "?search=llama-3.2-1b-instruct")
        again = await search(cloud, "?search=LLAMA-3.2-1b-instruct")
    [row] = first["result"]

    assert first == again, "an id that is not published is still always the same"
    assert (row["name"], row["source"], row["task"]["name"]) == (CLASSIC, 1, "Text Generation")
    properties = {entry["property_id"]: entry["value"] for entry in row["properties"]}
    assert properties["context_window"] == "60000"
    assert properties["price"][0] == {"unit": "per M input tokens", "price": 0.027, "currency": "USD"}


async def test_pages_hold_every_model_once() -> None:
    """Paging by `per_page` gives the same rows as one page; a nonsense search gives none."""
    async with emulated() as cloud:
        whole = await search(cloud)
        pages = [await search(cloud, f"?per_page=20&page={page}") for page in range(1, 6)]
        nothing = await search(cloud, "?search=zzzz")

    assert [row for page in pages for row in page["result"]] == whole["result"]
    total = whole["result_info"]["total_count"]
    assert pages[0]["result_info"] == {
        "page": 1,
        "per_page": 20,
        "count": 20,
        "total_count": total,
        "total_pages": -(-total // 20),
    }
    assert nothing["result"] == []


@pytest.mark.parametrize(
    ("query", "present", "absent"),
    [
        ("?task=Translation", "@cf/meta/m2m100-1.2b", CLASSIC),
        ("?author=qwen", "@cf/qwen/qwen3.8-27b", CLASSIC),
        ("?hide_experimental=true", CLASSIC, "@cf/google/gemma-7b-it-lora"),
        ("?source=1", CLASSIC, "@hf/thebloke/zephyr-7b-beta-awq"),
        ("", CLASSIC, "@cf/moonshotai/kimi-k2.5"),
    ],
)
async def test_filters_leave_out_what_they_say(query: str, present: str, absent: str) -> None:
    """Task, author, source and beta filter the list; retired models are not in it."""
    async with emulated() as cloud:
        names = {row["name"] for row in (await search(cloud, query))["result"]}

    assert present in names
    assert absent not in names


async def test_retired_models_are_shown_for_three_months_on_request() -> None:
    """`include_deprecated` shows them until three months after their date."""
    clock = HandClock()
    clock.time = clock.time.replace(month=8, day=1)
    async with emulated(now=clock) as cloud:
        early = {row["name"] for row in (await search(cloud, "?include_deprecated=true"))["result"]}
        clock.forward(days=60)
        late = {row["name"] for row in (await search(cloud, "?include_deprecated=true"))["result"]}

    assert "@cf/moonshotai/kimi-k2.5" in early - late
    assert "@cf/deepseek-ai/deepseek-math-7b-instruct" not in early, "retired ten months before"


async def test_the_directory_form_has_no_envelope() -> None:
    """`format=openrouter` answers `{"data"}` with prices per token."""
    async with emulated() as cloud:
        document = await search(cloud, "?format=openrouter&search=llama-3.2-1b")

    assert document.keys() == {"data"}
    assert float(document["data"][0]["pricing"]["completion"]) == pytest.approx(0.201e-6)


async def test_schemas_of_a_model_can_be_asked_for() -> None:
    """Both schemas of a known model, 5007 for another."""
    async with emulated() as cloud:
        status, document = await cloud.get(f"{cloud.ai_url}/models/schema?model={CLASSIC}")
        unknown, refusal = await cloud.get(f"{cloud.ai_url}/models/schema?model=@cf/no/such")

    assert status == 200
    assert {branch["title"] for branch in document["result"]["input"]["anyOf"]} == {"Prompt", "Messages"}
    assert document["result"]["output"]
    assert (unknown, first_code(refusal)) == (400, 5007)


async def test_tokens_verify() -> None:
    """Both addresses say that the token is active."""
    async with emulated() as cloud:
        base, account = cloud.running.base_url, cloud.running.account_id
        for url in (f"{base}/user/tokens/verify", f"{base}/accounts/{account}/tokens/verify"):
            status, document = await cloud.get(url)
            assert (status, document["result"]["status"]) == (200, "active")


async def test_account_tokens_are_unknown_to_the_user_address() -> None:
    """A token that starts `cfat_` gets 401/1000 there and is active for its account."""
    async with emulated(token="cfat_" + "x" * 35) as cloud:
        base, account = cloud.running.base_url, cloud.running.account_id
        as_user, document = await cloud.get(f"{base}/user/tokens/verify")
        as_account, _ = await cloud.get(f"{base}/accounts/{account}/tokens/verify")

    assert (as_user, first_code(document), as_account) == (401, 1000, 200)
