"""The account's other addresses: batches, fine-tunes, Markdown, lists, OpenAI's embeddings and responses."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncGenerator
from typing import Any

import aiohttp
import pytest
from emulated import BY_INPUT, CLASSIC, Cloud, emulated, first_code, said

from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.emulator.finetunes import CONFIG, WEIGHTS
from hybrid_router.emulator.script import Script

M3 = "@cf/baai/bge-m3"
BATCHED = "@cf/meta/llama-3.3-70b-instruct-fp8-fast"
LORA = "@cf/mistral/mistral-7b-instruct-v0.2-lora"
TUNED = {"model": LORA, "name": "mine", "description": "of mine"}


def form(*parts: tuple[str, bytes | str, str | None]) -> aiohttp.FormData:
    """A multipart body: field, content, file name."""
    made = aiohttp.FormData(default_to_multipart=True)
    for name, value, filename in parts:
        made.add_field(name, value, filename=filename)
    return made


async def posted(cloud: Cloud, path: str, data: aiohttp.FormData) -> tuple[int, Any]:
    """Status and JSON of a form's reply."""
    async with cloud.http.post(cloud.ai_url + path, data=data) as response:
        return response.status, await response.json()


async def queued(cloud: Cloud, model: str, body: dict[str, Any]) -> tuple[int, Any]:
    """Status and JSON of a call with `queueRequest`."""
    return await cloud.reply(f"/run/{model}?queueRequest=true", body)


async def test_a_batch_is_queued_then_runs_then_has_its_answers() -> None:
    """In the order of the inputs, each with its reference; what fails is told beside the others."""
    requests = [
        {"prompt": "repeat: one", "external_reference": "a"},
        {"max_tokens": 5},
        {"prompt": "repeat: three"},
    ]
    async with emulated() as cloud:
        _, first = await queued(cloud, BATCHED, {"requests": requests})
        request_id = first["result"]["request_id"]
        polls = [await queued(cloud, BATCHED, {"request_id": request_id}) for _ in range(3)]
        again = await queued(cloud, BATCHED, {"request_id": request_id})
        used = await cloud.neurons()

    assert first["result"] == {"status": "queued", "request_id": request_id, "model": BATCHED}
    assert [poll["result"].get("status") for _, poll in polls] == ["queued", "running", None]
    responses = polls[-1][1]["result"]["responses"]
    assert [(row["id"], row["success"], row["external_reference"]) for row in responses] == [
        (0, True, "a"),
        (1, False, None),
        (2, True, None),
    ]
    assert [responses[place]["result"]["response"] for place in (0, 2)] == ["one", "three"]
    assert responses[1]["errors"][0]["code"] == 5006
    assert polls[-1][1]["result"]["usage"]["completion_tokens"] == 2
    assert again == polls[-1]
    assert used > 0


async def test_vectors_are_batched_too() -> None:
    """Whatever takes batches answers each input as it would alone."""
    async with emulated(queue_polls=0) as cloud:
        _, alone = await cloud.run(M3, {"text": "hello"})
        _, first = await queued(cloud, M3, {"requests": [{"text": "hello"}]})
        _, done = await queued(cloud, M3, {"request_id": first["result"]["request_id"]})

    assert done["result"]["responses"][0]["result"] == alone["result"]


@pytest.mark.parametrize(
    ("model", "body", "status", "code"),
    [
        (CLASSIC, {"requests": [{"prompt": "hi"}]}, 400, 5006),
        (M3, {"requests": []}, 400, 5006),
        (M3, {"requests": ["hi"]}, 400, 5006),
        (M3, {"request_id": "none"}, 400, 5006),
        ("@cf/no/such", {"requests": [{}]}, 400, 5007),
    ],
)
async def test_batches_that_are_refused(model: str, body: dict[str, Any], status: int, code: int) -> None:
    """Models without batches, no list of inputs, unknown ids."""
    async with emulated() as cloud:
        got, document = await queued(cloud, model, body)

    assert (got, first_code(document)) == (status, code)


async def test_a_batch_has_ten_megabytes_at_most() -> None:
    """413/3006, whatever the emulator reads of other bodies."""
    body = json.dumps({"requests": [{"text": "x" * 10_000_001}]}).encode()
    async with emulated() as cloud:
        url = f"{cloud.ai_url}/run/{M3}?queueRequest=true"
        async with cloud.http.post(url, data=io.BytesIO(body)) as response:
            document = await response.json()

    assert (response.status, first_code(document)) == (413, 3006)


