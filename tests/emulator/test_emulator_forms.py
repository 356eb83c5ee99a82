"""Answers on the wire: plain and streamed, classic and chat-completion, text and tool calls."""

from __future__ import annotations

import json
from typing import Any

import pytest
from emulated import BY_INPUT, CHAT, CLASSIC, TOOL, data_lines, documents, emulated, said, token_neurons

from hybrid_router.catalogue.workers_ai import TEXT_GENERATION, load

FORCED = {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "get_weather"}}}


def deltas(chunks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The deltas of a chat stream."""
    return [choice["delta"] for chunk in chunks for choice in chunk.get("choices", [])]


async def test_classic_models_answer_with_response_and_usage() -> None:
    """`result` holds `response` and usage in the common envelope; the reply carries its id."""
    async with emulated() as cloud, cloud.post(f"/run/{CLASSIC}", {"prompt": "hello there"}) as response:
        assert response.headers["cf-ai-req-id"]
        assert await response.json() == {
            "result": {
                "response": "You said: hello there",
                "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
            },
            "success": True,
            "errors": [],
            "messages": [],
        }


async def test_classic_streams_are_response_lines_a_usage_line_and_done() -> None:
    """Text in `response`, padding of varying length in `p`, then usage, then `[DONE]`."""
    async with emulated() as cloud:
        *lines, last = documents(await cloud.stream(f"/run/{CLASSIC}", {"prompt": "count to 3"}))

    assert [line["response"] for line in lines] == ["1", " 2", " 3"]
    assert len({len(line["p"]) for line in lines}) > 1
    assert last == {"response": "", "usage": {"prompt_tokens": 6, "completion_tokens": 3, "total_tokens": 9}}


async def test_classic_models_end_after_256_tokens_unless_told() -> None:
    """The service's surprising default is played too."""
    async with emulated() as cloud:
        _, short = await cloud.run(CLASSIC, {"prompt": "count to 300"})
        _, whole = await cloud.run(CLASSIC, {"prompt": "count to 300", "max_tokens": 1000})

    assert short["result"]["usage"]["completion_tokens"] == 256
    assert whole["result"]["response"].endswith(" 299 300")


async def test_classic_tool_calls_hold_an_object() -> None:
    """Native tool calls of classic models: arguments are parsed, plain and streamed alike."""
    body = {"messages": said("hello"), **FORCED}
    called = [{"name": "get_weather", "arguments": {"city": "text"}}]
    async with emulated() as cloud:
        _, plain = await cloud.run(CLASSIC, body)
        lines = documents(await cloud.stream(f"/run/{CLASSIC}", body))

    assert plain["result"]["response"] == ""
    streamed = [line["tool_calls"] for line in lines if line.get("tool_calls")]
    for found in (plain["result"]["tool_calls"], *streamed):
        assert [{name: call[name] for name in ("name", "arguments")} for call in found] == called
    assert len(streamed) == 1


async def test_json_mode_of_classic_models_is_an_object() -> None:
    """`response` is then no string."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}}
    body = {"prompt": "hi", "response_format": {"type": "json_schema", "json_schema": schema}}
    async with emulated() as cloud:
        _, reply = await cloud.run(CLASSIC, body)

    assert reply["result"]["response"] == {"n": 1}


async def test_chat_models_answer_with_a_chat_completion() -> None:
    """`result` is a whole `chat.completion` with reasoning, usage and neurons."""
    async with emulated() as cloud:
        _, reply = await cloud.run(CHAT, {"messages": said("think: hello")})

    result = reply["result"]
    assert reply["success"]
    assert (result["object"], result["model"]) == ("chat.completion", CHAT)
    assert result["choices"] == [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "You said: hello",
                "refusal": None,
                "reasoning_content": "Let me see what was said.",
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ]
    assert result["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert result["usage"]["neurons"] == priced(CHAT, result["usage"])


def priced(model: str, usage: dict[str, Any]) -> float:
    """The price of a usage by the catalogue."""
    return token_neurons(load().by_id()[model], usage["prompt_tokens"], usage["completion_tokens"])


async def test_the_openai_address_answers_without_an_envelope() -> None:
    """Classic models too answer there with a plain `chat.completion`; `max_tokens` and `stop` hold."""
    async with emulated() as cloud:
        status, cut = await cloud.chat({"messages": said("count to 9"), "max_tokens": 2})
        _, stopped = await cloud.chat({"messages": said("count to 9"), "stop": [" 3"]})

    assert status == 200
    assert "success" not in cut
    assert (cut["object"], cut["model"]) == ("chat.completion", CLASSIC)
    assert (cut["choices"][0]["message"]["content"], cut["choices"][0]["finish_reason"]) == ("1 2", "length")
    assert stopped["choices"][0]["message"]["content"] == "1 2"
    assert stopped["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("native", [True, False])
async def test_chat_streams_have_role_text_finish_usage_and_a_trailing_line(native: bool) -> None:
    """One id and one role; one finish; a chunk without choices; the service's own line; `[DONE]`."""
    body = {"messages": said("count to 3")}
    async with emulated() as cloud:
        text = await (cloud.stream(f"/run/{CHAT}", body) if native else cloud.chat_stream(body, CHAT))
    *chunks, bare, trailing = documents(text)

    assert len({chunk["id"] for chunk in [*chunks, bare]}) == 1
    assert {chunk["object"] for chunk in [*chunks, bare]} == {"chat.completion.chunk"}
    assert deltas(chunks) == [
        {"role": "assistant", "content": ""},
        {"content": "1"},
        {"content": " 2"},
        {"content": " 3"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 4 + ["stop"]
    assert bare["choices"] == []
    assert trailing["response"] == ""
    assert "choices" not in trailing
    assert trailing["usage"]["total_tokens"] == 9


async def test_the_trailing_line_can_be_switched_off() -> None:
    """Then the chunk without choices holds the totals."""
    async with emulated(trailing_usage=False) as cloud:
        *_, last = documents(await cloud.chat_stream({"messages": said("count to 3")}))

    assert last["choices"] == []
    assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (6, 3)


@pytest.mark.parametrize(
    ("style", "told"), [("delta", [0, 1, 1, 1, 0, 0]), ("cumulative", [0, 1, 2, 3, 3, 3])]
)
async def test_usage_of_chunks_comes_in_both_seen_styles(style: str, told: list[int]) -> None:
    """Some models tell each chunk's tokens, some the tokens so far."""
    async with emulated(stream_usage=style) as cloud:
        *chunks, _ = documents(await cloud.chat_stream({"messages": said("count to 3")}))

    assert [chunk["usage"]["completion_tokens"] for chunk in chunks] == told


async def test_usage_can_wait_for_the_last_chunk() -> None:
    """With `final`, chunks that bring text tell no usage."""
    async with emulated(stream_usage="final") as cloud:
        *chunks, last, _ = documents(await cloud.chat_stream({"messages": said("count to 3")}))

    assert not any("usage" in chunk for chunk in chunks)
    assert last["usage"]["completion_tokens"] == 3


async def test_openai_tool_calls_stream_as_a_head_and_pieces() -> None:
    """Id and name come once, the argument pieces join to valid JSON, the finish is `tool_calls`."""
    async with emulated() as cloud:
        *chunks, _, _ = documents(await cloud.chat_stream({"messages": said("hi"), **FORCED}))
        _, plain = await cloud.chat({"messages": said("hi"), **FORCED})
    fragments = [f for delta in deltas(chunks) for f in delta.get("tool_calls", [])]
    head, *pieces = fragments

    assert (head["index"], head["type"], head["function"]) == (0, "function", {"name": "get_weather"})
    assert not any("id" in piece for piece in pieces)
    joined = "".join(piece["function"]["arguments"] for piece in pieces)
    assert json.loads(joined) == {"city": "text"}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
    message = plain["choices"][0]["message"]
    assert message["content"] is None
    assert message["tool_calls"] == [
        {"id": head["id"], "type": "function", "function": {"name": "get_weather", "arguments": joined}}
    ]


async def test_reasoning_streams_in_a_field_of_its_own() -> None:
    """`reasoning_content` of the deltas joins to the reasoning, `content` to the text."""
    async with emulated() as cloud:
        chunks = documents(await cloud.chat_stream({"messages": said("think: hello")}, CHAT))
    found = deltas(chunks)

    assert "".join(delta.get("reasoning_content", "") for delta in found) == "Let me see what was said."
    assert "".join(delta.get("content", "") for delta in found) == "You said: hello"


async def test_two_choices_are_both_finished() -> None:
    """`n` gives that many choices, plain and streamed, and their tokens are counted."""
    body = {"messages": said("count to 3"), "n": 2}
    async with emulated() as cloud:
        _, plain = await cloud.chat(body, CHAT)
        chunks = documents(await cloud.chat_stream(body, CHAT))

    assert [choice["index"] for choice in plain["choices"]] == [0, 1]
    assert plain["usage"]["completion_tokens"] == 6
    finished = [c["index"] for k in chunks for c in k.get("choices", []) if c["finish_reason"]]
    assert finished == [0, 1]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"messages": [{"role": "user", "content": "hi"}]}, "chat.completion"),
        ({"prompt": "hi"}, "text_completion"),
        ({"input": "hi"}, "response"),
        ({"input": [{"role": "user", "content": "hi"}], "instructions": "be brief"}, "response"),
    ],
)
async def test_some_models_answer_in_the_form_they_are_asked(body: dict[str, Any], kind: str) -> None:
    """gpt-oss: messages, prompt and input each have their own answer object, with the same text."""
    async with emulated() as cloud:
        _, reply = await cloud.run(BY_INPUT, body)

    assert reply["result"]["object"] == kind
    assert 'You said: hi"' in json.dumps(reply)


