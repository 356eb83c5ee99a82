"""Native inputs to calls, and events to native results, for every family that this room has."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms.table import FORMS
from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.families import Family, family
from hybrid_router.core.asks import Classification, Encoding, Translation
from hybrid_router.core.call import Call, ImagePart, Operation
from hybrid_router.core.errors import BackendError, CallRefused, StreamBroken
from hybrid_router.core.event import (
    Batch,
    Embedding,
    Finish,
    Heard,
    Label,
    Picture,
    Relevance,
    Remark,
    Segment,
    Sound,
    Text,
    ToolFragment,
    Usage,
    Word,
)

pytestmark = pytest.mark.usefixtures("own_uploads")

CATALOGUE = workers_ai.load()
SENDER: Sender = {"call_id": "run-1", "principal": "alice", "headers": {}}
GUARD = "@cf/meta/llama-guard-3-8b"
PNG = b"\x89PNG\r\n\x1a\n" + bytes(8)
BASE64 = base64.b64encode(PNG).decode()
TOOLS = [{"name": "weather", "description": "of a city", "parameters": {"type": "object"}}]
SAY = {"messages": [{"role": "user", "content": "hi"}]}
ROWS = [{"text": "a"}]
# One input of each family, and how many answers it wants.
INPUTS: dict[Family, list[dict[str, Any]]] = {
    Family.CLASSIC: [SAY, {"prompt": "hi"}, {"prompt": "hi", "raw": True}],
    Family.CHAT: [SAY, {"prompt": "hi"}],
    Family.EITHER: [SAY, {"prompt": "hi"}],
    Family.BY_INPUT: [SAY, {"input": "hi"}],
    Family.GUARD: [SAY],
    Family.VECTORS: [{"text": "a"}, {"text": ["a", "b"]}],
    Family.VECTORS_M3: [
        {"text": "a"},
        {"contexts": [{"text": "a"}], "query": "q"},
        {"contexts": [{"text": "a"}]},
    ],
    Family.VECTORS_QWEN: [{"text": "a"}, {"queries": ["a", "b"]}, {"documents": "a"}],
    Family.RERANK: [{"query": "q", "contexts": [{"text": "a"}, {"text": "b"}]}],
    Family.TEXT_LABELS: [{"text": "fine"}],
    Family.TRANSLATION: [{"text": "hi", "target_lang": "de"}],
    Family.TRANSLATIONS: [{"text": ["hi", "ho"], "target_language": "hin_Deva"}],
    Family.SUMMARY: [{"input_text": "long"}],
    Family.IMAGE_LABELS: [{"image": list(PNG)}],
    Family.IMAGE_BOXES: [{"image": list(PNG)}],
    Family.SOUND_BYTES: [{"audio": [1]}],
    Family.SOUND_BASE64: [{"audio": BASE64}],
    Family.PICTURE_BASE64: [{"prompt": "a cat"}],
    Family.SPEECH_BASE64: [{"prompt": "hi"}],
    Family.DESCRIPTION: [{"image": list(PNG), "prompt": "what?"}],
}
# One model for each schema that a family answers in.
MODELS = {
    (family(model), model.output_schema): model.id
    for model in CATALOGUE.models
    if family(model) in INPUTS and model.output_schema is not None
}
VALIDATORS = {
    model: jsonschema.Draft202012Validator(CATALOGUE.schemas[schema or ""])
    for (_, schema), model in MODELS.items()
}
EACH = [(model, body) for (known, _), model in MODELS.items() for body in INPUTS[known]]
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scores = st.floats(0, 1)


def call_of(model: str, body: dict[str, Any], *, openai: bool = False) -> Call:
    """As the router reads it."""
    asked = Given(model=model, body=body, openai=openai)
    known = family(CATALOGUE.by_id()[model])
    return FORMS[known].call(asked, **SENDER)


def result_of(model: str, body: dict[str, Any], call: Call, events: Batch, *, openai: bool = False) -> Any:
    """What the reply holds, out of its envelope."""
    known = family(CATALOGUE.by_id()[model])
    reply = FORMS[known].reply(Given(model=model, body=body, openai=openai), call, events)
    document = json.loads(reply.content)
    if openai:
        return document
    assert {name: document[name] for name in ("success", "errors", "messages")} == {
        "success": True,
        "errors": [],
        "messages": [],
    }
    return document["result"]


def answered(draw: st.DrawFn, call: Call) -> Batch:
    """Events that answer `call`, whatever it asks."""
    events: Batch = [Remark("cache", "MISS")]
    for index in range(call.choices_count):
        match call.operation:
            case Operation.EMBED:
                events.append(Embedding(struct.pack("<2f", 0.6, 0.8), index))
            case Operation.RERANK:
                events.append(Relevance(draw(scores), index))
            case Operation.CLASSIFY:
                boxed = (1.0, 2.0, 3.0, 4.0)
                events += [
                    Label(draw(texts), score, box=boxed) for score in draw(st.lists(scores, max_size=3))
                ]
            case Operation.TRANSCRIBE:
                events += [Heard("en", 2.0), Segment(draw(texts), 0.0, 2.0, words=(Word(" a", 0.0, 1.0),))]
            case Operation.IMAGE:
                events.append(Picture(PNG))
            case Operation.SPEAK:
                events.append(Sound(b"ID3"))
            case _:
                events += [Text(text, index) for text in draw(st.lists(texts, max_size=3))]
        events.append(Finish("stop", index))
    return [*events, Usage(3, 2)] if draw(st.booleans()) else events


@pytest.mark.parametrize(("model", "body"), EACH, ids=lambda value: str(value)[:40])
@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_every_reply_satisfies_its_models_schema(
    model: str, body: dict[str, Any], data: st.DataObject
) -> None:
    """Whatever a backend says, the result is one that the model's own schema allows."""
    call = call_of(model, body)
    for upload in call.uploads:
        upload.close()
    events = data.draw(st.composite(answered)(call))
    if model == GUARD:  # what begins otherwise is refused
        events = [Text("unsafe\n"), *events]

    VALIDATORS[model].validate(result_of(model, body, call, events))