class Slow(Script):
    """Lets others have their turn before it says something."""

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the script's answer, a little later."""
        await asyncio.sleep(0.01)
        async for batch in super().run(call, step):
            yield batch


async def test_a_batch_is_done_once_however_many_ask() -> None:
    """Polls at the same time get the same answers, which are paid for once."""
    async with emulated(queue_polls=0, source=Slow()) as cloud:
        await cloud.run(BATCHED, {"prompt": "hi"})
        one = await cloud.neurons()
        _, first = await queued(cloud, BATCHED, {"requests": [{"prompt": "hi"}] * 4})
        asked = {"request_id": first["result"]["request_id"]}
        told = await asyncio.gather(*(queued(cloud, BATCHED, asked) for _ in range(3)))
        used = await cloud.neurons()

    (_, answer), *others = told
    assert len(answer["result"]["responses"]) == 4
    assert all(other == answer for _, other in others)
    assert used == pytest.approx(5 * one)


async def test_a_fine_tune_is_made_given_its_files_and_used() -> None:
    """A call that names it before both files are there is 3039; after them it is answered."""
    asked = {"prompt": "repeat: hello", "raw": True, "lora": "mine"}
    config = json.dumps({"model_type": "mistral", "r": 8})
    async with emulated() as cloud:
        _, made = await cloud.reply("/finetunes", TUNED)
        assets = f"/finetunes/{made['result']['id']}/finetune-assets"
        weights = form(("file_name", WEIGHTS, None), ("file", b"weights", "upload"))
        assert await posted(cloud, assets, weights) == (200, {"success": True})
        early, why = await cloud.run(LORA, asked)
        by_name = form(("file_name", CONFIG, None), ("file", config, "upload"))
        assert await posted(cloud, "/finetunes/mine/finetune-assets", by_name) == (200, {"success": True})
        status, answer = await cloud.run(LORA, asked)
        _, listed = await cloud.get(cloud.ai_url + "/finetunes")

    assert made["result"].items() >= (TUNED | {"public": False}).items()
    assert (early, first_code(why)) == (400, 3039)
    assert CONFIG in why["errors"][0]["message"]
    assert (status, answer["result"]["response"]) == (200, "\nhello")
    assert [row["name"] for row in listed["result"]] == ["mine"]
    assert "assets" not in listed["result"][0]


async def test_public_fine_tunes_answer_and_are_paged() -> None:
    """Everybody's can be named without an account's own."""
    async with emulated() as cloud:
        _, all_of_them = await cloud.get(cloud.ai_url + "/finetunes/public?orderBy=name")
        _, page = await cloud.get(cloud.ai_url + "/finetunes/public?limit=1&offset=1")
        name = all_of_them["result"][0]["name"]
        status, _ = await cloud.run(LORA, {"prompt": "hi", "lora": name})

    assert len(all_of_them["result"]) > 1
    assert page["result"] == all_of_them["result"][1:2]
    assert status == 200


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": LORA}, 400, 5006),
        ({"model": CLASSIC, "name": "a"}, 405, 5005),
        ({"model": "@cf/no/such", "name": "a"}, 400, 5007),
    ],
)
async def test_fine_tunes_that_cannot_be_made(body: dict[str, Any], status: int, code: int) -> None:
    """A missing field, a model without adapters, no model."""
    async with emulated() as cloud:
        got, document = await cloud.reply("/finetunes", body)

    assert (got, first_code(document)) == (status, code)


async def test_an_account_has_so_many_fine_tunes() -> None:
    """Thirty, with names of their own."""
    async with emulated() as cloud:
        assert (await cloud.reply("/finetunes", TUNED))[0] == 200
        assert (await cloud.reply("/finetunes", TUNED))[0] == 400
        for number in range(29):
            assert (await cloud.reply("/finetunes", TUNED | {"name": f"{number}"}))[0] == 200
        status, document = await cloud.reply("/finetunes", TUNED | {"name": "more"})

    assert (status, first_code(document)) == (400, 8001)


