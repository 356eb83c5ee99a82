"""What a cloud said about a failure, for the log: but prompts are not logged, and a cloud may quote them."""

from __future__ import annotations

from hybrid_router.core.call import Call

_BLOCK_CHARS = 8  # any quotation of 15 characters holds a whole block of this length
_SHORT_CHARS = 2 * _BLOCK_CHARS
_LONGEST_CHARS = 100_000  # a longer prompt is not searched: that would keep other calls waiting
QUOTED = "what it said is left out, it may quote the prompt"


def without_prompt(detail: str, prompt: str) -> str:
    """`detail` as it is, or only its part before the first colon if the rest repeats some of `prompt`.

    Args:
        detail: `status 500, code 8005: the cloud's own words`.
        prompt: what the call says.
    """
    where, colon, words = detail.partition(": ")
    if not colon or not _may_quote(words, prompt):
        return detail
    return f"{where}: {QUOTED}"


def prompt_of(call: Call) -> str:
    """What a call says, a line for each message or prompt."""
    prompts = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    return "\n".join([*(message.text for message in call.messages), *prompts])


def _may_quote(words: str, prompt: str) -> bool:
    """Whether `words` share a run of characters with `prompt` that is too long for chance."""
    said = prompt.strip()
    if len(said) > _LONGEST_CHARS:
        return True
    if len(said) < _SHORT_CHARS:
        return bool(said) and said in words
    starts = range(0, len(words) - _BLOCK_CHARS + 1, _BLOCK_CHARS)
    return any(words[start : start + _BLOCK_CHARS] in said for start in starts)
