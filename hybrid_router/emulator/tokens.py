"""A tokenizer that anyone can follow: a word, or one other character, with the white space before it."""

from __future__ import annotations

import re

from hybrid_router.core.call import Call

_TOKEN = re.compile(r"\s*\w+|\s*[^\w\s]|\s+")

# A chat template adds a few tokens around each message; three is what the emulator's does.
MESSAGE_OVERHEAD_TOKENS = 3


def split(text: str) -> list[str]:
    """The tokens of `text`; joined they are `text` again."""
    return _TOKEN.findall(text)


def count(text: str) -> int:
    """How many tokens `text` has."""
    return len(split(text))


def prompt_tokens(call: Call) -> int:
    """How many tokens `call` asks with, a beginning of its answer among them."""
    if call.messages:
        texts = [message.text for message in call.messages] + [call.written] * bool(call.written)
        return sum(count(text) + MESSAGE_OVERHEAD_TOKENS for text in texts)
    return sum(count(prompt) if isinstance(prompt, str) else len(prompt) for prompt in call.prompts)
