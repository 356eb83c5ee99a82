"""Affinity: where a conversation's beginning is, and a name for it that says nothing."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.core.call import (
    AudioPart,
    Call,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    RefusalPart,
    TextPart,
    ToolCall,
)
from hybrid_router.core.event import Usage
from hybrid_router.dispatch.affinity import Affinity, session

HERE, THERE = "local/m", "cloud/m"
SALT = b"sixteen bytes or"


def chat(*texts: str, **fields: Any) -> Call:
    """A conversation: system, user, assistant, user, …"""
    roles: list[Any] = ["system", *["user", "assistant"] * len(texts)]
    messages = tuple(Message(role=role, content=text) for role, text in zip(roles, texts, strict=False))
    return replace(Call(id="x", operation=Operation.CHAT, alias="a", messages=messages), **fields)


def used(prompt_tokens: int, cached_tokens: int = 1) -> Usage:
    """A usage, of a backend that kept some of the prompt."""
    return Usage(prompt_tokens=prompt_tokens, completion_tokens=5, cached_tokens=cached_tokens)


FIRST = chat("be kind", "hello")
SECOND = chat("be kind", "hello", "hi", "how are you?")
THIRD = chat("be kind", "hello", "hi", "how are you?", "well", "good")


def test_the_next_turn_finds_the_last_one() -> None:
    """Messages, the answer and a new message: what was computed is the earlier prompt."""
    affinity = Affinity()
    affinity.note(FIRST, HERE, used(20))

    assert affinity.cached(SECOND) == {HERE: 20}
    assert affinity.cached(THIRD) == {HERE: 20}


def test_the_longest_beginning_counts_for_each_step() -> None:
    """Steps that answered different turns hold different beginnings."""
    affinity = Affinity()
    affinity.note(FIRST, HERE, used(20))
    affinity.note(FIRST, THERE, used(22))
    affinity.note(SECOND, HERE, used(50))

    assert affinity.cached(THIRD) == {HERE: 50, THERE: 22}


@pytest.mark.parametrize(
    "other",
    [
        chat("be kind", "hello", "hi", principal="bob"),
        chat("be brief", "hello", "hi"),
        chat("be kind", "hullo", "hi"),
        chat("be kind"),
        chat("be kind", "hello", "hi", tools=({"type": "function"},)),
        Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("be kind",)),
    ],
)
def test_another_conversation_finds_nothing(other: Call) -> None:
    """Nor does the same one of another principal."""
    affinity = Affinity()
    affinity.note(FIRST, HERE, used(20))

    assert affinity.cached(other) == {}


def test_nothing_is_claimed_for_a_step_that_keeps_nothing() -> None:
    """A step counts once it has told of a cached token, and not before."""
    affinity = Affinity()
    affinity.note(FIRST, THERE, used(20, cached_tokens=0))
    assert affinity.cached(SECOND) == {}

    affinity.note(SECOND, THERE, used(50, cached_tokens=16))
    affinity.note(SECOND, HERE, used(50, cached_tokens=0))
    assert affinity.cached(THIRD) == {THERE: 50}


def test_a_step_may_be_proved_by_another_conversation() -> None:
    """What it was seen to do for one it is taken to do for all."""
    affinity = Affinity()
    affinity.note(chat("x", "y"), HERE, used(9))
    affinity.note(FIRST, HERE, used(20, cached_tokens=0))

    assert affinity.cached(SECOND) == {HERE: 20}


def test_the_least_lately_used_is_forgotten() -> None:
    """So many conversations are remembered, and no more."""
    affinity = Affinity(limit=2)
    calls = [chat("be kind", text) for text in ("one", "two", "three")]
    for call in (calls[0], calls[1], calls[0], calls[2]):
        affinity.note(call, HERE, used(20))

    assert [bool(affinity.cached(call)) for call in calls] == [True, False, True]


PARTS = [
    TextPart(text="what is this?"),
    RefusalPart(refusal="no"),
    ImagePart(image_url={"url": "data:image/png;base64,AAAA", "detail": "low"}),
    AudioPart(input_audio={"data": "AAAA", "format": "wav"}),
    FilePart(file={"file_data": "AAAA"}),
    FilePart(file={"file_id": "file-1"}),
]
OTHERS = [
    TextPart(text="what is that?"),
    RefusalPart(refusal="yes"),
    ImagePart(image_url={"url": "data:image/png;base64,BBBB", "detail": "low"}),
    AudioPart(input_audio={"data": "BBBB", "format": "wav"}),
    FilePart(file={"file_data": "BBBB"}),
    FilePart(file={"file_id": "file-2"}),
]


@pytest.mark.parametrize(("part", "other"), list(zip(PARTS, OTHERS, strict=True)))
def test_parts_tell_conversations_apart(part: Any, other: Any) -> None:
    """Text, refusals, pictures, sound and files: the same is found, another is not."""
    affinity = Affinity()

    def call(one: Any) -> Call:
        return replace(FIRST, messages=(Message(role="user", content=[one]),))

    affinity.note(call(part), HERE, used(20))

    assert affinity.cached(call(part)) == {HERE: 20}
    assert affinity.cached(call(other)) == {}


def test_tool_calls_tell_conversations_apart() -> None:
    """A turn of tools is found again with the same arguments only."""
    affinity = Affinity()

    def call(arguments: str) -> Call:
        asked = ToolCall(id="1", function=FunctionCall(name="look", arguments=arguments))
        return replace(FIRST, messages=(*FIRST.messages, Message(role="assistant", tool_calls=[asked])))

    affinity.note(call("{}"), HERE, used(20))

    assert affinity.cached(call("{}")) == {HERE: 20}
    assert affinity.cached(call('{"x": 1}')) == {}


def test_a_call_without_messages_leaves_no_mark() -> None:
    """Prompts are not conversations."""
    affinity, call = Affinity(), Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("once",))
    affinity.note(call, HERE, used(20))

    assert affinity.cached(call) == {}


def test_a_session_is_the_same_for_all_turns() -> None:
    """32 hexadecimal digits that all turns of a conversation share."""
    names = {session(call, SALT) for call in (FIRST, SECOND, THIRD)}

    assert len(names) == 1
    assert all(len(name) == 32 and int(name, 16) >= 0 for name in names)


@pytest.mark.parametrize(
    "other",
    [
        replace(FIRST, principal="bob"),
        replace(FIRST, alias="b"),
        chat("be brief", "hello"),
        chat("be kind", "hullo"),
        chat("be kind" + "x" * 100_000, "hello"),
    ],
)
def test_sessions_of_others_differ(other: Call) -> None:
    """Principal, alias, system and first user message each make another name, and so does the salt."""
    assert session(other, SALT) != session(FIRST, SALT)
    assert session(FIRST, b"another salt ...") != session(FIRST, SALT)


@pytest.mark.parametrize("prompt", ["once upon a time", (1, 2, 3), "half a pair: \ud800"])
def test_a_prompt_has_a_session_too(prompt: Any) -> None:
    """Of text or token ids, also with characters that are none."""
    call = Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=(prompt,))

    assert session(call, SALT) == session(replace(call, id="y"), SALT) != session(FIRST, SALT)


TEXTS = st.lists(st.sampled_from(["a", "b", "ab", ""]), min_size=1, max_size=6)


@given(noted=st.lists(TEXTS, max_size=6), asked=TEXTS)
def test_only_a_beginning_is_ever_claimed(noted: list[list[str]], asked: list[str]) -> None:
    """For any conversations: the claim is the longest noted one that the asked one begins with."""
    affinity = Affinity()
    for texts in noted:
        affinity.note(chat(*texts), HERE, used(len(texts)))

    beginnings = [len(texts) for texts in noted if asked[: len(texts)] == texts]

    assert affinity.cached(chat(*asked)) == ({HERE: max(beginnings)} if beginnings else {})
