"""Going on from the beginning of an answer, with a cloud that nobody has promised it of.

A completion is a raw prompt, so what is written follows it and the model goes on.  In a chat it is sent as a
last message of the assistant.  Cloudflare does not document what a model makes of that: most take it for a
finished turn and answer anew, some refuse it, some repeat it first.
"""

from __future__ import annotations

import re

from msgspec.structs import replace

from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.errors import BackendError, CallRefused, PrefillRefused, RouterError
from hybrid_router.core.event import Usage
from hybrid_router.core.tokens import text_tokens

# Models that are known to go on from a last message of the assistant.  None is yet: the classic ones (Llama,
# Mistral, Qwen) and those behind vLLM close the message as a finished turn.  A chat on a model that is not
# named here starts anew, and what the client has of it is swallowed.  Name one only after trying it.
PREFILLS: frozenset[str] = frozenset()

# A model may well write two characters twice in a row; a whole sentence only repeats what it was given.
_SHORTEST_ECHO_CHARS = 4
_ORDER = re.compile(r"prefill|alternat|last message|final message|\broles?\b|assistant", re.IGNORECASE)


def can_follow(call: Call) -> bool:
    """Whether the beginning of an answer to `call` can be written behind what it asks."""
    if call.choices_count != 1:
        return False
    if call.operation is Operation.COMPLETE:
        return all(isinstance(prompt, str) for prompt in call.prompts)
    return call.messages[-1].role != "assistant"


def begun(call: Call) -> str:
    """What a last message of the assistant holds: its own text, or what was written already."""
    if call.operation is not Operation.CHAT:
        return ""
    return call.messages[-1].text if call.goes_on else call.written


def with_written(call: Call) -> Call:
    """`call` with what is written as part of what it asks."""
    if not call.written:
        return call
    prompts = tuple(prompt + call.written if isinstance(prompt, str) else prompt for prompt in call.prompts)
    messages = call.messages
    if call.operation is Operation.CHAT:
        messages = (*messages, Message(role="assistant", content=call.written))
    return replace(call, prompts=prompts, messages=messages)


def written_tokens(call: Call) -> int:
    """About how many tokens are written: one for each piece they came in, unless that is far from likely."""
    likely = text_tokens(call.written)
    return call.written_count if likely <= 3 * call.written_count <= 12 * likely else likely


def tokens_left(max_tokens: int, call: Call) -> int:
    """What `max_tokens` leaves for the rest; at least one, so that the model says how the answer ends."""
    return max(1, max_tokens - written_tokens(call)) if call.written else max_tokens


def moved(usage: Usage, call: Call) -> Usage:
    """`usage` with what was written counted as answer and not as prompt."""
    count = min(written_tokens(call), usage.prompt_tokens)
    return replace(
        usage,
        prompt_tokens=usage.prompt_tokens - count,
        completion_tokens=usage.completion_tokens + count,
    )


def refused(error: RouterError, call: Call, label: str) -> RouterError:
    """`error` of the cloud `label`, or `PrefillRefused` if the assistant's last message may be why.

    A call that is at fault itself is refused once more when it starts anew.  One whose last message is the
    client's own cannot, so there the cloud has to blame that message for another step to be asked.
    """
    if call.operation is not Operation.CHAT or not (call.written or call.goes_on):
        return error
    blamed = type(error) is CallRefused and error.code == CallRefused.code
    failed = type(error) is BackendError
    sure = blamed and call.written
    if not sure and not ((blamed or failed) and _ORDER.search(error.detail)):
        return error
    return PrefillRefused(f"{label} does not go on from an answer's beginning", detail=error.detail)


class Echo:
    """Takes the whole of what was written off an answer that begins by repeating it."""

    def __init__(self, written: str) -> None:
        self._written = written if len(written) >= _SHORTEST_ECHO_CHARS else ""
        self._held = ""

    def feed(self, text: str) -> str:
        """What of the next text is new; it waits while it may be a repetition."""
        if not self._written:
            return text
        self._held += text
        if len(self._held) < len(self._written) and self._written.startswith(self._held):
            return ""
        return self.flush()

    def flush(self) -> str:
        """What waited, now that it is known, or that nothing more comes."""
        held = self._held.removeprefix(self._written) if self._written else ""
        self._held = self._written = ""
        return held
