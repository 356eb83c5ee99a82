"""What a client saw, in a sentence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator

from hybrid_router.drill.run import Trial
from hybrid_router.drill.trial import Seen
from hybrid_router.drill.voice import Part

_AT_ONCE_S, _SOON_S = 0.1, 1.0
WELL, WHATEVER = "nothing fails", "in whatever way"


def sentence(seen: Seen) -> str:
    """As in `cloudflare/@cf/meta/llama answers after 20 s; 2 attempts`."""
    match seen.ending:
        case "whole":
            told = _whole(seen)
        case "broken":
            told = f"{_text(seen)}, then {when(seen.ended_s)} the error {seen.code}: {seen.message}"
        case "refused":
            told = f"{seen.status} {seen.code} {when(seen.ended_s)}: {seen.message}"
        case "hung":
            told = f"has not ended {when(seen.ended_s)}"
        case _:
            told = f"the connection ends without a word {when(seen.ended_s)}"
    return f"{told}; {len(seen.runs)} attempts" if len(seen.runs) > 1 else told


def when(seconds: float) -> str:
    """Seconds of the policy, as far as they can be told from what this machine needs itself."""
    if seconds < _AT_ONCE_S:
        return "at once"
    return "within a second" if seconds < _SOON_S else f"after {round(seconds, 1):g} s"


def _whole(seen: Seen) -> str:
    first_s = seen.first_s or seen.ended_s
    late = f", whole {when(seen.ended_s)}" if seen.ended_s - first_s >= _SOON_S else ""
    return _text(seen) + late


def _text(seen: Seen) -> str:
    """Who said it."""
    if not seen.parts:
        return f"an answer without text {when(seen.ended_s)}"
    first, *others = seen.parts
    told = f"{first.step} answers {when(seen.first_s or 0.0)}"
    if seen.ending == "broken" or others:
        told += f" up to word {first.last}"
    return told + "".join(f", {_going_on(part)}" for part in others)


def _going_on(part: Part) -> str:
    return f"{part.step} goes on from word {part.first} to {part.last}"


def grouped(trials: Iterable[Trial]) -> dict[str, list[tuple[str, str]]]:
    """Who fails → rows of (how, what was seen); ways that come to the same share a row."""
    by_who: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for trial in trials:
        by_who[trial.situation.who][sentence(trial.seen)].append(trial.situation.title or WELL)
    return {who: list(_rows(rows)) for who, rows in by_who.items()}


def _rows(rows: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    for told, titles in rows.items():
        is_all = len(rows) == 1 and len(titles) > 1
        yield (WHATEVER if is_all else "; ".join(titles)), told
