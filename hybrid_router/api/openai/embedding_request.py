"""POST /v1/embeddings: wire → `Call`."""

from __future__ import annotations

from typing import Annotated, Literal, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import malformed, prompts, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused

MOST_INPUTS = 2048  # OpenAI's own


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    """The fields that an embedding call is made of."""

    model: ModelName
    input: prompts.Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    truncate: Literal["middle", "oldest"] | None = None


class EmbeddingRequest(Struct, frozen=True):
    """A call, and how its client wants to read the vectors."""

    call: Call
    base64: bool
    dimensions: int | None


_DECODER = msgspec.json.Decoder(EmbeddingBody)
_KNOWN = frozenset(EmbeddingBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> EmbeddingRequest:
    """Read an embedding request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    inputs = prompts.read(asked.input, "input", MOST_INPUTS)
    if not all(inputs):
        raise CallRefused("input: an empty text has no direction", param="input")
    call = Call(
        operation=Operation.EMBED,
        alias=asked.model,
        prompts=inputs,
        truncate=asked.truncate,
        **sender.fields(asker, extra),
    )
    return EmbeddingRequest(call, asked.encoding_format == "base64", asked.dimensions)
