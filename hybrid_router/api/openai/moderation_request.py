"""POST /v1/moderations: wire → `Call`."""

from __future__ import annotations

from typing import Any, TypeAlias, Unpack

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.api.openai import malformed, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.asks import Moderation
from hybrid_router.core.call import Call, Feature, ImagePart, Operation, TextPart
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.upload import Upload

MOST_INPUTS = 128
MOST_IMAGES = 8
DEFAULT_MODEL = "omni-moderation-latest"  # as OpenAI has it: an alias of this name serves who names none

InputPart: TypeAlias = TextPart | ImagePart


class ModerationBody(Struct, frozen=True, kw_only=True):
    """The fields that a moderation is made of."""

    input: str | list[Any]
    model: ModelName = DEFAULT_MODEL


class ModerationRequest(Struct, frozen=True):
    """A call without its images yet, and how its reply is grouped.

    Attributes:
        images: `data:` URL and field of each.
        joint: the inputs are parts of one thing, with one result.
    """

    call: Call
    images: tuple[tuple[str, str], ...]
    joint: bool

    def with_files(self, uploads: tuple[Upload, ...]) -> Call:
        """The call, its images at hand."""
        return replace(self.call, uploads=uploads)


_DECODER = msgspec.json.Decoder(ModerationBody)
_KNOWN = frozenset(ModerationBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> ModerationRequest:
    """Read a moderation request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    given = [asked.input] if isinstance(asked.input, str) else asked.input
    if not 1 <= len(given) <= MOST_INPUTS:
        raise CallRefused(f"input: expected 1 to {MOST_INPUTS} texts or parts", param="input")
    joint = not all(isinstance(one, str) for one in given)
    parts = [_part(one, f"input[{i}]") for i, one in enumerate(given)] if joint else []
    texts = [part.text for part in parts if isinstance(part, TextPart)] if joint else given
    images = tuple(
        (str(part.image_url.get("url")), f"input[{i}].image_url.url")
        for i, part in enumerate(parts)
        if isinstance(part, ImagePart)
    )
    if len(images) > MOST_IMAGES:
        raise CallRefused(f"input: at most {MOST_IMAGES} images are accepted", param="input")
    call = Call(
        operation=Operation.MODERATE,
        alias=asked.model,
        prompts=tuple(texts),
        ask=Moderation(),
        features=frozenset({Feature.IMAGES} if images else ()),
        **sender.fields(asker, extra),
    )
    return ModerationRequest(call, images, joint)


def _part(given: Any, param: str) -> InputPart:
    """A text or an image of a list of parts."""
    try:
        part: InputPart = msgspec.convert(given, InputPart)
    except (msgspec.ValidationError, RecursionError):
        raise CallRefused(
            f'{param}: expected {{"type": "text", "text": …}} or '
            '{"type": "image_url", "image_url": {"url": …}}; a list holds texts alone, or parts alone',
            param=param,
        ) from None
    return part
