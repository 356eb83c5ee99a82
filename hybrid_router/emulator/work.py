"""What a call has a model do, in the units that are paid for."""

from __future__ import annotations

from hybrid_router.catalogue.prices import Work, megapixels, tiles
from hybrid_router.catalogue.usual import usual
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Batch, Usage

_INPUT_SIDE = 512  # the most that a picture to start from may measure


def usage_of(events: Batch) -> Usage:
    """What the source counted; nothing, if it does not count."""
    return next((event for event in events if isinstance(event, Usage)), Usage(0, 0))


def work_of(call: Call, events: Batch) -> Work:
    """The units of one answered call."""
    usage = usage_of(events)
    match call.operation:
        case Operation.SPEAK:
            text = "".join(prompt for prompt in call.prompts if isinstance(prompt, str))
            return Work(characters_count=len(text), sound_s=usage.sound_s)
        case Operation.TRANSCRIBE:
            return Work(sound_s=usage.sound_s)
        case Operation.IMAGE:
            return _painted(call)
    return Work(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        sound_s=usage.sound_s,
        seen_count=len(call.uploads),
    )


def _painted(call: Call) -> Work:
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    usually = usual(call.alias)
    width, height = ask.width or usually.width, ask.height or usually.height
    given_count = len(call.uploads)
    return Work(
        pictures_count=call.n,
        tiles_count=tiles(width, height),
        megapixels=megapixels(width, height),
        steps_count=min(ask.steps or usually.steps, usually.most_steps),
        input_tiles_count=given_count * tiles(_INPUT_SIDE, _INPUT_SIDE),
        input_megapixels=given_count * megapixels(_INPUT_SIDE, _INPUT_SIDE),
    )
