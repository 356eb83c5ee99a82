"""Reading chat requests."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.openai import chat_request, malformed
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

USER = {"role": "user", "content": "hi"}
BEGUN = {"role": "assistant", "content": "Once upon"}
GOES_ON: dict[str, Any] = {"continue_final_message": True, "messages": [USER, BEGUN]}
TOOL = {"type": "function", "function": {"name": "look"}}
AUDIO = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def decode(body: bytes) -> Call:
    """Read bytes."""
    return chat_request.decode(body, call_id="chatcmpl-1", principal="me", headers={"x-a": "b"}).call


def read(**fields: Any) -> Call:
    """Read a minimal request with these fields set."""
    return decode(msgspec.json.encode({"model": "fast", "messages": [USER], **fields}))


def refused(**fields: Any) -> CallRefused:
    """The refusal of such a request."""
    with pytest.raises(CallRefused) as caught:
        read(**fields)
    return caught.value


def test_a_minimal_request_is_a_call() -> None:
    """Model and messages suffice; everything else stays at the backend's own default."""
    call = read()

    assert (call.id, call.operation, call.alias, call.principal) == (
        "chatcmpl-1",
        Operation.CHAT,
        "fast",
        "me",
    )
    assert call.headers == {"x-a": "b"}
    assert [message.text for message in call.messages] == ["hi"]
    assert (call.n, call.stream, call.tools, call.features, call.extra) == (1, False, (), frozenset(), {})
    assert call.sampling.max_tokens is None
    assert call.sampling.temperature is None


def test_sampling_fields_reach_the_call() -> None:
    """Every sampling field is carried over, llama.cpp's and vLLM's names included."""
    sampling = read(
        temperature=1, top_p=0.5, top_k=-1, min_p=0.1, presence_penalty=-2, frequency_penalty=2,
        repetition_penalty=1.1, seed=-(2**63), stop="x", logit_bias={"5": 3}, max_tokens=9,
    ).sampling  # fmt: skip

    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.min_p) == (1, 0.5, 0, 0.1)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repeat_penalty) == (-2, 2, 1.1)
    assert (sampling.seed, sampling.stop, sampling.logit_bias, sampling.max_tokens) == (
        -(2**63),
        ("x",),
        {5: 3},
        9,
    )


def test_the_newer_name_of_max_tokens_wins() -> None:
    """A client that sends both names means the newer one."""
    assert read(max_tokens=5, max_completion_tokens=7).sampling.max_tokens == 7


def test_more_than_four_stop_strings_are_taken() -> None:
    """Editors send more stop strings than OpenAI documents."""
    assert read(stop=[str(i) for i in range(12)]).sampling.stop == tuple(str(i) for i in range(12))