async def test_completions_stream_as_text() -> None:
    """The prompt form streams `text_completion` documents."""
    async with emulated() as cloud:
        chunks = documents(await cloud.stream(f"/run/{BY_INPUT}", {"prompt": "count to 3"}))
    texts = [choice["text"] for chunk in chunks for choice in chunk.get("choices", [])]

    assert texts == ["\n1", " 2", " 3", ""]


async def test_content_parts_and_earlier_tool_calls_are_read() -> None:
    """Parts are joined; null content of an assistant's tool calls is accepted, in both their forms."""
    history = [
        {"role": "user", "content": [{"type": "text", "text": "the weather?"}]},
        {"role": "assistant", "content": None, "tool_calls": [{"name": "get_weather", "arguments": {}}]},
        {"role": "tool", "content": "12 degrees"},
    ]
    async with emulated() as cloud:
        status, reply = await cloud.run(CLASSIC, {"messages": history})
        _, parts = await cloud.run(CLASSIC, {"messages": history[:1]})

    assert (status, reply["result"]["response"]) == (200, "The tool said: 12 degrees")
    assert parts["result"]["response"] == "You said: the weather?"


async def test_the_model_may_be_named_in_the_body_or_escaped_in_the_path() -> None:
    """`POST /run` takes `{model, input}`; `%40cf` means `@cf`."""
    async with emulated() as cloud:
        _, inside = await cloud.reply("/run", {"model": CLASSIC, "input": {"prompt": "hi"}})
        _, escaped = await cloud.run(CLASSIC.replace("@", "%40"), {"prompt": "hi"})

    assert inside["result"] == escaped["result"]
    assert inside["result"]["response"] == "You said: hi"


