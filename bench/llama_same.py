"""Whether greedy answers are llama-server's, token for token: alone, and in a full batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from bench.llama_client import Said, Server, attempts, together
from bench.llama_figures import SERVER, Goal, Samples, Section
from bench.llama_subjects import Setup, Shape, servers

_PROMPTS = (
    "What is the capital of France, and what is it known for?",
    "Write a Python function that reverses a string.",
    "List five uses for a paper clip.",
    "Explain gravity to a child of six.",
    "Translate into German: the weather is fine today.",
    "Who wrote Hamlet?",
    "Tell me a short story about a dragon who is afraid of fire.",
    "What is 17 times 23?",
    "Give me a recipe for pancakes.",
    "Summarise the plot of Romeo and Juliet in two sentences.",
    "Write a haiku about the sea.",
    "What are the planets of the solar system?",
    "How do I boil an egg?",
    "Write an SQL query that counts users by country.",
    "Why is the sky blue?",
    "Describe a sunset without naming a colour.",
    "What is the difference between a list and a tuple?",
    "Write a polite letter that declines an invitation.",
    "Name three inventions of the nineteenth century.",
    "Complete: roses are red, violets are",
)
_TOKENS, _BATCH = 64, 8


class Parting(Struct, kw_only=True):
    """Where an answer leaves the one it should equal.

    `gap`: how much likelier the first token there is than the second, as a difference of logits.
    """

    place: int
    theirs: str
    gap: float | None


def same(setup: Setup) -> Section:
    """Twenty prompts, one at a time and eight at once, against llama-server one at a time."""
    if setup.binary is None:
        return Section(name="same", title="Same text", notes=["Not measured: no llama-server was given."])
    samples = Samples()
    notes = [
        f"{len(_PROMPTS)} prompts, {_TOKENS} tokens, greedy; against llama-server with one call at a time. "
        "The gap is between the logits of the two likeliest tokens where two texts part, as it had them. A "
        "parting is a near-tie if the arithmetic of a batch changes such gaps as much elsewhere: where both "
        "texts are the same yet, and the same two tokens are the likeliest."
    ]
    alone, batched = "alone, equal of 20", f"{_BATCH} at once, equal of 20"
    with servers(setup, Shape(512, _BATCH)) as listening:
        setup.say("same: llama-server, one at a time")
        expected = [together(listening[SERVER], [_body(text, scores=True)])[0] for text in _PROMPTS]
        for name, server in listening.items():
            for way, ask in ((alone, _one_by_one), (batched, _eight_at_once)):
                setup.say(f"same: {name}, {way}")
                answers = ask(server)
                partings = [parting(one, other) for one, other in zip(expected, answers, strict=True)]
                _judge(samples, notes, name, way, partings)
                shift = max(map(shifted, expected, answers), default=0.0)
                samples.add(f"{way}: widest change of a gap where they agree", name, shift)
                wider = [one for one in partings if one is not None and (one.gap or 0.0) > shift]
                samples.add(f"{way}: partings with a wider gap", name, len(wider))
    return Section(
        name="same",
        title="Same text",
        rows=samples.rows(
            {
                alone: Goal(at_least=len(_PROMPTS), of_ratio=False),
                f"{batched}: partings with a wider gap": Goal(at_most=0, of_ratio=False),
            }
        ),
        notes=notes,
    )


def _judge(
    samples: Samples, notes: list[str], name: str, way: str, partings: Sequence[Parting | None]
) -> None:
    apart = {i: one for i, one in enumerate(partings) if one is not None}
    samples.add(way, name, len(partings) - len(apart))
    widest = max((one.gap or 0.0 for one in apart.values()), default=0.0)
    samples.add(f"{way}: widest gap where they part", name, widest)
    notes += [
        f"{name}, {way.partition(',')[0]}: “{_PROMPTS[i]}” parts at token {one.place}, "
        f"{one.theirs!r}, gap {'unknown' if one.gap is None else f'{one.gap:.3f}'}."
        for i, one in apart.items()
    ]


def _body(text: str, *, scores: bool = False) -> dict[str, Any]:
    asked: dict[str, Any] = {
        "messages": [{"role": "user", "content": text}],
        "max_tokens": _TOKENS,
        "temperature": 0,
    }
    return asked | {"logprobs": True, "top_logprobs": 2} if scores else asked


def _one_by_one(server: Server) -> list[Said]:
    scores = _tells_scores(server)
    return [together(server, [_body(text, scores=scores)])[0] for text in _PROMPTS]


def _eight_at_once(server: Server) -> list[Said]:
    """The last batch is filled up with the first prompts again."""
    scores = _tells_scores(server)
    bodies = [_body(text, scores=scores) for text in _PROMPTS]
    filled = bodies + bodies[: -len(bodies) % _BATCH]
    said = [one for at in range(0, len(filled), _BATCH) for one in together(server, filled[at : at + _BATCH])]
    return said[: len(bodies)]


def _tells_scores(server: Server) -> bool:
    return attempts(server, [_body("Hello", scores=True)])[0].error is None


def parting(expected: Said, said: Said) -> Parting | None:
    """Where `said` leaves `expected`; None: nowhere.

    With the tokens of both it is the first that differs; without, the token of `expected` in which the texts
    part or the one before it, whichever was the nearer tie: a longer token may begin like a shorter one.
    """
    theirs, ours = _tokens(expected), _tokens(said)
    if ours:
        pairs = zip(theirs, ours, strict=False)
        place = next((i for i, (a, b) in enumerate(pairs) if a[0] != b[0]), min(len(theirs), len(ours)))
        return None if len(theirs) == len(ours) == place else _parted(theirs, [place])
    if expected.text == said.text:
        return None
    ends, text = [], b""
    for token, _ in theirs:
        text += token
        ends.append(len(text))
    common = _common(expected.text.encode(), said.text.encode())
    place = next((i for i, end in enumerate(ends) if end > common), len(ends))
    return _parted(theirs, [place, place - 1])


def shifted(expected: Said, said: Said) -> float:
    """How much the gap between the likeliest two tokens differs at most, as long as both say the same."""
    widest = 0.0
    for theirs, ours in zip(_scores(expected), _scores(said), strict=False):
        if theirs["bytes"] != ours["bytes"]:
            break
        rivals = [{tuple(rival["bytes"]) for rival in one["top_logprobs"]} for one in (theirs, ours)]
        if rivals[0] == rivals[1]:
            widest = max(widest, abs(_gap(theirs["top_logprobs"]) - _gap(ours["top_logprobs"])))
    return widest


def _parted(theirs: list[tuple[bytes, float]], places: list[int]) -> Parting:
    gap_of: Callable[[int], float] = lambda place: theirs[place][1]  # noqa: E731
    known = [place for place in places if 0 <= place < len(theirs)]
    if not known:
        return Parting(place=places[0], theirs="its end", gap=None)
    place = min(known, key=gap_of)
    return Parting(place=place, theirs=theirs[place][0].decode("utf-8", "replace"), gap=theirs[place][1])


def _tokens(said: Said) -> list[tuple[bytes, float]]:
    """Bytes of each token, and the gap between the likeliest two at its place."""
    return [(bytes(one["bytes"]), _gap(one["top_logprobs"])) for one in _scores(said)]


def _scores(said: Said) -> list[dict[str, Any]]:
    """What a stream says of each token, in order."""
    return [
        score
        for chunk in said.chunks
        for choice in chunk.get("choices", ())
        for score in (choice.get("logprobs") or {}).get("content") or ()
    ]


def _gap(top: list[dict[str, Any]]) -> float:
    return float(top[0]["logprob"] - top[1]["logprob"])


def _common(one: bytes, other: bytes) -> int:
    """How many bytes both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))
