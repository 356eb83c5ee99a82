"""What a backend says while it answers.  A plain reply is a fold over the same events.

Events travel in batches: all that one read, or one decode step, brought.  So a stream costs one timer
reset and one write per read, not per token (docs/adr/0001).  Events hold no containers, so the garbage
collector need not follow them (`gc=False`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class Text(Struct, frozen=True, tag="t", array_like=True, gc=False):
    """Some of a choice's text, never empty, never half a character."""

    text: str
    index: int = 0


class Reasoning(Struct, frozen=True, tag="r", array_like=True, gc=False):
    """Some of a choice's reasoning, never empty."""

    text: str
    index: int = 0


class ToolFragment(Struct, frozen=True, tag="c", array_like=True, gc=False):
    """Part of tool call `position`: id and name once, in its first fragment, then arguments."""

    position: int
    arguments: str = ""
    id: str | None = None
    name: str | None = None
    index: int = 0


class Finish(Struct, frozen=True, tag="f", array_like=True, gc=False):
    """A choice is whole.  Exactly one for each choice of a whole answer."""

    reason: FinishReason
    index: int = 0


class Usage(Struct, frozen=True, tag="u", array_like=True, gc=False):
    """What the answer cost, counted by the model's own tokenizer.  At most one, the last event.

    `neurons` is Workers AI's own count where it tells one.  `queue_s`, `prefill_s` and `decode_s` are
    how long the call waited for a place, its prompt was computed, and its answer was written, where the
    engine measured them.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    neurons: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None


Event: TypeAlias = Text | Reasoning | ToolFragment | Finish | Usage
Batch: TypeAlias = list[Event]
