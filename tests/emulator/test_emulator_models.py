"""Every model of the catalogue: a request that its schema generates, an answer that its schema accepts."""

from __future__ import annotations

import base64
from typing import Any

import aiohttp
import jsonschema
import pytest
from asked_models import (
    BARE,
    CATALOGUE,
    EXCEPTIONS,
    GIVEN_BYTES,
    HOLDS,
    ROWS,
    json_body,
    models_of,
    picture_format,
    sound_s,
)
from emulated import BY_INPUT, CLASSIC, TOOL, Cloud, emulated, first_code, said

from hybrid_router.catalogue.families import Family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.emulator.settings import Settings

EVERYTHING = Settings(paid=True, keep_retired=True, rate_limits=False)
FAMILIES = [known for known in Family if known is not Family.SOUND_LIVE]
CHECKED = [known for known in FAMILIES if known is not Family.SOUND_NOVA]  # see EXCEPTIONS


def form_of(body: dict[str, Any]) -> aiohttp.FormData:
    """The same as a multipart form."""
    form = aiohttp.FormData(default_to_multipart=True)
    for name, value in body.items():
        form.add_field(name, str(value))
    return form


async def asked(cloud: Cloud, model: Model, known: Family, body: dict[str, Any]) -> tuple[int, str, bytes]:
    """Status, type and body of a call in the way in which its family is asked."""
    url = f"{cloud.ai_url}/run/{model.id}"
    sent: dict[str, Any] = {"data": form_of(body)} if known is Family.PICTURE_FORM else {"json": body}
    if known is Family.SOUND_NOVA:
        content, media_type = GIVEN_BYTES[known]
        sent = {"data": content, "headers": {"content-type": media_type}}
    async with cloud.http.post(url, **sent) as response:
        return response.status, response.content_type, await response.read()


def check_result(model: Model, known: Family, result: Any) -> None:
    """The result fits its published schema, and holds what every such answer does."""
    schema = CATALOGUE.output_schema(model)
    if schema is not None:
        jsonschema.Draft202012Validator(schema).validate(result)
    if known in ROWS:
        assert result
        assert all(set(row) == ROWS[known] for row in result)
        return
    missing = [name for name in HOLDS[known] if name not in result]
    assert not missing, f"{model.id} lacks {missing}: {result}"
    assert all(result[name] not in (None, "", []) for name in HOLDS[known])


@pytest.mark.parametrize("known", FAMILIES, ids=str)
async def test_every_model_answers_a_generated_request_in_its_own_schema(known: Family) -> None:
    """The input validates and is accepted; the output validates, or decodes if it is a file."""
    models = models_of(known)
    assert models
    async with emulated(EVERYTHING) as cloud:
        for model in models:
            body = json_body(model)
            if (schema := CATALOGUE.input_schema(model)) is not None and model.id not in EXCEPTIONS:
                jsonschema.Draft202012Validator(schema).validate(body)
            status, media_type, content = await asked(cloud, model, known, body)
            assert status == 200, f"{model.id}: {content[:500]!r}"
            if known in BARE:
                assert (media_type, picture_format(content)) == (
                    f"image/{BARE[known].lower()}",
                    BARE[known],
                )
            elif known is Family.SPEECH_BYTES:
                assert (media_type, sound_s(content) > 0.4) == ("audio/mpeg", True)
            else:
                document = cloud.decoded(content)
                assert document["success"] is True
                check_result(model, known, document["result"])


@pytest.mark.parametrize("known", list(GIVEN_BYTES), ids=str)
async def test_files_may_be_the_whole_body(known: Family) -> None:
    """Recordings and pictures are taken as they are, by their Content-Type."""
    content, media_type = GIVEN_BYTES[known]
    async with emulated(EVERYTHING) as cloud:
        for model in models_of(known):
            headers = {"content-type": media_type}
            async with cloud.http.post(
                f"{cloud.ai_url}/run/{model.id}", data=content, headers=headers
            ) as response:
                document = await response.json()
                assert response.status == 200, document
                check_result(model, known, document["result"])


@pytest.mark.parametrize("told", [None, "application/x-www-form-urlencoded", "text/plain"])
@pytest.mark.parametrize("known", list(GIVEN_BYTES), ids=str)
async def test_files_are_known_by_their_first_byte(known: Family, told: str | None) -> None:
    """`curl --data-binary` calls a file a form, and some apps name no type: it is taken as what it is."""
    content, _ = GIVEN_BYTES[known]
    model = models_of(known)[0]
    async with emulated(EVERYTHING) as cloud:
        headers = {} if told is None else {"content-type": told}
        async with cloud.http.post(
            f"{cloud.ai_url}/run/{model.id}",
            data=content,
            headers=headers,
            skip_auto_headers=["content-type"] if told is None else None,
        ) as response:
            document = await response.json()

    assert response.status == 200, document
    check_result(model, known, document["result"])