def test_nulls_mean_not_set() -> None:
    """Clients that send null for what they do not set are understood."""
    fields = [
        field for field in chat_request.ChatBody.__struct_fields__ if field not in {"model", "messages"}
    ]
    call = read(**dict.fromkeys([*fields, "user", "chat_template"]))

    assert call.extra == {}
    assert call.sampling == read().sampling


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": ""}, "model"),
        ({"model": None}, "model"),
        ({"model": "x" * 257}, "model"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "hi"}]}, "messages[0].role"),
        ({"messages": [{"role": "robot", "content": "hi"}]}, "messages[0].role"),
        ({"messages": [USER, {"role": "user"}]}, "messages[1].content"),
        ({"messages": [{"role": "tool", "content": None, "tool_call_id": "a"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "user", "content": [{"type": "smell"}]}]}, "messages[0].content[0].type"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages[0].content[0].text"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
         "messages[0].content[0].input_audio.data"),
        ({"messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}]},
         "messages[0].content[0].type"),
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"presence_penalty": 3}, "presence_penalty"),
        ({"frequency_penalty": -3}, "frequency_penalty"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -2}, "max_tokens"),
        ({"max_completion_tokens": 0}, "max_completion_tokens"),
        ({"max_tokens": 2.5}, "max_tokens"),
        ({"max_tokens": 1e300}, "max_tokens"),
        ({"max_tokens": 2.0, "seed": 0.5}, "seed"),
        ({"stop": "a" * 1025}, "stop"),
        ({"stop": ["a", ""]}, "stop[1]"),
        ({"stop": ["a"] * 65}, "stop"),
        ({"logit_bias": {"a": 1}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias"),
        ({"logit_bias": [[1, True]]}, "logit_bias"),
        ({"logit_bias": [[1]]}, "logit_bias[0]"),
        ({"logit_bias": [["a", 1]]}, "logit_bias[0][0]"),
        ({"logit_bias": [[1, 101]]}, "logit_bias[0][1]"),
        ({"temperature": -1}, "temperature"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "maybe"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "custom"}}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools"}}, "tool_choice.allowed_tools.mode"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}},
         "tool_choice.allowed_tools.tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {
            "mode": "required", "tools": [{"type": "function", "function": {"name": "other"}}]}}},
         "tool_choice.allowed_tools.tools[0].function.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": ["look"]}}},
         "tool_choice.function.name"),
        ({"tools": [TOOL, {"type": "custom"}]}, "tools[1].type"),
        ({"tools": [{"type": "function", "function": {}}]}, "tools[0].function.name"),
        ({"response_format": {"type": "yaml"}}, "response_format.type"),
        ({"response_format": {"type": ["text"]}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.name"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 1}}},
         "response_format.json_schema.schema"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"functions": [{"name": "a"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"continue_final_message": True, "messages": [BEGUN]}, "continue_final_message"),
        ({**GOES_ON, "messages": [USER, {**BEGUN, "content": ""}]}, "continue_final_message"),
        ({**GOES_ON, "messages": [USER, {**BEGUN, "reasoning_content": "x"}]}, "continue_final_message"),
        ({**GOES_ON, "add_generation_prompt": True}, "add_generation_prompt"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({**GOES_ON, "tools": [TOOL]}, "continue_final_message"),
        ({**GOES_ON, "regex": "a+"}, "continue_final_message"),
    ],
)  # fmt: skip
def test_a_refusal_points_at_the_field(fields: dict[str, Any], param: str) -> None:
    """Whatever is out of range or of the wrong type: a 400 whose `param` names it."""
    refusal = refused(**fields)

    assert refusal.param == param
    assert refusal.status == 400
    assert param in refusal.message


@pytest.mark.parametrize("fields", [{}, {"add_generation_prompt": False}])
def test_an_answer_may_be_begun_by_the_client(fields: dict[str, Any]) -> None:
    """The last message stays where it is; only a step that goes on from it may answer."""
    call = read(**GOES_ON, **fields)

    assert (call.goes_on, call.messages[-1].text, call.extra) == (True, "Once upon", {})
    assert call.features == {Feature.PREFILL}
    anew = read(messages=GOES_ON["messages"], add_generation_prompt=True)
    assert (anew.goes_on, anew.features, anew.extra) == (False, frozenset(), {})


@pytest.mark.parametrize("name", sorted(malformed.REFUSED))
def test_a_call_may_not_choose_destination_or_template(name: str) -> None:
    """Addresses, credentials and templates in a call are refused by name."""
    refusal = refused(**{name: "x"})

    assert isinstance(refusal, UnsupportedParameter)
    assert refusal.param == name


@pytest.mark.parametrize(("old", "new"), [("functions", "tools"), ("function_call", "tool_choice")])
def test_retired_fields_name_their_successor(old: str, new: str) -> None:
    """Who still sends functions is told what to send instead."""
    assert new in refused(**{old: [1]}).message


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/",
        "https://example.org/a.png",
        "file:///etc/passwd",
        " data:x",
        "DATE:",
        "",
        5,
        None,
    ],
)
def test_images_are_never_fetched(url: Any) -> None:
    """An image that is not a data: URL is refused, whatever its scheme."""
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": url}}]
    refusal = refused(messages=[USER, {"role": "user", "content": parts}])

    assert refusal.param == "messages[1].content[1].image_url.url"


