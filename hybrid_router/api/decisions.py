"""Why a call went where it went, and where one would go now."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol, Unpack

import msgspec
from aiohttp import web
from msgspec import UNSET, Raw, Struct, UnsetType

from hybrid_router.api import body, responses
from hybrid_router.api.exchange import EXCHANGE
from hybrid_router.api.generation import CURRENT
from hybrid_router.api.openai import (
    chat_request,
    completion_request,
    embedding_request,
    image_request,
    moderation_request,
    rerank_request,
    speech_request,
)
from hybrid_router.api.openai.endpoints import decoded
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.plain import classify, translate
from hybrid_router.core.call import Call
from hybrid_router.core.errors import CallRefused, NotFound
from hybrid_router.core.step import LeftOut, Plan, Treatment
from hybrid_router.dispatch.decision import StepMade, step_made

CHAT_PATH, COMPLETION_PATH = "/v1/chat/completions", "/v1/completions"


class Asked(Protocol):
    """A request as every dialect's decoder gives it."""

    @property
    def call(self) -> Call: ...


class _Alone(NamedTuple):
    """A call whose request holds nothing else."""

    call: Call


def _translation(raw: bytes, **asker: Unpack[Sender]) -> _Alone:
    return _Alone(translate.decode(raw, **asker))


def _edit(raw: bytes, **asker: Unpack[Sender]) -> image_request.ImageRequest:
    """Its pictures are not opened; what they ask of a model counts."""
    return image_request.with_files(image_request.edit(raw, **asker).request, ())


_DECODE: Mapping[str, Callable[..., Asked]] = MappingProxyType(
    {
        CHAT_PATH: chat_request.decode,
        COMPLETION_PATH: completion_request.decode,
        "/v1/embeddings": embedding_request.decode,
        "/v1/images/generations": image_request.generation,
        "/v1/rerank": rerank_request.decode,
        "/rerank": rerank_request.decode,
        "/v1/audio/speech": speech_request.decode,
        "/v1/images/edits": _edit,
        "/v1/moderations": moderation_request.decode,
        "/v1/classify": classify.decode,
        "/v1/translate": _translation,
    }
)
# In this order: a speech and a translation have an input too.
_TELLS = {
    "voice": "/v1/audio/speech",
    "target": "/v1/translate",
    "image": "/v1/classify",
    "prompt": COMPLETION_PATH,
    "input": "/v1/embeddings",
    "documents": "/v1/rerank",
}
_ID = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)


class Explained(Struct, frozen=True, kw_only=True):
    """The plan that a call would get: nothing of its text."""

    alias: str
    refused: str | None
    local_only: bool
    rules: tuple[str, ...]
    treatment: Treatment
    total_s: float
    prompt_tokens: int
    steps: tuple[StepMade, ...]
    left_out: tuple[LeftOut, ...]


class _Looked(Struct):
    """What tells the kinds of call from each other."""

    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    documents: Raw | UnsetType = UNSET
    voice: Raw | UnsetType = UNSET
    target: Raw | UnsetType = UNSET
    image: Raw | UnsetType = UNSET


_LOOK = msgspec.json.Decoder(_Looked)


async def show(request: web.Request) -> web.Response:
    """GET /router/decisions/{id}.  Another principal's is not there: the same 404 for both."""
    decision_id = request.match_info["id"]
    answers, found = request.app[CURRENT].generation.answers, None
    if _ID.fullmatch(decision_id):
        found = await answers.decision(decision_id, request[EXCHANGE].principal)
    if found is None:
        raise NotFound("there is no decision of this id; a call's is there once the call has ended")
    return responses.document(found)


async def explain(request: web.Request) -> web.Response:
    """POST /router/explain."""
    call = _call(request, await body.read(request))
    plan = request.app[CURRENT].generation.answers.explain(call)
    return responses.document(msgspec.json.encode(explained(call.alias, plan)))


def explained(alias: str, plan: Plan) -> Explained:
    """A plan as it is told."""
    return Explained(
        alias=alias,
        refused=plan.refused,
        local_only=plan.local_only,
        rules=plan.rules,
        treatment=plan.treatment,
        total_s=plan.total_s,
        prompt_tokens=plan.prompt_tokens,
        steps=tuple(map(step_made, plan.steps)),
        left_out=plan.left_out,
    )


def _call(request: web.Request, raw: bytes) -> Call:
    """The call as its own address would read it.

    Raises:
        CallRefused: as there.
    """
    path = request.query.get("path") or _path_for(raw)
    if path not in _DECODE:
        raise CallRefused(f"path: expected one of {', '.join(_DECODE)}", param="path")
    return decoded(request, raw, _DECODE[path], "explain-", path).call


def _path_for(raw: bytes) -> str:
    """Where a body belongs; what is wrong with it is said when it is read in earnest."""
    try:
        looked = _LOOK.decode(raw)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return CHAT_PATH
    if looked.messages is not UNSET:
        return CHAT_PATH
    return next((path for name, path in _TELLS.items() if getattr(looked, name) is not UNSET), CHAT_PATH)
