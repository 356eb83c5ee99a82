"""POST /v1/rerank, which OpenAI lacks: wire → `Call`, as Jina, Cohere and llama-server have it."""

from __future__ import annotations

from typing import Annotated, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import malformed, sender
from hybrid_router.api.openai.fields import ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.openai.truncation import Truncate, truncation
from hybrid_router.core.call import Call, Operation

MOST_DOCUMENTS = 1024


class TextDocument(Struct, frozen=True):
    """A document as Cohere writes one."""

    text: str


class RerankBody(Struct, frozen=True, kw_only=True):
    """The fields that a rerank call is made of."""

    model: ModelName
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | TextDocument], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=1, le=2**31 - 1)] | None = None
    return_documents: bool | None = None
    truncate: Truncate = None


class RerankRequest(Struct, frozen=True):
    """A call, and how its client wants to read the order."""

    call: Call
    top_n: int | None
    return_documents: bool


_DECODER = msgspec.json.Decoder(RerankBody)
_KNOWN = frozenset(RerankBody.__struct_fields__)


def decode(body: bytes, **asker: Unpack[Sender]) -> RerankRequest:
    """Read a rerank request.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    asked, extra = malformed.read(_DECODER, _KNOWN, body)
    call = Call(
        operation=Operation.RERANK,
        alias=asked.model,
        prompts=tuple(one if isinstance(one, str) else one.text for one in asked.documents),
        query=asked.query,
        truncate=truncation(asked.truncate),
        **sender.fields(asker, extra),
    )
    return RerankRequest(call, asked.top_n, bool(asked.return_documents))