@pytest.mark.parametrize(
    ("model_id", "field", "decode"),
    [
        ("@cf/black-forest-labs/flux-1-schnell", "image", picture_format),
        ("@cf/leonardo/lucid-origin", "image", picture_format),
        ("@cf/myshell-ai/melotts", "audio", sound_s),
    ],
)
async def test_files_inside_json_decode(model_id: str, field: str, decode: Any) -> None:
    """Base64 in an envelope holds a real JPEG or MP3."""
    async with emulated(EVERYTHING) as cloud:
        status, document = await cloud.run(model_id, {"prompt": "a ship at sea"})

    content = base64.b64decode(document["result"][field], validate=True)
    assert status == 200
    assert decode(content) == "JPEG" if decode is picture_format else decode(content) > 0.4


@pytest.mark.parametrize("known", CHECKED, ids=str)
async def test_a_body_that_misses_a_property_is_told_its_path(known: Family) -> None:
    """5006 (422/5012 from decision models) names what is missing; nothing is charged."""
    model = models_of(known)[0]
    async with emulated(EVERYTHING) as cloud:
        status, _, content = await asked(cloud, model, known, {"nothing": "here"})
        document = cloud.decoded(content)
        used = await cloud.neurons()

    expected = (422, 5012) if known is Family.DECISION else (400, 5006)
    if known is Family.VECTORS_QWEN:  # its schema requires nothing: the model says what it needs
        assert (status, first_code(document)) == expected
        return
    assert (status, first_code(document), used) == (*expected, 0.0)
    assert "required properties at '/" in document["errors"][0]["message"]


async def test_wrong_types_are_told_their_path() -> None:
    """Deep inside a body too."""
    async with emulated(EVERYTHING) as cloud:
        _, document = await cloud.run("@cf/baai/bge-reranker-base", {"query": "q", "contexts": [{"text": 5}]})
        _, image = await cloud.run("@cf/microsoft/resnet-50", {"image": [1, 2, "x"]})

    assert "Type mismatch of '/contexts/0/text', 'integer' not in 'string'" in str(document["errors"])
    assert "Type mismatch of '/image/2', 'string' not in 'number'" in str(image["errors"])


async def test_a_form_is_checked_as_numbers() -> None:
    """flux-2 takes multipart alone, and its sizes have bounds though they come as text."""
    model = models_of(Family.PICTURE_FORM)[0]
    async with emulated(EVERYTHING) as cloud:
        status, document = await cloud.run(model.id, {"prompt": "as JSON"})
        assert (status, first_code(document)) == (400, 5006)
        _, _, content = await asked(cloud, model, Family.PICTURE_FORM, {"prompt": "a", "width": 100})
        assert "minimum at '/width' must be 256" in str(cloud.decoded(content))
        fine, _, content = await asked(
            cloud, model, Family.PICTURE_FORM, {"prompt": "a", "width": 256, "height": 320}
        )
        image = base64.b64decode(cloud.decoded(content)["result"]["image"])

    assert (fine, picture_format(image)) == (200, "JPEG")


async def test_base64_that_is_none_has_a_code_of_its_own() -> None:
    """400/5004."""
    async with emulated(EVERYTHING) as cloud:
        status, document = await cloud.run("@cf/openai/whisper-large-v3-turbo", {"audio": "%%%"})

    assert (status, first_code(document)) == (400, 5004)


async def test_classic_tool_calls_are_flat() -> None:
    """The documented exception: one form of a tool call, with arguments as an object."""
    body = {"messages": said("get_weather please"), "tools": [TOOL]}
    async with emulated(EVERYTHING) as cloud:
        _, document = await cloud.run(CLASSIC, body)

    call = document["result"]["tool_calls"][0]
    assert EXCEPTIONS["classic tool calls"]
    assert (call["name"], type(call["arguments"])) == ("get_weather", dict)


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"messages": said("hi")}, "chat.completion"),
        ({"prompt": "hi"}, "text_completion"),
        ({"input": "hi"}, "response"),
    ],
)
async def test_gpt_oss_answers_by_its_input(body: dict[str, Any], kind: str) -> None:
    """Three inputs, three objects; a prompt's is the documented exception to the schema."""
    async with emulated(EVERYTHING) as cloud:
        _, document = await cloud.run(BY_INPUT, body)

    result = document["result"]
    assert result["object"] == kind
    fits = jsonschema.Draft202012Validator(
        CATALOGUE.output_schema(CATALOGUE.by_id()[BY_INPUT]) or {}
    ).is_valid(result)
    assert fits or kind == "text_completion"