@pytest.mark.parametrize(
    ("file_name", "content", "status", "code"),
    [
        ("other.bin", b"x", 400, 3039),
        (CONFIG, b"[]", 400, 8001),
        (CONFIG, b'{"model_type": "qwen"}', 400, 8001),
        (CONFIG, b'{"model_type": "llama", "r": 64}', 400, 8001),
    ],
)
async def test_files_of_fine_tunes_are_looked_at(
    file_name: str, content: bytes, status: int, code: int
) -> None:
    """Their names, and what the configuration says."""
    async with emulated() as cloud:
        await cloud.reply("/finetunes", TUNED)
        parts = form(("file_name", file_name, None), ("file", content, "upload"))
        got, document = await posted(cloud, "/finetunes/mine/finetune-assets", parts)

    assert (got, first_code(document)) == (status, code)


async def test_files_of_fine_tunes_are_not_edited() -> None:
    """A second one of the same name is refused, as one for a fine-tune that is not there."""

    def weights() -> aiohttp.FormData:
        return form(("file_name", WEIGHTS, None), ("file", b"x", "upload"))

    async with emulated() as cloud:
        await cloud.reply("/finetunes", TUNED)
        assert (await posted(cloud, "/finetunes/mine/finetune-assets", weights()))[0] == 200
        again, edited = await posted(cloud, "/finetunes/mine/finetune-assets", weights())
        lost, unknown = await posted(cloud, "/finetunes/no/finetune-assets", weights())

    assert (again, first_code(edited)) == (400, 8001)
    assert (lost, first_code(unknown)) == (404, 3042)


@pytest.mark.parametrize(
    ("model", "name", "status", "code"), [(CLASSIC, "mine", 405, 5005), (LORA, "none", 404, 3042)]
)
async def test_an_adapter_that_cannot_be_used_is_told(model: str, name: str, status: int, code: int) -> None:
    """The model has none, or not this one."""
    async with emulated() as cloud:
        got, document = await cloud.run(model, {"prompt": "hi", "lora": name})

    assert (got, first_code(document)) == (status, code)


def word_document(text: str) -> bytes:
    """A .docx of one paragraph."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("word/document.xml", f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>")
    return made.getvalue()


async def test_files_become_markdown_each_for_itself() -> None:
    """HTML, tables and Word are read; one that cannot be is told beside the good ones, with 200."""
    page = b"<html><head><title>x</title></head><body><h2>Ships</h2><p>at &amp; sea</p></body></html>"
    data = form(
        ("files", page, "page.html"),
        ("files[]", b"a,b\n1,2\n", "table.csv"),
        ("files", word_document("A &lt; B"), "letter.docx"),
        ("files", b"no zip", "broken.docx"),
        ("files", b"x", "tune.mid"),
    )
    async with emulated() as cloud:
        status, document = await posted(cloud, "/tomarkdown", data)
        _, supported = await cloud.get(cloud.ai_url + "/tomarkdown/supported")

    rows = document["result"]
    assert status == 200
    assert [row["format"] for row in rows] == ["markdown"] * 3 + ["error"] * 2
    assert rows[0]["data"] == "# page.html\n\n## Ships\n\nat & sea"
    assert rows[1]["data"].endswith("| a | b |\n| --- | --- |\n| 1 | 2 |")
    assert rows[2]["data"].endswith("A < B")
    assert all(row["tokens"] > 0 for row in rows[:3])
    assert "unsupported file type: .mid" in rows[4]["error"]
    assert {"extension": ".pdf", "mimeType": "application/pdf"} in supported["result"]


async def test_markdown_may_be_plain_text() -> None:
    """`output.format` is heeded; options that are no JSON, and no files, are refused."""
    options = json.dumps({"output": {"format": "text"}})
    async with emulated() as cloud:
        data = form(("files", b"<p>hi</p>", "a.html"), ("conversionOptions", options, None))
        _, text = await posted(cloud, "/tomarkdown", data)
        odd = form(("files", b"<p>hi</p>", "a.html"), ("conversionOptions", "{", None))
        status, refusal = await posted(cloud, "/tomarkdown", odd)
        empty, none = await posted(cloud, "/tomarkdown", form(("other", "x", None)))

    assert (text["result"][0]["format"], text["result"][0]["data"]) == ("text", "hi")
    assert (status, first_code(refusal)) == (400, 5006)
    assert (empty, first_code(none)) == (400, 3003)


async def test_tasks_and_authors_are_listed() -> None:
    """Each once, and found by a part of its name."""
    async with emulated() as cloud:
        _, tasks = await cloud.get(cloud.ai_url + "/tasks/search")
        _, authors = await cloud.get(cloud.ai_url + "/authors/search?search=BAA")

    names = [row["name"] for row in tasks["result"]]
    assert len(names) == len(set(names)) > 10
    assert [row["name"] for row in authors["result"]] == ["baai"]


async def test_embeddings_come_in_openais_form() -> None:
    """A plain list without an envelope; a model of another kind is not found there."""
    async with emulated() as cloud:
        status, document = await cloud.reply("/v1/embeddings", {"model": M3, "input": ["one", "two"]})
        _, native = await cloud.run(M3, {"text": ["one", "two"]})
        wrong, refusal = await cloud.reply("/v1/embeddings", {"model": CLASSIC, "input": "one"})

    assert (status, document["object"], document["model"]) == (200, "list", M3)
    assert [row["index"] for row in document["data"]] == [0, 1]
    assert document["data"][1]["embedding"] == pytest.approx(native["result"]["data"][1])
    assert document["usage"]["prompt_tokens"] == 2
    assert (wrong, first_code(refusal)) == (400, 5007)


async def test_responses_are_for_gpt_oss_alone() -> None:
    """A plain object of OpenAI's; other models are not found there."""
    async with emulated() as cloud:
        status, document = await cloud.reply("/v1/responses", {"model": BY_INPUT, "input": "repeat: hi"})
        wrong, refusal = await cloud.reply("/v1/responses", {"model": CLASSIC, "input": "hi"})

    assert (status, document["object"]) == (200, "response")
    assert document["output"][0]["content"][0]["text"] == "hi"
    assert (wrong, first_code(refusal)) == (400, 5007)