@pytest.mark.parametrize(
    ("fields", "features"),
    [
        ({"tools": [TOOL]}, {Feature.TOOLS}),
        ({"tools": [TOOL], "tool_choice": "required"}, {Feature.TOOLS}),
        ({"tools": [TOOL], "tool_choice": "none"}, set()),
        ({"tools": [], "tool_choice": "auto"}, set()),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, {Feature.IMAGES}),
        ({"messages": [{"role": "user", "content": [AUDIO]}]}, {Feature.AUDIO}),
        ({"response_format": {"type": "json_object"}}, {Feature.SCHEMA}),
        ({"response_format": {"type": "text"}}, set()),
        ({"logprobs": True}, {Feature.LOGPROBS}),
        ({"logprobs": False}, set()),
    ],
)  # fmt: skip
def test_a_call_says_what_it_needs(fields: dict[str, Any], features: set[Feature]) -> None:
    """Features follow from what the call carries, so a step that lacks one is left out."""
    assert read(**fields).features == features


def test_unknown_fields_are_kept() -> None:
    """What no dialect field covers goes to `extra` as parsed JSON; null counts as absent."""
    call = read(service_tier="low", metadata={"a": [1, None]}, user=None)

    assert call.extra == {"service_tier": "low", "metadata": {"a": [1, None]}}


def test_the_last_of_two_keys_counts_everywhere() -> None:
    """Of duplicate keys the last is taken, by the one parser whose result policy and backend see."""
    call = decode(b'{"model":"a","messages":[{"role":"user","content":"x"}],"model":"b","z":1,"z":2}')

    assert call.alias == "b"
    assert call.extra == {"z": 2}


def test_message_fields_that_we_do_not_know_do_no_harm() -> None:
    """Editors put fields of their own into messages and parts."""
    part = {"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}}
    call = read(messages=[{"role": "user", "content": [part], "cot_id": "x"}])

    assert call.messages[0].text == "a"


HOSTILE = [
    b"",
    b"[]",
    b"null",
    b'"x"',
    b"{",
    b"{} {}",
    b"\xff\xfe",
    b'{"model":"\xff"}',
    b'\xef\xbb\xbf{"model":"a"}',
    b'{"model":"\\ud800"}',
    b'{"model":NaN}',
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"temperature":1e999}',
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"x":NaN}',
    b'{"model":"a","messages":[{"role":"user","content":"\\udc00"}]}',
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"x":' + b"9" * 10_000 + b"}",
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"seed":' + b"9" * 10_000 + b"}",
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"x":' + b"[" * 450 + b"]" * 450 + b"}",
    b'{"model":"a","messages":[{"role":"user","content":"a"}],"tools":[{"function":{"name":"a","x":'
    + b'{"a":' * 450 + b"1" + b"}" * 450 + b"}}]}",
    b'{"model":"a","messages":[{"role":"user","content":"a"}]'
    + b"".join(b',"k%d":1' % i for i in range(10_000)) + b"}",
]  # fmt: skip


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_json_is_refused(body: bytes) -> None:
    """Depth, size, NaN, surrogates, bad UTF-8, wrong top level: a refusal, never another exception."""
    with pytest.raises(CallRefused):
        decode(body)


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
names = st.sampled_from(chat_request.ChatBody.__struct_fields__) | st.text(max_size=8)
wire_json = msgspec.json.Encoder()


@given(st.dictionaries(names, json_values, max_size=6), st.booleans())
def test_any_json_is_read_or_refused(fields: dict[str, Any], sound: bool) -> None:
    """For arbitrary fields and values: a call, or a `CallRefused`."""
    body = {**({"model": "a", "messages": [USER]} if sound else {}), **fields}
    with suppress(CallRefused):
        assert decode(wire_json.encode(_encodable(body))).alias


@given(st.binary(max_size=64))
def test_any_bytes_are_read_or_refused(noise: bytes) -> None:
    """Arbitrary bytes, alone or inside a sound request, never raise anything else."""
    for body in (noise, b'{"model":"a","messages":[{"role":"user","content":"' + noise + b'"}]}'):
        with suppress(CallRefused):
            assert decode(body).messages


def _encodable(value: Any) -> Any:
    """Without what no JSON encoder writes: surrogates, and whole numbers over 64 bits."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(2**63), min(value, 2**64 - 1))
    if isinstance(value, list):
        return [_encodable(item) for item in value]
    if isinstance(value, dict):
        return {_encodable(key): _encodable(item) for key, item in value.items()}
    return value
