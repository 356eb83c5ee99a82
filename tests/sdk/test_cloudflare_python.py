"""Cloudflare's own Python package against the emulator and the router's dialect: their idea of the API."""

from __future__ import annotations

import base64
import io
import json
import uuid
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import cloudflare
import pytest
import pytest_asyncio
from cloudflare import AsyncCloudflare
from PIL import Image
from two_sides import (
    ADAPTED,
    BUSY,
    CHAT,
    EARS,
    FILLER,
    GATEWAY,
    LABELS,
    PAINTER,
    THINKER,
    TRANSLATOR,
    VECTORS,
    VOICE,
    Side,
    Sides,
    both_sides,
)

from hybrid_router.emulator.stand_ins import png

pytestmark = [pytest.mark.timeout(90), pytest.mark.asyncio(loop_scope="module")]

NEW_GATEWAY: dict[str, Any] = {
    "id": GATEWAY,
    "cache_invalidate_on_update": True,
    "cache_ttl": 0,
    "collect_logs": True,
    "rate_limiting_interval": 0,
    "rate_limiting_limit": 0,
}


class Client:
    """The package, pointed at one side."""

    def __init__(self, side: Side, package: AsyncCloudflare) -> None:
        self.side = side
        self.package = package
        self.account = side.account_id

    async def run(self, model: str, **inputs: Any) -> Any:
        """The result of an inference call."""
        return await self.package.ai.run(model, account_id=self.account, **inputs)

    async def ask_gateway(self, prompt: str) -> Any:
        """A text from the gateway's host, which the package's methods do not know."""
        url = f"{self.side.gateway_url}/workers-ai/{CHAT}"
        return await self.package.post(url, cast_to=object, body={"prompt": prompt})


@asynccontextmanager
async def client_of(side: Side, token: str | None = None) -> AsyncGenerator[Client]:
    """A client with the side's token, or with another."""
    package = AsyncCloudflare(
        base_url=side.base_url, api_token=token or side.token, max_retries=0, timeout=60.0
    )
    async with package:
        yield Client(side, package)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sides(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Sides]:
    """One emulator and one router for all of these tests."""
    async with both_sides(tmp_path_factory.mktemp("sides")) as both:
        yield both


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator(sides: Sides) -> AsyncGenerator[Client]:
    """A client of the emulator."""
    async with client_of(sides.emulator) as client:
        yield client


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def router(sides: Sides) -> AsyncGenerator[Client]:
    """A client of the router's dialect."""
    async with client_of(sides.router) as client:
        yield client


@pytest.fixture(params=["emulator", "router"])
def client(request: pytest.FixtureRequest, emulator: Client, router: Client) -> Client:
    """Each of the two."""
    return {"emulator": emulator, "router": router}[request.param]


def code_of(error: cloudflare.APIStatusError) -> int:
    """The code in the envelope, as the package reads it."""
    return int(error.errors[0].code)


async def test_a_text_is_answered(client: Client) -> None:
    """By prompt and by messages, with the tokens that it took."""
    by_prompt = await client.run(CHAT, prompt="count to 4")
    by_messages = await client.run(CHAT, messages=[{"role": "user", "content": "repeat: so it is"}])

    assert by_prompt["response"].strip() == "1 2 3 4"
    assert by_prompt["usage"]["completion_tokens"] == 4
    assert by_messages["response"] == "so it is"


async def test_a_stream_is_read_line_by_line(client: Client) -> None:
    """In several pieces, which are the text, and then the mark of the end."""
    asked: Any = {"prompt": "count to 4", "extra_body": {"stream": True}}
    streamed = client.package.ai.with_streaming_response
    async with streamed.run(CHAT, account_id=client.account, **asked) as reply:
        lines = [
            line.removeprefix("data: ") async for line in reply.iter_lines() if line.startswith("data: ")
        ]

    assert lines.pop() == "[DONE]"
    pieces = [piece for line in lines if (piece := json.loads(line)["response"])]
    assert "".join(pieces).strip() == "1 2 3 4"
    assert len(pieces) > 1


async def test_thoughts_are_told_apart(client: Client) -> None:
    """Before the answer, in a field of their own."""
    said = await client.run(THINKER, messages=[{"role": "user", "content": "think: count to 3"}])

    message = said["choices"][0]["message"]
    assert message["content"].strip() == "1 2 3"
    assert message.get("reasoning") or message.get("reasoning_content")


async def test_a_tool_is_called(client: Client) -> None:
    """With arguments that are JSON, by the tool's name."""
    function = {
        "name": "get_weather",
        "description": "of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "its name"}},
            "required": ["city"],
        },
    }
    messages = [{"role": "user", "content": "please get_weather of Oslo"}]
    said = await client.run(THINKER, messages=messages, tools=[{"type": "function", "function": function}])

    (choice,) = said["choices"]
    (made,) = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert made["function"]["name"] == "get_weather"
    assert set(json.loads(made["function"]["arguments"])) == {"city"}


