"""What the llama part asks: prompts, texts of a known length, and the line protocol of its children."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

_TOPICS = (
    "a lighthouse", "a baker", "an old bridge", "a violin", "a garden in winter", "two brothers",
    "a lost map", "a night train", "a mountain village", "a clockmaker", "a river", "a school play",
    "a letter", "a storm", "a fox", "a painter", "a market", "an island", "a doctor", "a balloon",
    "a library", "a race", "a harbour", "a forest", "a king", "a robot", "a comet", "a well",
    "a cat", "a festival", "a ship", "a desert",
)  # fmt: skip
# Behind a space each of them is one token of the starter model.
_WORDS = (
    "time year people way day man thing woman life child world school state family student group country "
    "problem hand part place case week company system program question work government number night point "
    "home water room mother area money story fact month lot right study book eye job word business issue "
    "side kind head house service friend father power hour game line end member law car city name team "
    "minute idea body back face others level office door health person art war history party result change "
    "morning reason research girl guy moment air teacher force education"
)


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
    """How a child opens the model; all children open it alike.  `context` is of one sequence."""

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


def words(tokens_count: int, seed: str) -> str:
    """A text of so many tokens, without meaning; the same seed gives the same."""
    pick = random.Random(seed)  # noqa: S311 - it shall be the same each time
    return " " + " ".join(pick.choices(_WORDS.split(), k=tokens_count))


def body(text: str, tokens_count: int, *, system: str | None = None) -> dict[str, Any]:
    """A chat call, greedy, that does not end by itself before it has its tokens."""
    messages = [{"role": "user", "content": text}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    return {"messages": messages, "max_tokens": tokens_count, "temperature": 0, "ignore_eos": True}


def serve(answer: Callable[[Ask], Told]) -> None:
    """Answer asks from standard input until it ends."""
    for line in sys.stdin.buffer:
        told = answer(msgspec.json.decode(line, type=Ask))
        sys.stdout.buffer.write(msgspec.json.encode(told) + b"\n")
        sys.stdout.buffer.flush()
