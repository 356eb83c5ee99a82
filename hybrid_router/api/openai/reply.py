"""A plain reply: a fold over the same events that a stream sends one by one."""

from __future__ import annotations

from typing import Any

import msgspec

from hybrid_router.api.openai import scores, timings
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import (
    Batch,
    Finish,
    FinishReason,
    PromptScores,
    Reasoning,
    Text,
    TokenScore,
    ToolFragment,
    Usage,
)


class Choice:
    """What one choice has grown to."""

    __slots__ = ("of_prompt", "reason", "reasoning", "scores", "text", "tools")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.tools: dict[int, list[ToolFragment]] = {}
        self.reason: FinishReason | None = None
        self.scores: list[TokenScore] = []
        self.of_prompt: tuple[TokenScore, ...] = ()


def fold(call: Call, events: Batch) -> tuple[list[Choice], Usage | None]:
    """Gather the events of a whole answer by choice.

    Raises:
        StreamBroken: a choice has no finish reason, so the answer is not whole, or was not asked for.
    """
    choices = [Choice() for _ in range(call.choices_count)]
    try:
        usage = _sort(choices, events)
    except IndexError:
        raise unasked() from None
    if any(choice.reason is None for choice in choices):
        raise unfinished()
    return choices, usage


def check_whole(events: Batch) -> None:
    """Of an answer without choices.

    Raises:
        StreamBroken: it has no finish reason.
    """
    if not any(isinstance(event, Finish) for event in events):
        raise unfinished()


def _sort(choices: list[Choice], events: Batch) -> Usage | None:
    """Give each event to its choice; return the usage."""
    usage = None
    for event in events:
        if isinstance(event, Text):
            choices[event.index].text.append(event.text)
            choices[event.index].scores += event.scores
        elif isinstance(event, Finish):
            choices[event.index].reason = event.reason
        elif isinstance(event, Reasoning):
            choices[event.index].reasoning.append(event.text)
        elif isinstance(event, ToolFragment):
            choices[event.index].tools.setdefault(event.position, []).append(event)
        elif isinstance(event, PromptScores):
            choices[event.index].of_prompt = event.scores
        elif isinstance(event, Usage):
            usage = event
    return usage


def chat(call: Call, created_s: int, events: Batch) -> bytes:
    """A `chat.completion` document."""
    choices, usage = fold(call, events)
    return _document(
        call,
        "chat.completion",
        created_s,
        [
            {
                "index": i,
                "message": _message(choice),
                "logprobs": None if call.top_logprobs is None else scores.of_chat(choice.scores),
                "finish_reason": choice.reason,
            }
            for i, choice in enumerate(choices)
        ],
        usage,
    )


def completion(call: Call, created_s: int, events: Batch, *, echo: bool) -> bytes:
    """A `text_completion` document; with `echo` each text begins with its prompt."""
    choices, usage = fold(call, events)
    return _document(
        call,
        "text_completion",
        created_s,
        [_completed(call, i, choice, echo=echo) for i, choice in enumerate(choices)],
        usage,
    )


def _completed(call: Call, index: int, choice: Choice, *, echo: bool) -> dict[str, Any]:
    """One choice of a completion."""
    before = echoed(call, index, choice.of_prompt) if echo else ""
    return {
        "index": index,
        "text": before + "".join(choice.text),
        "logprobs": None if call.top_logprobs is None else _scored(choice, before),
        "finish_reason": choice.reason,
    }


def _scored(choice: Choice, before: str) -> dict[str, Any]:
    """The scores of a completion's tokens, and of its prompt's if they were told."""
    column = scores.Column()
    pieces = [column.of_prompt(choice.of_prompt, before)] if choice.of_prompt else []
    column.begin_at(len(before))
    return scores.joined([*pieces, column.of(choice.scores)])


def unasked() -> StreamBroken:
    """A hostile or confused backend numbered a choice beyond those of the call."""
    return StreamBroken("the backend answered a choice that was not asked for")


def unfinished() -> StreamBroken:
    """A backend stopped in the middle."""
    return StreamBroken("the answer ended without a finish reason")


def echoed(call: Call, index: int, of_prompt: tuple[TokenScore, ...] = ()) -> str:
    """The prompt of choice `index`; one of token ids as the text that its scores are of."""
    prompt = call.prompts[index // call.n]
    if isinstance(prompt, str):
        return prompt
    return b"".join(score.token for score in of_prompt).decode("utf-8", "replace")


def usage_fields(usage: Usage) -> dict[str, Any]:
    """`usage` as OpenAI writes it, with all three totals."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def _document(
    call: Call, kind: str, created_s: int, choices: list[dict[str, Any]], usage: Usage | None
) -> bytes:
    """The envelope.  Usage that nobody counted is left out, not made up."""
    out: dict[str, Any] = {
        "id": call.id,
        "object": kind,
        "created": created_s,
        "model": call.alias,
        "choices": choices,
    }
    if usage is not None:
        out["usage"] = usage_fields(usage)
        if (told := timings.fields(usage)) is not None:
            out["timings"] = told
    return msgspec.json.encode(out)


def _message(choice: Choice) -> dict[str, Any]:
    """An assistant's message; `content` is null if there are only tool calls."""
    content = "".join(choice.text)
    message: dict[str, Any] = {
        "role": "assistant",
        "content": content if content or not choice.tools else None,
        "refusal": None,
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if choice.tools:
        message["tool_calls"] = [_tool_call(choice.tools[position]) for position in sorted(choice.tools)]
    return message


def _tool_call(fragments: list[ToolFragment]) -> dict[str, Any]:
    """One tool call from its fragments."""
    return {
        "id": next((f.id for f in fragments if f.id), None) or ids.new("call_"),
        "type": "function",
        "function": {
            "name": next((f.name for f in fragments if f.name), ""),
            "arguments": "".join(f.arguments for f in fragments),
        },
    }
