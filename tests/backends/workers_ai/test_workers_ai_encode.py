"""What a call becomes on the wire."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from scripted_cloud import ACCOUNT, MODEL, TOKEN, answer, chat, cloud, complete, piece, stream

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.encode import Endpoint, Model, Request, requests
from hybrid_router.core.call import Call, Feature, Message, Operation, Sampling
from hybrid_router.core.errors import BackendError, Inexpressible

CLASSIC = Model(name=MODEL)
MODERN = Model(name="@cf/zai-org/glm-4.7-flash", classic=False)
TOOLS = ({"type": "function", "function": {"name": "f", "parameters": {}}},)


def one(call: Call, endpoint: Endpoint = "v1", model: Model = CLASSIC) -> Request:
    """The only request of a call."""
    (request,) = requests(call, model, endpoint, 2048)
    return request


def body(call: Call, endpoint: Endpoint = "v1", model: Model = CLASSIC) -> dict[str, Any]:
    """Its body, streamed."""
    decoded: dict[str, Any] = msgspec.json.decode(one(call, endpoint, model).body(stream=True))
    return decoded


def said(*messages: dict[str, Any]) -> Call:
    """A chat of these messages, as a client sent them."""
    return Call(
        id="c",
        operation=Operation.CHAT,
        alias="a",
        messages=tuple(msgspec.convert(m, Message) for m in messages),
    )


def test_chat_goes_to_v1_with_the_model_in_its_body() -> None:
    """Streamed, with usage, and always with a budget, since the default is small."""
    assert one(chat()).path == "v1/chat/completions"
    assert body(chat()) == {
        "model": MODEL,
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2048,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_native_chat_names_the_model_in_its_path() -> None:
    """And has no stream options."""
    assert one(chat(), "run").path == f"run/{MODEL}"
    assert body(chat(), "run") == {
        "messages": [{"role": "user", "content": "hi"}],
        "max_tokens": 2048,
        "stream": True,
    }


def test_a_completion_is_a_raw_prompt_wherever_chat_goes() -> None:
    """No chat template may be put around it."""
    asked = complete("Once", sampling=Sampling(max_tokens=16))

    assert one(asked, "v1").path == f"run/{MODEL}"
    assert body(asked) == {"prompt": "Once", "raw": True, "max_tokens": 16, "stream": True}


def test_messages_are_written_as_both_endpoints_take_them() -> None:
    """developer is system; text parts are joined; null is empty; calls and their answers stay."""
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": "{"}}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    text = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    sent = body(
        said(
            {"role": "developer", "content": text},
            {"role": "user", "content": [*text, image]},
            {"role": "assistant", "content": None, "tool_calls": [call], "reasoning_content": "hm"},
            {"role": "tool", "tool_call_id": "t1", "content": [{"type": "text", "text": "5"}]},
            {"role": "function", "name": "f", "content": "6"},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
            {"role": "user", "content": [], "name": "Ann"},
        )
    )["messages"]

    assert sent == [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": [*text, image]},
        {"role": "assistant", "content": "", "tool_calls": [call], "reasoning": "hm"},
        {"role": "tool", "content": "5", "tool_call_id": "t1"},
        {"role": "tool", "content": "6", "name": "f"},
        {"role": "assistant", "content": "no"},
        {"role": "user", "content": "", "name": "Ann"},
    ]


def test_classic_models_get_no_names_and_no_reasoning() -> None:
    """Their messages know neither."""
    asked = said(
        {"role": "user", "content": "a", "name": "Ann"}, {"role": "assistant", "reasoning_content": "hm"}
    )

    assert body(asked, "run")["messages"] == [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": ""},
    ]


def test_sampling_has_openais_names_on_v1() -> None:
    """What the client left open is left open."""
    sampling = Sampling(
        max_tokens=5,
        temperature=0.0,
        top_p=0.0,
        presence_penalty=1,
        seed=0,
        stop=("x",),
        logit_bias={7: -1.5},
    )
    sent = body(chat(sampling=sampling))

    assert (
        sent.items()
        >= {
            "max_tokens": 5,
            "temperature": 0.0,
            "top_p": 0.0,
            "presence_penalty": 1.0,
            "seed": 0,
            "stop": ["x"],
            "logit_bias": {"7": -1.5},
        }.items()
    )
    assert "frequency_penalty" not in sent


def test_sampling_has_native_names_and_limits_on_run() -> None:
    """Seeds are folded into what it takes, 0 means the smallest top_p, stop strings are kept here."""
    sampling = Sampling(top_p=0.0, top_k=40, repeat_penalty=1.1, seed=0, stop=("x",))
    sent = body(chat(sampling=sampling), "run")

    assert (
        sent.items()
        >= {"top_p": 0.001, "top_k": 40, "repetition_penalty": 1.1, "seed": 9_999_999_999}.items()
    )
    assert "stop" not in sent


def test_many_stop_strings_are_kept_here_alone() -> None:
    """v1 takes four; more would be refused."""
    asked = chat(sampling=Sampling(stop=tuple("abcde")))

    assert "stop" not in body(asked)
    assert one(asked).stops == tuple("abcde")


@pytest.mark.parametrize(
    ("asked", "preferred", "path"),
    [
        (chat(sampling=Sampling(top_k=40)), "v1", "run/"),
        (chat(sampling=Sampling(repeat_penalty=1.1)), "v1", "run/"),
        (chat(sampling=Sampling(logit_bias={1: 1})), "run", "v1/"),
        (chat(tools=TOOLS, tool_choice="required"), "run", "v1/"),
        (chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "f"}}), "run", "v1/"),
        (chat(tools=TOOLS, tool_choice="auto"), "run", "run/"),
        (chat(sampling=Sampling(top_k=0, repeat_penalty=1.0, min_p=0.0)), "v1", "v1/"),
    ],
)
def test_a_field_that_only_one_endpoint_takes_chooses_it(asked: Call, preferred: Endpoint, path: str) -> None:
    """Rather there than not at all; values that change nothing choose nothing."""
    assert one(asked, preferred).path.startswith(path)


@pytest.mark.parametrize(
    ("asked", "model", "field"),
    [
        (chat(sampling=Sampling(min_p=0.1)), CLASSIC, "min_p"),
        (chat(sampling=Sampling(top_k=5)), MODERN, "top_k"),
        (chat(sampling=Sampling(top_k=5, logit_bias={1: 1})), CLASSIC, "logit_bias"),
        (complete("x", sampling=Sampling(logit_bias={1: 1})), CLASSIC, "logit_bias"),
        (Call(id="c", operation=Operation.COMPLETE, alias="a", prompts=((1, 2),)), CLASSIC, "prompt"),
        (
            said({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}),
            CLASSIC,
            "input_audio",
        ),
        (said({"role": "user", "content": [{"type": "file", "file": {}}]}), CLASSIC, "file"),
    ],
)
def test_what_cannot_be_said_lets_the_next_step_try(asked: Call, model: Model, field: str) -> None:
    """The message names the field; nothing is dropped in silence."""
    with pytest.raises(BackendError, match=f"`{field}`"):
        requests(asked, model, "v1", 2048)


def test_tools_and_form_are_passed_on() -> None:
    """As the client wrote them on v1; the bare schema for classic models, natively."""
    form = {"type": "json_schema", "json_schema": {"name": "n", "strict": True, "schema": {"type": "object"}}}
    asked = chat(tools=TOOLS, tool_choice="auto", response_format=form)
    on_v1, classic, modern = body(asked, model=MODERN), body(asked, "run"), body(asked, "run", MODERN)

    assert (on_v1["tools"], on_v1["tool_choice"], on_v1["response_format"]) == (list(TOOLS), "auto", form)
    assert classic["response_format"] == {"type": "json_schema", "json_schema": {"type": "object"}}
    assert "tool_choice" not in classic
    assert modern["response_format"] == form
    assert "tools" not in body(chat(tools=TOOLS, tool_choice="none"), "run")
    assert "response_format" not in body(chat(response_format={"type": "text"}))


@pytest.mark.parametrize(
    ("mode", "model", "endpoint", "path", "choice"),
    [
        ("auto", CLASSIC, "v1", "v1/", "auto"),
        ("required", CLASSIC, "run", "v1/", "required"),
        ("auto", CLASSIC, "run", "run/", None),
        ("required", MODERN, "run", "run/", "required"),
    ],
)
def test_tools_that_are_not_allowed_are_not_sent(
    mode: str, model: Model, endpoint: Endpoint, path: str, choice: str | None
) -> None:
    """The mode is all that is left of such a choice."""
    named = [{"type": "function", "function": {"name": name}} for name in "fgh"]
    choosing = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [named[2], named[0]]}}
    asked = chat(tools=tuple(named), tool_choice=choosing)
    sent = body(asked, endpoint, model)

    assert [tool["function"]["name"] for tool in sent["tools"]] == ["f", "h"]
    assert sent.get("tool_choice") == choice
    assert one(asked, endpoint, model).path.startswith(path)


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        ({"name": "f"}, {"name": "f", "description": "", "parameters": {"type": "object", "properties": {}}}),
        (
            {
                "name": "f",
                "description": "d",
                "strict": True,
                "parameters": {"properties": {"a": {"type": "string"}}},
            },
            {
                "name": "f",
                "description": "d",
                "strict": True,
                "parameters": {"type": "object", "properties": {"a": {"type": "string", "description": ""}}},
            },
        ),
        (
            {"name": "f", "parameters": {"type": "object", "required": ["a"], "properties": {"a": True}}},
            {
                "name": "f",
                "description": "",
                "parameters": {"type": "object", "required": ["a"], "properties": {"a": True}},
            },
        ),
    ],
)
def test_classic_models_get_the_descriptions_they_demand(sent: Any, received: Any) -> None:
    """Empty ones: OpenAI asks for none, and a missing one would be refused."""
    wrapped = chat(tools=({"type": "function", "function": sent}, sent))

    assert body(wrapped)["tools"] == [{"type": "function", "function": received}, received]
    assert body(wrapped, model=MODERN)["tools"] == list(wrapped.tools)


@pytest.mark.parametrize(
    ("model", "endpoint", "streams"), [(CLASSIC, "v1", False), (CLASSIC, "run", False), (MODERN, "v1", True)]
)
def test_json_mode_is_streamed_only_where_it_can_be(model: Model, endpoint: Endpoint, streams: bool) -> None:
    """Classic models and the native endpoint refuse the two together."""
    assert one(chat(response_format={"type": "json_object"}), endpoint, model).streams is streams
    assert one(chat(response_format={"type": "text"}), endpoint, model).streams is True


def test_declared_extra_fields_are_sent_and_no_others() -> None:
    """`store` and whatever nobody knows stay here; the client is told."""
    sent = body(chat(extra={"service_tier": "low", "user": "u", "store": True, "api_base": "http://x"}))

    assert (sent["service_tier"], sent["user"]) == ("low", "u")
    assert not {"store", "api_base"} & sent.keys()
    assert not {"store", "model", "messages", "stream", "api_base"} & WorkersAI.extra_fields


def test_fields_that_the_call_has_a_name_for_are_written_from_it() -> None:
    """Reasoning effort, template values and parallel tool calls go upstream by OpenAI's and vLLM's names."""
    sent = body(
        chat(
            reasoning_effort="low",
            template_values={"enable_thinking": False},
            tools=TOOLS,
            parallel_tool_calls=False,
        )
    )

    assert sent["reasoning_effort"] == "low"
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}
    assert sent["parallel_tool_calls"] is False
    assert not {"reasoning_effort", "chat_template_kwargs", "parallel_tool_calls"} & body(chat()).keys()


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"sampling": Sampling(typical_p=0.9)}, "typical_p"),
        ({"sampling": Sampling(dry_multiplier=0.8)}, "dry_multiplier"),
        ({"sampling": Sampling(xtc_probability=0.5)}, "xtc_probability"),
        ({"sampling": Sampling(mirostat=2)}, "mirostat"),
        ({"sampling": Sampling(ignore_eos=True)}, "ignore_eos"),
        ({"sampling": Sampling(repeat_penalty=1.1, repeat_last_n=64)}, "repeat_last_n"),
        ({"reasoning_tokens": 100}, "reasoning_budget"),
    ],
)
def test_what_would_change_the_answer_is_not_lost(changed: dict[str, Any], name: str) -> None:
    """A sampler that no endpoint knows makes the step give the call up, by the field's name."""
    with pytest.raises(Inexpressible, match=f"`{name}`"):
        one(chat(**changed))