async def test_a_stream_arrives_as_it_is_made() -> None:
    """The first event is there while the emulator has not said the second one yet."""
    async with emulated(hang_limit_s=30) as cloud:
        fault = "stall_after=1"
        async with cloud.post(
            f"/run/{CLASSIC}", {"prompt": "count to 3", "stream": True}, fault=fault
        ) as response:
            first = await response.content.readuntil(b"\n\n")

    assert json.loads(data_lines(first.decode())[0])["response"] == "1"


async def test_json_mode_cut_short_stays_text() -> None:
    """A truncated JSON answer cannot be parsed and is told as it is."""
    body = {"prompt": "hi", "max_tokens": 2, "response_format": {"type": "json_object"}}
    async with emulated() as cloud:
        _, reply = await cloud.run(CLASSIC, body)

    assert isinstance(reply["result"]["response"], str)


async def test_every_listed_text_model_answers() -> None:
    """All but the decision models, at their native address, in the form that the catalogue names."""
    async with emulated(paid=True) as cloud:
        models = [
            model
            for model in cloud.running.account.models.values()
            if model.task == TEXT_GENERATION and model.status in ("listed", "priced_or_named_not_listed")
        ]
        replies = {model.id: await cloud.run(model.id, {"messages": said("hi")}) for model in models}

    silent = [name for name, (status, _) in replies.items() if status != 200]
    assert silent == ["@cf/cloudflare/clef", "@cf/cloudflare/clef-flash"]
    for model in models:
        _, reply = replies[model.id]
        classic = model.native_result == "response"
        assert model.id in silent or ("response" in reply["result"]) == classic


async def test_an_alias_answers_under_the_old_name() -> None:
    """A retired model that another replaces echoes its own name and costs the other's price."""
    old, new = "@cf/moonshotai/kimi-k2.5", "@cf/moonshotai/kimi-k2.6"
    async with emulated(paid=True) as cloud:
        _, reply = await cloud.run(old, {"messages": said("hi")})
    usage = reply["result"]["usage"]

    assert reply["result"]["model"] == old
    assert usage["neurons"] == priced(new, usage)