async def test_a_picture_in_a_chat_arrives(client: Client, sides: Sides) -> None:
    """As the client wrote it, whoever stands between."""
    shown = "data:image/png;base64," + base64.b64encode(png.picture("a cat", 16, 16)).decode()
    parts: Any = [{"type": "text", "text": "what?"}, {"type": "image_url", "image_url": {"url": shown}}]
    said = await client.run(THINKER, messages=[{"role": "user", "content": parts}])

    assert said["choices"][0]["message"]["content"]
    assert sides.last_asked["messages"][-1]["content"][-1]["image_url"]["url"] == shown


async def test_texts_become_vectors(client: Client) -> None:
    """One for each, of the model's own length."""
    found = await client.run(VECTORS, text=["a cat", "a dog"])

    assert found["shape"] == [2, 384]
    assert [len(row) for row in found["data"]] == [384, 384]


async def test_a_text_is_translated(client: Client) -> None:
    """By the names that the model knows."""
    found = await client.run(TRANSLATOR, text="good morning", source_lang="en", target_lang="de")

    assert found["translated_text"] == "[de] good morning"


async def test_a_picture_of_integers_is_classified(client: Client) -> None:
    """The package sends no raw bytes: a file is a list of numbers.  Its own type reads the labels."""
    found = await client.run(LABELS, image=list(png.picture("a cat", 16, 16)))

    assert len(found) == 5
    scores = [row.score for row in found]
    assert scores == sorted(scores, reverse=True)
    assert all(row.label for row in found)


async def test_what_is_spoken_is_heard(client: Client) -> None:
    """Speech comes back in base64, and said to the model that hears it is the text again."""
    spoken = await client.run(VOICE, prompt="good morning to you", lang="en")
    heard = await client.run(EARS, audio=list(base64.b64decode(spoken["audio"])))

    assert heard["text"] == "good morning to you"
    assert heard["word_count"] == 4


async def test_a_picture_is_painted(client: Client) -> None:
    """What comes is the file itself, which the package gives as it is."""
    raw = client.package.ai.with_raw_response
    reply = await raw.run(PAINTER, account_id=client.account, prompt="a red house", width=256, height=320)

    assert reply.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(await reply.read())).size == (256, 320)


async def test_the_catalogue_is_listed_to_its_end(client: Client) -> None:
    """Page after page until one is empty: each model once, all of the task that was asked for."""
    found = [
        row["name"]
        async for row in client.package.ai.models.list(
            account_id=client.account, task="Text Generation", per_page=5
        )
    ]

    assert len(found) > 5
    assert len(found) == len(set(found))
    assert CHAT in found
    assert TRANSLATOR not in found


async def test_a_models_schema_is_told(client: Client) -> None:
    """What it takes and what it gives."""
    schema = await client.package.ai.models.schema.get(account_id=client.account, model=EARS)

    assert schema.input.type or schema.input.model_extra
    assert schema.output.model_extra or schema.output.type


async def test_a_token_is_verified(client: Client) -> None:
    """As the user's, and as the account's."""
    of_user = await client.package.user.tokens.verify()
    of_account = await client.package.accounts.tokens.verify(account_id=client.account)

    assert (of_user.status, of_account.status) == ("active", "active")


async def test_another_token_is_an_authentication_error(client: Client) -> None:
    """Of that type, with Cloudflare's code."""
    async with client_of(client.side, "not-the-token") as stranger:
        with pytest.raises(cloudflare.AuthenticationError) as caught:
            await stranger.run(CHAT, prompt="hi")

    assert code_of(caught.value) == 10000


async def test_an_unknown_model_is_a_bad_request(client: Client) -> None:
    """Named by code 5007."""
    with pytest.raises(cloudflare.BadRequestError) as caught:
        await client.run("@cf/nobody/knows-1b", extra_body={"query": "q", "contexts": [{"text": "a"}]})

    assert code_of(caught.value) == 5007


async def test_an_input_that_does_not_fit_names_its_field(client: Client) -> None:
    """A bad request whose message holds the path."""
    with pytest.raises(cloudflare.BadRequestError) as caught:
        await client.run(TRANSLATOR, text=7, target_lang="de")

    assert code_of(caught.value) == 5006
    assert "text" in str(caught.value)


async def test_an_address_that_is_not_there_is_not_found(client: Client) -> None:
    """The envelope of an address that neither side has."""
    with pytest.raises(cloudflare.NotFoundError) as caught:
        await client.package.get("/accounts/any/nowhere", cast_to=object)

    assert code_of(caught.value) == 7000


async def test_no_room_is_a_rate_limit_error(client: Client, sides: Sides) -> None:
    """By the code of a model without capacity, which the router passes on when nobody else is there."""
    sides.be_busy()
    with pytest.raises(cloudflare.RateLimitError) as caught:
        await client.run(BUSY, prompt="hi")

    assert code_of(caught.value) == 3040


async def test_a_picture_is_painted_within_a_mask(emulator: Client) -> None:
    """Both are lists of numbers, as the model's schema has them."""
    given: Any = {name: list(png.picture(name, 16, 16)) for name in ("image", "mask")}
    raw = emulator.package.ai.with_raw_response
    reply = await raw.run(FILLER, account_id=emulator.account, prompt="a hat", **given)

    assert Image.open(io.BytesIO(await reply.read())).format == "PNG"


