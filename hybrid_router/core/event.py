"""What a backend says while it answers.  A plain reply is a fold over the same events.

Events travel in batches: all that one read, or one decode step, brought.  So a stream costs one timer
reset and one write per read, not per token (docs/adr/0001).  Events hold no containers, so the garbage
collector need not follow them (`gc=False`).
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

FinishReason: TypeAlias = Literal["stop", "length", "tool_calls", "content_filter"]


class TokenScore(Struct, frozen=True, array_like=True, gc=False):
    """How likely a token was: natural logarithm, from the model's own logits, before any sampler.

    `token` is its bytes, maybe half a character; `text` is what can be shown of them.  `top` holds the most
    likely tokens of its place, the likeliest first.  None: the first token of a prompt has no probability.
    """

    token: bytes
    logprob: float | None
    top: tuple[TokenScore, ...] = ()

    @property
    def text(self) -> str:
        """The token's bytes as text."""
        return self.token.decode("utf-8", "replace")


class Text(Struct, frozen=True, tag="t", array_like=True, gc=False):
    """Some of a choice's text, never half a character; empty only if it brings scores.

    `scores` are of the tokens that were chosen since the last event of the choice, if they are wanted.
    """

    text: str
    index: int = 0
    scores: tuple[TokenScore, ...] = ()


class PromptScores(Struct, frozen=True, tag="p", array_like=True, gc=False):
    """Scores of the prompt's tokens, before the first text of their choice, where `Call.echo` wants them."""

    scores: tuple[TokenScore, ...]
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


class Embedding(Struct, frozen=True, tag="e", array_like=True, gc=False):
    """A prompt's vector: 32-bit floats, little-endian, one after the other, of length 1 (L2).

    `truncated`: of a part of the prompt, which was too long.
    """

    values: bytes
    index: int = 0
    truncated: bool = False


class Relevance(Struct, frozen=True, tag="v", array_like=True, gc=False):
    """How well a document answers the query: higher is better; the scale is the model's own.

    `truncated`: only part of the document was looked at, it was too long.
    """

    score: float
    index: int = 0
    truncated: bool = False


class Heard(Struct, frozen=True, tag="h", array_like=True, gc=False):
    """What a recording is, before its first segment: language (ISO 639-1) and length."""

    language: str
    duration_s: float
    probability: float = 1.0
    index: int = 0


class Word(Struct, frozen=True, array_like=True, gc=False):
    """A word of a transcript, with the space before it, and where it was said."""

    text: str
    start_s: float
    end_s: float
    probability: float = 1.0


class Segment(Struct, frozen=True, tag="s", array_like=True, gc=False):
    """The next part of a transcript, as Whisper divides it; `words` if they are wanted.

    `seek` counts hundredths of a second: where the window began in which it was heard.
    """

    text: str
    start_s: float
    end_s: float
    seek: int = 0
    tokens: tuple[int, ...] = ()
    temperature: float = 0.0
    avg_logprob: float = 0.0
    compression_ratio: float = 1.0
    no_speech_prob: float = 0.0
    words: tuple[Word, ...] = ()
    index: int = 0


class Sound(Struct, frozen=True, tag="a", array_like=True, gc=False):
    """The next bytes of a sound file in the format that was asked for, never empty."""

    content: bytes
    index: int = 0


class Picture(Struct, frozen=True, tag="i", array_like=True, gc=False):
    """A picture, as a file in the format that was asked for; `partial`: the so-manieth unfinished one."""

    content: bytes
    index: int = 0
    partial: int | None = None


class Progress(Struct, frozen=True, tag="g", array_like=True, gc=False):
    """Work is this far, from 0 to 1.  A sign of life; clients see nothing of it."""

    share: float
    index: int = 0


class Remark(Struct, frozen=True, tag="m", array_like=True, gc=False):
    """What somebody on the way said of the answer, such as a gateway's cache; for the decision record."""

    name: str
    text: str
    index: int = 0


# The remark of a gateway's cache: an answer that it had in full was computed by nobody, and costs nothing.
CACHE_STATUS, HIT = "cf-aig-cache-status", "HIT"


class Label(Struct, frozen=True, tag="l", array_like=True, gc=False):
    """What an input may be, and how likely (0 to 1); the likeliest comes first.

    `box`: where it is in a picture, in pixels: left, top, right, bottom; None: all of the input.
    """

    label: str
    score: float
    index: int = 0
    box: tuple[float, float, float, float] | None = None


class Verdict(Struct, frozen=True, tag="d", array_like=True, gc=False):
    """Whether an input is harmful.  `scores`: 0 to 1 by category; `flagged`: the categories that it is of."""

    flagged: tuple[str, ...]
    scores: tuple[tuple[str, float], ...]
    index: int = 0


class Usage(Struct, frozen=True, tag="u", array_like=True, gc=False):
    """What the answer cost, counted by the model's own tokenizer.  At most one, the last event.

    `neurons` is Workers AI's own count where it tells one.  `queue_s`, `prefill_s` and `decode_s` are
    how long the call waited for a place, its prompt was computed, and its answer was written, where the
    engine measured them.  `cached_tokens` of the prompt's were not computed again.  Of `drafted_tokens`
    that were guessed ahead, `accepted_tokens` were right.  `sound_s` of sound were heard or made.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    neurons: float | None = None
    queue_s: float | None = None
    prefill_s: float | None = None
    decode_s: float | None = None
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    sound_s: float = 0.0


Event: TypeAlias = (
    Text | PromptScores | Reasoning | ToolFragment | Embedding | Relevance
    | Heard | Segment | Sound | Picture | Progress | Remark | Label | Verdict | Finish | Usage
)  # fmt: skip
Batch: TypeAlias = list[Event]


def says_something(batch: Batch) -> bool:
    """Whether a batch brings some of the answer, and not only the word that it is being worked on."""
    return any(not isinstance(event, Progress | Remark) for event in batch)


def without_remarks(batch: Batch) -> Batch:
    """What is for the client."""
    return [event for event in batch if not isinstance(event, Remark)]
