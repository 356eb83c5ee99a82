"""What the rest asks of a call."""

from __future__ import annotations

from hybrid_router.core.call import Call, ImagePart, Message, Operation, Part, RefusalPart, TextPart


def test_the_text_of_a_message_is_its_text_parts() -> None:
    """Null and pictures count as nothing, parts are joined."""
    parts: list[Part] = [TextPart("a"), ImagePart({"url": "data:,"}), RefusalPart("no"), TextPart("b")]

    assert Message(role="system", content="be brief").text == "be brief"
    assert Message(role="assistant").text == ""
    assert Message(role="user", content=parts).text == "ab"


def test_choices_are_counted_over_prompts() -> None:
    """`n` for each prompt; a chat has one prompt."""
    chat = Call(id="c", operation=Operation.CHAT, alias="a", messages=(Message(role="user"),), n=3)
    completion = Call(id="c", operation=Operation.COMPLETE, alias="a", prompts=("x", "y"), n=2)

    assert (chat.choices_count, completion.choices_count) == (3, 4)
