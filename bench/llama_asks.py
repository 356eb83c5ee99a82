"""What the llama part asks of each of its three subjects, and the line protocol they share."""

from __future__ import annotations

import sys
from collections.abc import Callable

import msgspec
from msgspec import Struct

_TOPICS = (
    "a lighthouse", "a baker", "an old bridge", "a violin", "a garden in winter", "two brothers",
    "a lost map", "a night train", "a mountain village", "a clockmaker", "a river", "a school play",
    "a letter", "a storm", "a fox", "a painter", "a market", "an island", "a doctor", "a balloon",
    "a library", "a race", "a harbour", "a forest", "a king", "a robot", "a comet", "a well",
    "a cat", "a festival", "a ship", "a desert",
)  # fmt: skip


class Ask(Struct, kw_only=True):
    """Prompts to answer at once, greedily, `tokens` tokens each."""

    prompts: list[str]
    tokens_count: int


class Told(Struct, kw_only=True):
    """How it went.

    Attributes:
        seconds: from the first question to the last token.
        tokens_count: of all answers together.
        ttfts_s: to each answer's first text, from the common start.
    """

    seconds: float
    tokens_count: int
    ttfts_s: list[float]


class Opening(Struct, kw_only=True):
    """How a child opens the model; all children open it alike."""

    path: str
    context: int
    threads: int
    parallel: int


def prompt(number: int) -> str:
    """A prompt that asks for more than is measured.

    Each differs from the others early on, so that no subject can use what it computed before.
    """
    topic = _TOPICS[number % len(_TOPICS)]
    return f"{number} {topic}: write a very long, detailed story about {topic}, at least two thousand words."


def serve(answer: Callable[[Ask], Told]) -> None:
    """Answer asks from standard input until it ends."""
    for line in sys.stdin.buffer:
        told = answer(msgspec.json.decode(line, type=Ask))
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()