async def test_another_account_is_denied(emulator: Client) -> None:
    """A token opens its own account."""
    with pytest.raises(cloudflare.PermissionDeniedError) as caught:
        await emulator.package.ai.run(CHAT, account_id="b" * 32, prompt="hi")

    assert code_of(caught.value) == 10000


async def test_an_adapter_is_made_filled_listed_and_used(emulator: Client) -> None:
    """With its two files it answers; without them a call that names it is refused."""
    tuned, account = emulator.package.ai.finetunes, emulator.account
    made = await tuned.create(account_id=account, model=ADAPTED, name="mine", description="of tests")
    with pytest.raises(cloudflare.APIStatusError) as early:
        await emulator.run(ADAPTED, prompt="hi", raw=True, lora="mine")
    config = json.dumps({"model_type": "mistral", "r": 8}).encode()
    for name, content in (("adapter_config.json", config), ("adapter_model.safetensors", b"weights")):
        added = await tuned.assets.create(made.id, account_id=account, file=content, file_name=name)
        assert added.success
    listed: Any = await tuned.list(account_id=account)
    answer = await emulator.run(ADAPTED, prompt="repeat: tuned", raw=True, lora="mine")
    public = [each async for each in tuned.public.list(account_id=account)]

    assert code_of(early.value) == 3039
    assert [(each.id, each.name) for each in listed] == [(made.id, "mine")]
    assert answer["response"].strip() == "tuned"
    assert public
    assert all(each.public and each.created_at.year for each in public)


async def test_a_file_for_no_adapter_is_refused(emulator: Client) -> None:
    """By the code of a fine-tune that is not there."""
    with pytest.raises(cloudflare.APIStatusError) as caught:
        await emulator.package.ai.finetunes.assets.create(
            str(uuid.uuid4()), account_id=emulator.account, file=b"{}", file_name="adapter_config.json"
        )

    assert code_of(caught.value) == 3042


async def test_a_file_becomes_markdown(emulator: Client) -> None:
    """The package's own method fails before it sends; its client's `post` does the same."""
    page = b"<h1>Title</h1><p>One <b>word</b></p>"
    told: Any = await emulator.package.post(
        f"/accounts/{emulator.account}/ai/tomarkdown",
        cast_to=object,
        files={"files": ("page.html", page, "text/html")},
        options={"headers": {"Content-Type": "multipart/form-data"}},
    )

    (row,) = told["result"]
    assert "# Title" in row["data"]
    assert row["format"] == "markdown"


async def test_gateways_are_made_and_deleted(emulator: Client) -> None:
    """With the settings that the package sends."""
    gateways, account = emulator.package.ai_gateway, emulator.account
    made = await gateways.create(
        account_id=account, **(NEW_GATEWAY | {"id": "short-lived", "cache_ttl": 300})
    )
    before = [each.id async for each in gateways.list(account_id=account)]
    await gateways.delete("short-lived", account_id=account)
    after = [each.id async for each in gateways.list(account_id=account)]

    assert (made.id, made.cache_ttl) == ("short-lived", 300)
    assert set(before) - set(after) == {"short-lived"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(emulator: Client) -> None:
    """The emulator's; the router's is in its router.yaml."""
    await emulator.package.ai_gateway.create(account_id=emulator.account, **NEW_GATEWAY)


@pytest.mark.usefixtures("gateway")
async def test_a_gateways_log_is_listed_filtered_and_marked(client: Client) -> None:
    """What was asked through it is there by model; feedback and a score stay with it."""
    account, logs = client.account, client.package.ai_gateway.logs
    answer = await client.ask_gateway("count to 3")
    by_model: Any = {"key": "model", "operator": "contains", "value": ["llama"]}
    failed: Any = {"key": "success", "operator": "eq", "value": [False]}
    (entry,) = (await logs.list(GATEWAY, account_id=account, filters=[by_model], per_page=1)).result
    failures = (await logs.list(GATEWAY, account_id=account, filters=[by_model, failed])).result
    await logs.edit(
        entry.id, account_id=account, gateway_id=GATEWAY, feedback=1, score=90, metadata={"run": "one"}
    )
    shown = await logs.get(entry.id, account_id=account, gateway_id=GATEWAY)

    assert answer["result"]["response"].strip() == "1 2 3"
    assert (entry.provider, entry.success, entry.tokens_out) == ("workers-ai", True, 3)
    assert failures == []
    assert json.loads(shown.metadata or "{}") == {"run": "one"}
    assert (shown.model_extra["feedback"], shown.model_extra["score"]) == (1, 90)


@pytest.mark.usefixtures("gateway")
async def test_an_entry_that_is_not_there_is_not_found(client: Client) -> None:
    """Of that type."""
    with pytest.raises(cloudflare.NotFoundError):
        await client.package.ai_gateway.logs.get(
            "01ARZ3NDEKTSV4RRFFQ69G5FAV", account_id=client.account, gateway_id=GATEWAY
        )