def test_a_classic_answer_ends_after_256_tokens() -> None:
    """What Cloudflare does with its older models, an app counts on; newer ones end by themselves."""
    assert call_of("@cf/meta/llama-3.2-1b-instruct", SAY).sampling.max_tokens == 256
    assert call_of("@cf/meta/llama-3.2-1b-instruct", SAY | {"max_tokens": 9}).sampling.max_tokens == 9
    assert call_of("@cf/openai/gpt-oss-20b", SAY).sampling.max_tokens is None
    assert call_of("@cf/openai/gpt-oss-20b", {"prompt": "x"}).sampling.max_tokens is None
    assert call_of("@cf/aisingapore/gemma-sea-lion-v4-27b-it", {"prompt": "x"}).sampling.max_tokens == 256


def test_both_spellings_of_tools_and_of_answers_to_them_are_read() -> None:
    """Flat tools, arguments as an object and a tool's message without an id are what older examples send."""
    call = call_of(
        "@cf/meta/llama-3.3-70b-instruct-fp8-fast",
        {
            "messages": [
                {"role": "user", "content": "weather?"},
                {
                    "role": "assistant",
                    "content": "",
                    "tool_calls": [{"name": "weather", "arguments": {"c": 1}}],
                },
                {"role": "tool", "name": "weather", "content": "rain"},
            ],
            "tools": TOOLS,
        },
    )

    assert call.tools[0]["function"]["name"] == "weather"
    assert call.messages[1].tool_calls is not None
    asked = call.messages[1].tool_calls[0]
    assert (asked.function.name, json.loads(asked.function.arguments)) == ("weather", {"c": 1})
    assert call.messages[2].tool_call_id == asked.id


def test_a_bare_schema_is_wrapped_and_its_answer_is_an_object() -> None:
    """JSON mode of classic models: the schema comes bare, and `response` is parsed."""
    body = SAY | {"response_format": {"type": "json_schema", "json_schema": {"type": "object"}}}
    call = call_of("@cf/meta/llama-3.1-8b-instruct", body)
    events: Batch = [Text('{"a"'), Text(": 1}"), Finish("stop")]

    assert call.response_format is not None
    assert call.response_format["json_schema"]["schema"] == {"type": "object"}
    assert result_of("@cf/meta/llama-3.1-8b-instruct", body, call, events) == {"response": {"a": 1}}


def test_tool_calls_are_told_to_both_kinds_of_readers() -> None:
    """A classic model's tool call holds name and arguments as an object, and OpenAI's form beside it."""
    model, body = "@cf/meta/llama-3.1-8b-instruct-fp8", SAY | {"tools": TOOLS}
    events: Batch = [
        ToolFragment(0, '{"c":', "call_1", "weather"),
        ToolFragment(0, "1}"),
        Finish("tool_calls"),
    ]
    result = result_of(model, body, call_of(model, body), events)

    (call,) = result["tool_calls"]
    assert (call["name"], call["arguments"]) == ("weather", {"c": 1})
    assert call["function"] == {"name": "weather", "arguments": '{"c":1}'}
    jsonschema.validate(result, CATALOGUE.output_schema(CATALOGUE.by_id()[model]) or {})