async def test_a_busy_account_rejects_who_does_not_want_to_wait() -> None:
    """429/3040 with `rejectIfBusy`; without it the call waits for its place."""
    async with emulated(parallel=1) as cloud:
        slow = await cloud.post(
            f"/run/{CLASSIC}", {"messages": said("hi"), "stream": True}, fault="stall_after=1"
        )
        await slow.content.readany()
        busy = {"prompt": "repeat: two", "options": {"rejectIfBusy": True}}
        status, refusal = await cloud.run(CLASSIC, busy)
        slow.close()
        patient, answer = await cloud.run(CLASSIC, {"prompt": "repeat: two"})
        idle, _ = await cloud.run(CLASSIC, busy)

    assert (status, first_code(refusal)) == (429, 3040)
    assert (patient, answer["result"]["response"], idle) == (200, "two", 200)


async def test_a_guard_gives_verdicts() -> None:
    """`safe`, `unsafe` with the category, or the same as an object where JSON is asked for."""
    guard = "@cf/meta/llama-guard-3-8b"
    async with emulated() as cloud:
        _, safe = await cloud.run(guard, {"messages": said("bake a cake")})
        _, unsafe = await cloud.run(guard, {"messages": said("build a bomb")})
        body = {"messages": said("build a bomb"), "response_format": {"type": "json_object"}}
        _, as_json = await cloud.run(guard, body)

    assert (safe["result"]["response"], unsafe["result"]["response"]) == ("safe", "unsafe\nS1")
    assert as_json["result"]["response"] == {"safe": False, "categories": ["S1"]}


async def test_decisions_answer_each_kind_of_question() -> None:
    """A likelihood, a choice with its probabilities, a level with its legend."""
    questions = {
        "rain": {"type": "noul", "instructions": "is there rain"},
        "colour": {"type": "choice", "instructions": "which", "criteria": {"red": "r", "blue": "b"}},
        "wind": {"type": "score", "instructions": "how much", "criteria": ["calm", "storm"]},
    }
    body = {"model": "clef", "state": "there is rain, a storm and a blue sea", "questions": questions}
    async with emulated() as cloud:
        _, document = await cloud.run("@cf/cloudflare/clef", body)

    answers = document["result"]["answers"]
    assert answers["rain"]["noul"] > 0.9
    assert answers["colour"]["choice"] == "blue"
    assert sum(answers["colour"]["probabilities"].values()) == pytest.approx(1.0)
    assert (answers["wind"]["score"], answers["wind"]["legend"]) == (1, {"0": "calm", "1": "storm"})
