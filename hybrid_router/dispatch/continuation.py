"""Going on with an answer whose stream broke: what the client has, and how the next step takes it up."""

from __future__ import annotations

from typing import TypeAlias

from msgspec.structs import replace

from hybrid_router.core.call import Call
from hybrid_router.core.event import (
    Batch,
    Heard,
    Picture,
    PromptScores,
    Reasoning,
    Segment,
    Sound,
    Text,
    ToolFragment,
)
from hybrid_router.core.step import Treatment
from hybrid_router.dispatch.align import Aligner
from hybrid_router.dispatch.record import Mode

Shown: TypeAlias = list[Batch]


class Interrupted:
    """What a client has of an answer that broke off.

    Attributes:
        text: the one choice's text.
        text_count: pieces it came in.
        prompt_scored: the scores of the prompt were shown.
        in_tool_call: a tool call was begun: nothing can go on inside its arguments.
        wordless: sound, pictures or segments were shown: another model's do not fit behind them.
    """

    __slots__ = ("in_tool_call", "prompt_scored", "text", "text_count", "wordless")

    def __init__(self, shown: Shown) -> None:
        events = [event for batch in shown for event in batch]
        texts = [event.text for event in events if isinstance(event, Text) and event.text]
        self.text = "".join(texts)
        self.text_count = len(texts)
        self.prompt_scored = any(isinstance(event, PromptScores) for event in events)
        self.in_tool_call = any(isinstance(event, ToolFragment) for event in events)
        self.wordless = any(isinstance(event, Sound | Picture | Heard | Segment) for event in events)


def why_not(call: Call, treatment: Treatment, interrupted: Interrupted) -> str | None:
    """Why a broken answer cannot go on elsewhere, or None."""
    if treatment.on_break == "error":
        return "the policy says on_break: error"
    if call.choices_count > 1:
        return "the call asks for several choices"
    if interrupted.in_tool_call:
        return "it broke inside a tool call"
    if interrupted.wordless:
        return "what was sent is no text"
    return None


def taken_up(call: Call, interrupted: Interrupted, mode: Mode) -> Call:
    """The call as the next step gets it."""
    if mode != "prefill":
        return call
    return replace(call, written=interrupted.text, written_count=interrupted.text_count)


def aligner(call: Call, interrupted: Interrupted, treatment: Treatment) -> Aligner:
    """What swallows the beginning of a replay.  An answer in a given form is never spliced."""
    return Aligner(interrupted.text, "error" if call.response_format else treatment.on_divergence)


def without_opening(batch: Batch, interrupted: Interrupted) -> Batch:
    """A batch without what comes before an answer's text and is out already.

    A second backend's thoughts are its own: the client has seen the first one's.
    """
    told = (Reasoning, PromptScores) if interrupted.prompt_scored else Reasoning
    return [event for event in batch if not isinstance(event, told)]