@pytest.mark.parametrize(
    "image",
    [list(PNG), BASE64, "data:image/png;base64," + BASE64],
)
def test_a_picture_comes_as_bytes_base64_or_data_url(image: Any) -> None:
    """Each of them lands in the last of the user's messages."""
    body = SAY | {"image": image}
    call = call_of("@cf/meta/llama-3.2-11b-vision-instruct", body)

    content = call.messages[-1].content
    assert isinstance(content, list)
    assert isinstance(content[0], ImagePart)
    assert content[0].image_url["url"] == "data:image/png;base64," + BASE64


def test_a_verdict_is_told_in_the_form_that_was_asked() -> None:
    """A guard's words stay words, and become an object where JSON is asked for; other words are no answer."""
    model = GUARD
    events: Batch = [Text("\n\nunsafe\nS1,S10"), Finish("stop")]
    as_json = SAY | {"response_format": {"type": "json_object"}}

    assert result_of(model, SAY, call_of(model, SAY), events)["response"] == "\n\nunsafe\nS1,S10"
    call = call_of(model, as_json)
    assert call.response_format is None
    with pytest.raises(BackendError, match="no verdict"):
        result_of(model, SAY, call, [Text("Here is how."), Finish("stop")])
    assert result_of(model, as_json, call, events)["response"] == {"safe": False, "categories": ["S1", "S10"]}


def test_gpt_oss_answers_in_the_form_of_its_input() -> None:
    """Messages make a chat, a prompt a completion, an input OpenAI's Responses object."""
    model = "@cf/openai/gpt-oss-20b"
    events: Batch = [Text("ho"), Finish("stop"), Usage(1, 1)]
    inputs: dict[str, dict[str, Any]] = {
        "chat.completion": SAY,
        "text_completion": {"prompt": "hi"},
        "response": {"input": "hi"},
    }

    for kind, body in inputs.items():
        assert result_of(model, body, call_of(model, body), events)["object"] == kind


def test_the_responses_form_reads_texts_pictures_and_its_format() -> None:
    """Instructions, parts and `text.format` of OpenAI's Responses become a chat."""
    body = {
        "instructions": "be short",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}],
        "max_output_tokens": 7,
        "reasoning": {"effort": "low"},
        "text": {"format": {"type": "json_schema", "name": "a", "schema": {"type": "object"}}},
    }
    call = call_of("@cf/openai/gpt-oss-20b", body, openai=True)

    assert [message.text for message in call.messages] == ["be short", "hi"]
    assert (call.sampling.max_tokens, call.reasoning_effort) == (7, "low")
    assert call.response_format is not None
    told = result_of("@cf/openai/gpt-oss-20b", body, call, [Text("{}"), Finish("length")], openai=True)
    assert (told["status"], told["output"][0]["content"][0]["text"]) == ("incomplete", "{}")


def test_openais_form_of_vectors_is_kept_to() -> None:
    """Base64 where it is asked for, as many dimensions, and the name that was asked for."""
    model, body = "@cf/baai/bge-m3", {"input": "a", "encoding_format": "base64", "dimensions": 1}
    call = call_of(model, body, openai=True)
    events: Batch = [Embedding(struct.pack("<2f", 0.6, 0.8)), Finish("stop"), Usage(3, 0)]

    told = result_of(model, body, call, events, openai=True)
    assert base64.b64decode(told["data"][0]["embedding"]) == struct.pack("<f", 1.0)
    assert (told["model"], told["usage"]["total_tokens"]) == (model, 3)


def test_a_ranking_is_sorted_and_cut() -> None:
    """`id` is the place in `contexts`; the best come first, as many as were asked for."""
    body = {"query": "q", "contexts": [{"text": t} for t in "abc"], "top_k": 2}
    call = call_of("@cf/baai/bge-reranker-base", body)
    events: Batch = [Relevance(0.1, 0), Relevance(0.9, 1), Relevance(0.5, 2), Finish("stop")]

    result = result_of("@cf/baai/bge-reranker-base", body, call, events)
    assert [row["id"] for row in result["response"]] == [1, 2]


def test_queries_and_documents_are_embedded_each_in_their_way() -> None:
    """Qwen's model puts something else before each of them."""
    model = "@cf/qwen/qwen3-embedding-0.6b"

    assert call_of(model, {"queries": ["a"]}).ask == Encoding(purpose="query")
    assert call_of(model, {"documents": "a"}).ask == Encoding(purpose="document")
    with pytest.raises(CallRefused, match="not together"):
        call_of(model, {"documents": "a", "queries": "b"})


