"""POST /v1/embeddings: wire → `Call`."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import malformed, prompts, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.openai.truncation import Truncate, truncation
from hybrid_router.core.asks import Encoding, EncodingPurpose
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import CallRefused

MOST_INPUTS = 2048  # OpenAI's own

# Cohere's and Voyage's names beside our own.
InputType: TypeAlias = Literal[
    "query", "document", "passage", "search_query", "search_document", "classification", "clustering"
]
_PURPOSES: Mapping[str, EncodingPurpose] = MappingProxyType(
    {
        "passage": "document",
        "search_query": "query",
        "search_document": "document",
        "query": "query",
        "document": "document",
        "classification": "classification",
        "clustering": "clustering",
    }
)


class EmbeddingBody(Struct, frozen=True, kw_only=True):
    """The fields that an embedding call is made of."""

    model: ModelName
    input: prompts.Prompts
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1, le=2**20)] | None = None
    truncate: Truncate = None
    input_type: InputType | None = None
    prompt_name: Annotated[str, Meta(min_length=1, max_length=128)] | None = None


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
        raise CallRefused("input: a text is empty", param="input")
    call = Call(
        operation=Operation.EMBED,
        alias=asked.model,
        prompts=inputs,
        truncate=truncation(asked.truncate),
        ask=_ask(asked),
        features=frozenset() if asked.prompt_name is None else frozenset({Feature.PROMPTS}),
        **sender.fields(asker, extra),
    )
    return EmbeddingRequest(call, asked.encoding_format == "base64", asked.dimensions)


def _ask(asked: EmbeddingBody) -> Encoding | None:
    if asked.prompt_name is not None and asked.input_type is not None:
        raise CallRefused("input_type, prompt_name: send one of them", param="prompt_name")
    if asked.prompt_name is None and asked.input_type is None:
        return None
    purpose = None if asked.input_type is None else _PURPOSES[asked.input_type]
    return Encoding(purpose=purpose, prompt_name=asked.prompt_name)
