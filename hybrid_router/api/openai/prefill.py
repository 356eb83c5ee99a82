"""Going on from the assistant's last message, as vLLM has it: `continue_final_message`."""

from __future__ import annotations

from hybrid_router.core.call import Message, TextPart
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_FIELD, _OTHER = "continue_final_message", "add_generation_prompt"


def check(messages: tuple[Message, ...], goes_on: bool, new_turn: bool | None, *, formed: bool) -> None:
    """Check what is asked of the last message.

    Args:
        goes_on: the answer is what follows in it.
        new_turn: `add_generation_prompt`.
        formed: the answer may hold tool calls, or has a form.

    Raises:
        CallRefused: the last message is none to go on from, or both are asked for.
        UnsupportedParameter: neither is, or it does not go with tools or a form.
    """
    if not goes_on:
        if new_turn is False:
            raise UnsupportedParameter(f"{_OTHER}: false is for {_FIELD}: true alone", param=_OTHER)
        return
    if new_turn:
        raise CallRefused(f"{_OTHER}: not together with {_FIELD}", param=_OTHER)
    if formed:
        raise UnsupportedParameter(f"{_FIELD}: not together with tools or a form", param=_FIELD)
    if len(messages) == 1 or not _is_begun(messages[-1]):
        raise CallRefused(
            f"{_FIELD}: expected text of the assistant as the last of several messages", param=_FIELD
        )


def _is_begun(message: Message) -> bool:
    """Whether a message is text of the assistant's, and nothing else."""
    if message.role != "assistant" or message.tool_calls or message.reasoning_content or not message.text:
        return False
    return isinstance(message.content, str) or all(isinstance(p, TextPart) for p in message.content or ())