def test_languages_may_be_named_in_english() -> None:
    """Cloudflare's own examples write `french`; where nothing is said the text is English."""
    call = call_of("@cf/meta/m2m100-1.2b", {"text": "hi", "target_lang": "french"})

    assert call.ask == Translation(target="fr", source="en")


def test_labels_of_pictures_are_written_as_this_api_writes_them() -> None:
    """The first of a label's names, in capitals; where something is, in its words."""
    raw = {"image": list(PNG)}
    call = call_of("@cf/microsoft/resnet-50", raw)
    events: Batch = [Label("tabby, tabby cat", 0.7), Finish("stop")]

    assert call.ask == Classification(top_k=5)
    assert result_of("@cf/microsoft/resnet-50", raw, call, events) == [{"label": "TABBY", "score": 0.7}]
    with pytest.raises(StreamBroken, match="not where"):
        result_of("@cf/facebook/detr-resnet-50", raw, call, events)


@pytest.mark.parametrize(
    ("model", "body", "path"),
    [
        ("@cf/meta/llama-3.2-1b-instruct", {}, "/"),
        (
            "@cf/meta/llama-3.2-1b-instruct",
            {"messages": [{"role": "user", "content": 3}]},
            "/messages/0/content",
        ),
        ("@cf/meta/llama-3.2-1b-instruct", {"messages": 3}, "/messages"),
        ("@cf/meta/llama-3.2-1b-instruct", SAY | {"image": 3}, "/image"),
        ("@cf/meta/llama-3.2-1b-instruct", SAY | {"image": "%"}, "/image"),
        ("@cf/meta/llama-3.2-1b-instruct", SAY | {"temperature": 6}, "/temperature"),
        ("@cf/openai/gpt-oss-20b", {"input": [{"type": "reasoning"}]}, "/input/0"),
        ("@cf/openai/gpt-oss-20b", {"input": "x", "tools": TOOLS}, "/tools"),
        ("@cf/baai/bge-m3", {"text": []}, "/text"),
        ("@cf/baai/bge-m3", {"query": "x", "contexts": [{"text": 1}]}, "/contexts/0/text"),
        ("@cf/meta/m2m100-1.2b", {"text": "x", "target_lang": "?"}, "/target_lang"),
        ("@cf/microsoft/resnet-50", {"image": [256]}, "/image"),
        ("@cf/llava-hf/llava-1.5-7b-hf", {"prompt": "x"}, "/"),
    ],
)
def test_what_is_wrong_is_pointed_at(model: str, body: dict[str, Any], path: str) -> None:
    """A refusal names the path of the field, in its message too, for the envelope has no other place."""
    with pytest.raises(CallRefused) as refused:
        call_of(model, body)

    assert refused.value.param == path
    assert path in refused.value.message


def test_an_answer_that_is_not_whole_is_none() -> None:
    """A vector, a score, a finish or a translation that is missing breaks the answer."""
    missing: list[tuple[str, dict[str, Any], Batch]] = [
        ("@cf/baai/bge-m3", {"text": ["a", "b"]}, [Embedding(bytes(8)), Finish("stop")]),
        ("@cf/baai/bge-reranker-base", {"query": "q", "contexts": [{"text": "a"}]}, [Finish("stop")]),
        ("@cf/meta/m2m100-1.2b", {"text": "a", "target_lang": "de"}, [Text("a")]),
        ("@cf/meta/llama-3.2-1b-instruct", SAY, [Text("a")]),
    ]
    for model, body, events in missing:
        with pytest.raises(StreamBroken):
            result_of(model, body, call_of(model, body), events)


@pytest.mark.parametrize("openai", [False, True])
@pytest.mark.parametrize("said", ["safe", "\n\nunsafe\nS1", "You said: safe", "", "I cannot say."])
def test_a_streamed_verdict_is_told_once_it_is_one(said: str, openai: bool) -> None:
    """A chat that stands in a guard's place is found out before a word of it is out."""
    call = Call(id="c1", operation=Operation.CHAT, alias="a", stream=True)
    chunks = FORMS[Family.GUARD].chunks(
        Given(model=GUARD, body={"messages": [], "stream": True}, openai=openai), call
    )
    assert chunks is not None
    before = [chunks.encode([Text(piece)]) for piece in said]

    assert set(before) <= {b":\n\n"}
    if "said" in said or "say" in said or not said:
        with pytest.raises(StreamBroken, match="no verdict"):
            chunks.encode([Finish("stop")])
    else:
        told = chunks.encode([Finish("stop")])
        lines = [json.loads(line[6:]) for line in told.splitlines() if line]
        words = (
            [line["choices"][0]["delta"].get("content") or "" for line in lines]
            if openai
            else [line.get("response", "") for line in lines]
        )
        assert "".join(words) == said
        assert chunks.whole