@pytest.mark.parametrize(
    "sampling",
    [Sampling(typical_p=1.0), Sampling(dry_multiplier=0.0, dry_base=2.0), Sampling(repeat_last_n=64)],
)
def test_a_sampler_that_is_off_is_no_obstacle(sampling: Sampling) -> None:
    """Values that change nothing need no field upstream."""
    assert body(chat(sampling=sampling)) == body(chat())


async def test_the_request_on_the_wire() -> None:
    """Address, credentials, a name of our own; nothing of the client's headers."""
    async with cloud(stream(piece("a"), piece(finish="stop"), b"[DONE]"), chat_endpoint="run") as (
        backend,
        up,
    ):
        await answer(backend, chat(headers={"cookie": "c", "x-own": "1"}))
    line, headers, _ = up.requests[0]

    assert line == f"POST /client/v4/accounts/{ACCOUNT}/ai/run/{MODEL} HTTP/1.1"
    assert headers["authorization"] == f"Bearer {TOKEN}"
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("hybrid-router/")
    assert headers["accept-encoding"] == "identity"
    assert not {"cookie", "x-own"} & headers.keys()


async def test_features_come_from_the_catalogue() -> None:
    """A model it does not know may do everything: upstream will say."""
    kimi = {Feature.SCHEMA, Feature.TOOLS, Feature.IMAGES, Feature.LOGPROBS}
    async with cloud(stream()) as (backend, _):
        assert backend.features(MODEL) == {Feature.SCHEMA}
        assert backend.features("@cf/moonshotai/kimi-k2.6") == kimi
        assert backend.features("@cf/new/model") == {Feature.SCHEMA, Feature.TOOLS, Feature.IMAGES}
        assert backend.down(MODEL) is None
        assert backend.local is False
