"""What is sent: always written anew, and nothing left out in silence."""

from __future__ import annotations

from typing import Any

import pytest
from asking import ask_for, chat
from openai_cloud import make

from hybrid_router.backends.openai.chat import Manner, document, local_stops
from hybrid_router.config.cloud_schema import CloudModel
from hybrid_router.core.call import (
    Adapter,
    AudioPart,
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.core.errors import Inexpressible

LENIENT = Manner(label="box", strict=False)
STRICT = Manner(label="box", strict=True)
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object"}}}


def test_a_chat_is_always_a_stream_that_tells_what_it_cost() -> None:
    """Even where the client wants one document, and whatever it says of usage."""
    sent = document(chat("hi", stream=False), "m", STRICT)

    assert sent == {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_everything_that_openai_has_a_word_for_is_said() -> None:
    """In its own words."""
    call = chat(
        "hi",
        n=2,
        sampling=Sampling(
            max_tokens=9,
            temperature=0.5,
            top_p=0.9,
            presence_penalty=1.0,
            frequency_penalty=-1.0,
            seed=7,
            stop=("a", "b"),
            logit_bias={5: -100.0},
        ),
        tools=(TOOL,),
        tool_choice="required",
        parallel_tool_calls=False,
        response_format={"type": "json_object"},
        top_logprobs=3,
        reasoning_effort="low",
        extra={"user": "u", "unheard_of": 1},
    )
    sent = document(call, "m", Manner(label="box", strict=True, extra_fields=frozenset({"user"})))

    assert (
        sent.items()
        >= {
            "n": 2,
            "max_tokens": 9,
            "temperature": 0.5,
            "top_p": 0.9,
            "presence_penalty": 1.0,
            "frequency_penalty": -1.0,
            "seed": 7,
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "logprobs": True,
            "top_logprobs": 3,
            "reasoning_effort": "low",
            "user": "u",
        }.items()
    )
    assert (sent["stop"], sent["tools"]) == (["a", "b"], [TOOL])
    assert sent["logit_bias"] == {"5": -100.0}
    assert sent["response_format"] == {"type": "json_object"}
    assert "unheard_of" not in sent


@pytest.mark.parametrize(
    ("sampling", "sent"),
    [
        (Sampling(top_k=40), {"top_k": 40}),
        (Sampling(min_p=0.1), {"min_p": 0.1}),
        (Sampling(repeat_penalty=1.2), {"repeat_penalty": 1.2, "repetition_penalty": 1.2}),
        (Sampling(dry_multiplier=0.8, dry_base=2.0), {"dry_multiplier": 0.8, "dry_base": 2.0}),
        (Sampling(mirostat=2, mirostat_tau=5.0), {"mirostat": 2, "mirostat_tau": 5.0}),
        (Sampling(xtc_probability=0.5, xtc_threshold=0.1), {"xtc_probability": 0.5, "xtc_threshold": 0.1}),
        (Sampling(ignore_eos=True), {"ignore_eos": True}),
    ],
)
def test_what_openai_lacks_is_sent_to_others_alone(sampling: Sampling, sent: dict[str, Any]) -> None:
    """llama-server and vLLM know it; where it cannot be said another backend is asked."""
    call = chat(sampling=sampling)
    assert document(call, "m", LENIENT).items() >= sent.items()
    with pytest.raises(Inexpressible, match=next(iter(sent))):
        document(call, "m", STRICT)


def test_what_changes_nothing_is_no_obstacle() -> None:
    """Neutral values of others' fields are left out instead of being refused."""
    sampling = Sampling(repeat_penalty=1.0, typical_p=1.0, min_p=0.0, mirostat=0, dry_multiplier=0.0)
    assert document(chat(sampling=sampling), "m", STRICT).keys() == document(chat(), "m", STRICT).keys()


@pytest.mark.parametrize(
    ("more", "name"),
    [
        ({"echo": True}, "echo"),
        ({"suffix": "x"}, "suffix"),
        ({"adapters": (Adapter("x"),)}, "lora"),
        ({"sampling": Sampling(max_tokens=0)}, "max_tokens"),
        ({"response_format": {"type": "grammar", "grammar": "root ::= x"}}, "grammar"),
    ],
)
def test_what_no_server_has_a_word_for_is_named(more: dict[str, Any], name: str) -> None:
    """So that another backend is asked and nothing is dropped."""
    with pytest.raises(Inexpressible, match=name):
        document(ask_for(Operation.COMPLETE, "x", **more), "m", LENIENT)


def test_messages_keep_their_parts_and_their_calls() -> None:
    """Images, sounds, tool calls and their results, as OpenAI has them; earlier reasoning only for others."""
    call_ = ToolCall(id="t1", function=FunctionCall("now", "{}"))
    messages = (
        Message(role="developer", content="be brief"),
        Message(
            role="user",
            content=[
                TextPart("what?"),
                ImagePart({"url": "data:image/png;base64,AA"}),
                AudioPart({"data": "AA", "format": "wav"}),
            ],
        ),
        Message(role="assistant", tool_calls=[call_], reasoning_content="hm"),
        Message(role="tool", content="noon", tool_call_id="t1"),
    )
    strict = document(chat(*messages), "m", STRICT)["messages"]
    lenient = document(chat(*messages), "m", LENIENT)["messages"]

    assert [one["role"] for one in strict] == ["developer", "user", "assistant", "tool"]
    assert [part["type"] for part in strict[1]["content"]] == ["text", "image_url", "input_audio"]
    assert strict[2] == {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t1", "type": "function", "function": {"name": "now", "arguments": "{}"}}],
    }
    assert strict[3]["tool_call_id"] == "t1"
    assert lenient[0]["role"] == "system"
    assert lenient[2]["reasoning_content"] == "hm"


def test_the_limit_goes_by_the_name_that_is_configured() -> None:
    """For chats; completions have one name alone.  The default is sent only where the client names none."""
    newer = Manner(label="box", strict=True, max_tokens_field="max_completion_tokens", default_max_tokens=50)

    assert document(chat(), "m", newer)["max_completion_tokens"] == 50
    assert document(chat(sampling=Sampling(max_tokens=3)), "m", newer)["max_completion_tokens"] == 3
    assert document(ask_for(Operation.COMPLETE, "x"), "m", newer)["max_tokens"] == 50


def test_prompts_are_texts_or_tokens() -> None:
    """One as it is, several as a list."""
    assert document(ask_for(Operation.COMPLETE, "x"), "m", STRICT)["prompt"] == "x"
    assert document(ask_for(Operation.COMPLETE, "x", "y"), "m", STRICT)["prompt"] == ["x", "y"]
    assert document(ask_for(Operation.COMPLETE, (1, 2)), "m", STRICT)["prompt"] == [1, 2]


def test_more_stop_strings_than_the_server_takes_are_kept_here() -> None:
    """Four are told; of more none is, since which would be a guess."""
    five = chat(sampling=Sampling(stop=tuple("abcde")))
    assert "stop" not in document(five, "m", STRICT)
    assert local_stops(five) == tuple("abcde")
    assert local_stops(chat(sampling=Sampling(stop=("a",)))) == ()


def test_an_answer_that_has_begun_is_gone_on_from_where_that_is_declared() -> None:
    """As the assistant's last message, marked as vLLM has it; a completion's as part of its prompt."""
    can = make("http://127.0.0.1:9", CloudModel(can=("prefill",)))
    cannot = make("http://127.0.0.1:9")
    call = chat("hi", written="1 2", written_count=2, sampling=Sampling(max_tokens=10))
    sent = document(call, "m", LENIENT)

    assert (can.continues("m", call), cannot.continues("m", call)) == (True, False)
    assert cannot.continues("m", ask_for(Operation.COMPLETE, "x", written="y"))
    assert not can.continues("m", ask_for(Operation.EMBED, "x"))
    assert sent["messages"][-1] == {"role": "assistant", "content": "1 2"}
    assert (sent["continue_final_message"], sent["add_generation_prompt"]) == (True, False)
    assert sent["max_tokens"] == 8
    assert document(ask_for(Operation.COMPLETE, "x", written="y"), "m", LENIENT)["prompt"] == "xy"
