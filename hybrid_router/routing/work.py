"""How much work a call may be, in the units that prices have.  Pure, but for the head of a recording.

Pictures and characters are known before the call, so they are counted exactly, and a recording where its head
says how long it is.  Tokens are estimates, and nobody knows how long an answer will be: there it is the most.
"""

from __future__ import annotations

import os

from msgspec.structs import replace

from hybrid_router.catalogue.prices import Work, megapixels, tiles
from hybrid_router.catalogue.usual import Usual
from hybrid_router.core import wave
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.backend import GENERATES
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Usage
from hybrid_router.core.upload import Upload
from hybrid_router.routing.estimate import ORDER_TOKENS, text_tokens

PROMPT_MARGIN = 2.0  # prompts were never more than 1.7 times their estimate, see `routing.estimate`
_TRANSLATED_FACTOR = 3.0  # a translation is hardly ever longer, in tokens
_TRANSLATED_TOKENS = 16
_VERDICT_TOKENS = 64
_FEWEST_BYTES_A_S = 1000  # speech at 8 kbit/s; whatever is understood takes more
_SLOWEST_CHARACTERS_A_S = 8.0  # half the pace at which people speak
_STAGES = 2  # where no model translates what it hears, others do it: about as much again


def the_most(
    call: Call, prompt_tokens: int, default_max_tokens: int, usual: Usual, *, translates: bool
) -> Work:
    """What `call` may come to.

    Args:
        prompt_tokens: of all prompts, estimated.
        default_max_tokens: of a choice, where the client names no limit.
        usual: a picture as the model makes it by itself.
        translates: the model does nothing else, so needs no order and cannot go on and on.
    """
    match call.operation:
        case Operation.TRANSCRIBE:
            return Work(sound_s=_heard_s(call))
        case Operation.SPEAK:
            return _spoken(call)
        case Operation.IMAGE:
            return _painted(call, usual)
    sent_tokens = PROMPT_MARGIN * sent(call, prompt_tokens, translates=translates)
    return Work(
        prompt_tokens=sent_tokens,
        completion_tokens=_answer_tokens(call, prompt_tokens, default_max_tokens, translates=translates),
        seen_count=len(call.uploads),
    )


def done(most: Work, usage: Usage) -> Work:
    """`most` with what was counted in its place."""
    return replace(
        most,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        sound_s=usage.sound_s or most.sound_s,
    )


def sent(call: Call, prompt_tokens: int, *, translates: bool = False) -> int:
    """Tokens that are sent: every choice sends its prompt again, and every text to translate its order."""
    ordered = call.operation is Operation.TRANSLATE and not translates
    orders = ORDER_TOKENS * len(call.prompts) if ordered else 0
    return call.n * (prompt_tokens + orders + text_tokens(call.written))


def _answer_tokens(call: Call, prompt_tokens: int, default_max_tokens: int, *, translates: bool) -> float:
    match call.operation:
        case Operation.TRANSLATE if translates:
            return _TRANSLATED_FACTOR * prompt_tokens + _TRANSLATED_TOKENS * call.choices_count
        case Operation.MODERATE:
            return _VERDICT_TOKENS * call.choices_count
        case operation if operation not in GENERATES and operation is not Operation.TRANSLATE:
            return 0
    told = call.sampling.max_tokens
    return call.choices_count * (default_max_tokens if told is None else told)


def _heard_s(call: Call) -> float:
    stages = _STAGES if isinstance(call.ask, Transcription) and call.ask.translates else 1
    return stages * sum(sound_s(upload) for upload in call.uploads)


def sound_s(upload: Upload) -> float:
    """Seconds of a recording: as the head of a WAVE file says, else the most that so many bytes may be."""
    try:
        head = os.pread(upload.fd, wave.HEAD_BYTES, 0)
    except OSError:  # it is gone: the call has ended
        head = b""
    told_s = wave.length_s(head, upload.size_bytes)
    return upload.size_bytes / _FEWEST_BYTES_A_S if told_s is None else told_s


def _spoken(call: Call) -> Work:
    speed = call.ask.speed if isinstance(call.ask, Speech) else 1.0
    characters_count = sum(len(prompt) for prompt in call.prompts)
    return Work(
        characters_count=characters_count, sound_s=characters_count / _SLOWEST_CHARACTERS_A_S / (speed or 1.0)
    )


def _painted(call: Call, usual: Usual) -> Work:
    """What it is made from is taken to be a tile and a megapixel each: larger pictures are refused there."""
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    width, height = ask.width or usual.width, ask.height or usual.height
    given_count = len(call.uploads) - ask.masked
    return Work(
        pictures_count=call.n,
        tiles_count=tiles(width, height),
        megapixels=megapixels(width, height),
        steps_count=min(ask.steps or usual.steps, usual.most_steps),
        input_tiles_count=given_count,
        input_megapixels=given_count,
    )
