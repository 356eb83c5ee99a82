"""What work costs, in every unit that Workers AI's prices have.  Pure; the figures are the catalogue's.

A model's price is a list of lines that add up: so much for a million tokens of the prompt and so much for one
of the answer, so much for a tile and so much for a step.  `Work` counts in all units at once; each line takes
the one that it names.  A unit that nobody knows here counts as nothing, and `unknown_units` names it.

Source: Workers AI pricing (2026-08-28).  It gives examples for tokens alone; how tiles and megapixels are
rounded (up, for each side and each picture) is inferred from how the units are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.catalogue.workers_ai import Model, Price

TILE_PIXELS = 512
MEGAPIXEL = 1024 * 1024
_MILLION = 1_000_000


class Work(Struct, frozen=True, kw_only=True):
    """What a call has a model do.

    Attributes:
        prompt_tokens: `cached_tokens` are among them.
        characters_count: of text to be spoken.
        sound_s: heard, or made.
        live: the sound came through a WebSocket.
        seen_count: pictures that were looked at.
        pictures_count: pictures that were made.
        tiles_count, megapixels, steps_count: of each of them.
        input_tiles_count, input_megapixels: of all pictures that each of them was made from.
    """

    prompt_tokens: float = 0
    completion_tokens: float = 0
    cached_tokens: float = 0
    characters_count: int = 0
    sound_s: float = 0.0
    live: bool = False
    seen_count: int = 0
    pictures_count: int = 0
    tiles_count: int = 0
    megapixels: int = 0
    steps_count: int = 0
    input_tiles_count: int = 0
    input_megapixels: int = 0


def tiles(width: int, height: int) -> int:
    """Tiles of 512 by 512 pixels that a picture takes."""
    return math.ceil(width / TILE_PIXELS) * math.ceil(height / TILE_PIXELS)


def megapixels(width: int, height: int) -> int:
    """Megapixels (1024 by 1024) of a picture, begun ones in full."""
    return math.ceil(width * height / MEGAPIXEL)


def neurons(price: Iterable[Price], work: Work) -> float:
    """What `work` costs at the prices of one model."""
    return _sum(price, work, lambda line: line.neurons)


def usd(price: Iterable[Price], work: Work) -> float:
    """The same in US dollars, as listed."""
    return _sum(price, work, lambda line: line.usd)


def unknown_units(model: Model) -> tuple[str, ...]:
    """Units of `model`'s price that count as nothing here."""
    return tuple(line.unit for line in model.price if line.unit not in _COUNTS)


def _sum(price: Iterable[Price], work: Work, rate: Callable[[Price], float]) -> float:
    """Whole rates of whole tokens are added before they are divided, so that they stay exact."""
    lines = tuple(price)
    cached = any(line.unit == _CACHED for line in lines)
    of_millions, rest = 0.0, 0.0
    for line in lines:
        count, per = _COUNTS.get(line.unit, _NOTHING)
        amount = count(work)
        if line.unit == _INPUT and not cached:
            amount = work.prompt_tokens
        if per == _MILLION:
            of_millions += amount * rate(line)
        else:
            rest += amount * rate(line) / per
    return of_millions / _MILLION + rest


def _pictures(one: Callable[[Work], float]) -> Callable[[Work], float]:
    """What one picture counts, for all."""
    return lambda work: work.pictures_count * one(work)


SPOKEN, SOUND = "per 1k characters input", "per audio minute"
PICTURE = "per picture"  # not one of Cloudflare's: for prices that are written by hand
_INPUT, _CACHED = "per M input tokens", "per M cached input tokens"
_NOTHING: tuple[Callable[[Work], float], float] = (lambda work: 0.0, 1.0)
_COUNTS: Mapping[str, tuple[Callable[[Work], float], float]] = MappingProxyType({
    _INPUT: (lambda work: work.prompt_tokens - work.cached_tokens, _MILLION),
    _CACHED: (lambda work: work.cached_tokens, _MILLION),
    "per M output tokens": (lambda work: work.completion_tokens, _MILLION),
    SPOKEN: (lambda work: work.characters_count, 1000),
    SOUND: (lambda work: work.sound_s, 60),
    "per audio minute input": (lambda work: 0.0 if work.live else work.sound_s, 60),
    "per audio minute (WebSocket)": (lambda work: work.sound_s, 60),
    "per audio minute input (WebSocket)": (lambda work: work.sound_s if work.live else 0.0, 60),
    PICTURE: (lambda work: work.pictures_count, 1),
    "per M images": (lambda work: work.seen_count, _MILLION),
    "per 512x512 tile": (_pictures(lambda work: work.tiles_count), 1),
    "per step": (_pictures(lambda work: work.steps_count), 1),
    "per input 512x512 tile": (_pictures(lambda work: work.input_tiles_count), 1),
    "per output 512x512 tile": (_pictures(lambda work: work.tiles_count), 1),
    "per input 512x512 tile, per step": (
        _pictures(lambda work: work.input_tiles_count * work.steps_count), 1,
    ),
    "per output 512x512 tile, per step": (_pictures(lambda work: work.tiles_count * work.steps_count), 1),
    "per first MP (1024x1024)": (_pictures(lambda work: min(1, work.megapixels)), 1),
    "per subsequent MP": (_pictures(lambda work: max(0, work.megapixels - 1)), 1),
    "per input image MP": (_pictures(lambda work: work.input_megapixels), 1),
})  # fmt: skip
