"""The estimate of a prompt's tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.routing.estimate import MESSAGE_TOKENS, prompt_tokens, text_tokens


@pytest.mark.parametrize(
    ("text", "count"),
    [("", 0), ("a", 1), ("abcd", 1), ("abcde", 2), ("日本", 2), ("Привет!!", 5), ("\ud800", 1)],
)
def test_a_text_is_counted_by_its_characters(text: str, count: int) -> None:
    """Four ASCII characters, or three bytes of other text, make a token; half a pair makes no error."""
    assert text_tokens(text) == count


@given(st.text(max_size=50), st.text(max_size=50))
def test_more_text_is_never_fewer_tokens(text: str, more: str) -> None:
    """Rules on size cannot be passed by adding text."""
    assert text_tokens(text + more) >= text_tokens(text)


def test_messages_and_token_prompts_add_up() -> None:
    """Marks around messages count; prompts of token ids count exactly."""
    chat = Call(id="x", operation=Operation.CHAT, alias="a", messages=(Message(role="user"),) * 3)
    ids = Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=((1, 2, 3), "abcd", (4,)))

    assert prompt_tokens(chat, "") == 3 * MESSAGE_TOKENS
    assert prompt_tokens(ids, "abcd") == 5
