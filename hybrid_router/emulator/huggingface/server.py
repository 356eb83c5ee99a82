"""Inference Providers in OpenAI's form, and the task API, whose task is told by the model's name.

A model called `org/image-classification-…` is one for that: the real ones are known by their cards.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Annotated, Any, TypeAlias

import msgspec
from aiohttp import web
from msgspec import Meta, Struct

from hybrid_router.api.gallery import media_type
from hybrid_router.api.openai.vectors import floats
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core import ids
from hybrid_router.core.asks import (
    Ask,
    Classification,
    Moderation,
    Painting,
    Speech,
    Transcription,
    Translation,
)
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.event import (
    Batch,
    Embedding,
    Label,
    Picture,
    Relevance,
    Segment,
    Sound,
    Text,
    Verdict,
)
from hybrid_router.core.upload import upload_of
from hybrid_router.emulator.calls import without_secrets
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.openai import server as openai
from hybrid_router.emulator.port import SEEN
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import Count, RunningCloud, Stage, checked, on_stage

_LOADING_S = 20.0
_UNAVAILABLE = 503
_JSON = "application/json"
_NO_TASK = "Model {model} is not supported by provider hf-inference"
_WRONG = "Error in `{name}{{path}}`: {{why}}"
Texts: TypeAlias = str | Annotated[list[str], Meta(min_length=1)]


class _Compared(Struct):
    source_sentence: str
    sentences: list[str]


class _Parameters(Struct):
    """Those that change something here."""

    tgt_lang: str | None = None
    src_lang: str | None = None
    width: Count | None = None
    height: Count | None = None
    max_new_tokens: Count | None = None


def failed(refusal: Refusal) -> dict[str, Any]:
    """An error as the task API writes it; one that is not ready says how long that takes."""
    if refusal.status == _UNAVAILABLE:
        return {"error": refusal.message, "estimated_time": _LOADING_S}
    return {"error": [refusal.message]}


def serve(settings: Settings) -> AbstractAsyncContextManager[RunningCloud]:
    """Serve below `/v1` and `/hf-inference`; see `emulator.stage.on_stage`."""
    routes = [
        ("/v1/chat/completions", openai.chat),
        ("/v1/embeddings", openai.embed),
        ("/hf-inference/models/{model:.+?}/pipeline/{task}", run_task),
        ("/hf-inference/models/{model:.+}", run_task),
    ]
    return on_stage(Stage(settings, failed), routes)


async def run_task(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    """POST /models/{model}, maybe with its pipeline."""
    model = request.match_info["model"]
    task = request.match_info.get("task") or _named(model)
    raw = await request.read()
    is_file = task in _OF_FILES
    if not is_file and task not in _OF_TEXTS:
        raise Refusal(5007, _NO_TASK.format(model=model), status=404)
    body = _described(request, raw) if is_file and request.content_type != _JSON else _body(raw)
    seen = request[SEEN]
    seen.model, seen.body = model, without_secrets(body)
    if is_file:
        return await _of_file(stage, task, model, raw, delivery)
    operation, ask = _OF_TEXTS[task]
    call = _call(operation, model, body, ask)
    return await _told(call, await stage.events(call), delivery)


async def _of_file(stage: Stage, task: str, model: str, raw: bytes, delivery: Delivery) -> web.StreamResponse:
    operation, ask = _OF_FILES[task]
    upload = upload_of(raw)
    try:
        call = Call(id=ids.new("emulated-"), operation=operation, alias=model, ask=ask, uploads=(upload,))
        return await _told(call, await stage.events(call), delivery)
    finally:
        upload.close()


_OF_FILES: Mapping[str, tuple[Operation, Ask]] = MappingProxyType({
    "automatic-speech-recognition": (Operation.TRANSCRIBE, Transcription()),
    "image-classification": (Operation.CLASSIFY, Classification()),
})  # fmt: skip
_OF_TEXTS: Mapping[str, tuple[Operation, Ask | None]] = MappingProxyType({
    "feature-extraction": (Operation.EMBED, None),
    "sentence-similarity": (Operation.RERANK, None),
    "text-generation": (Operation.COMPLETE, None),
    "summarization": (Operation.COMPLETE, None),
    "translation": (Operation.TRANSLATE, Translation(target="en")),
    "text-to-speech": (Operation.SPEAK, Speech(format="wav")),
    "text-to-image": (Operation.IMAGE, Painting()),
    "text-classification": (Operation.MODERATE, Moderation()),
})  # fmt: skip


def _named(model: str) -> str:
    """The task that a model's name tells.

    Raises:
        Refusal: 404, none.
    """
    for task in (*_OF_FILES, *_OF_TEXTS):
        if task in model:
            return task
    raise Refusal(5007, _NO_TASK.format(model=model), status=404)


def _described(request: web.Request, raw: bytes) -> dict[str, Any]:
    """Of a file, how large it was."""
    return {"media_type": request.content_type, "size_bytes": len(raw)}


def _body(raw: bytes) -> dict[str, Any]:
    """A JSON body."""
    try:
        body = msgspec.json.decode(raw, type=dict[str, Any])
    except (ValueError, RecursionError):
        body = {}
    if "inputs" not in body:
        raise Refusal(5006, "Error in `inputs`: field required", status=422)
    return body


def _call(operation: Operation, model: str, body: dict[str, Any], ask: Ask | None) -> Call:
    """What is asked; parameters that change nothing here are read over.

    Raises:
        Refusal: 422, an input or a parameter is something else than it must be.
    """
    told = _WRONG.format(name="parameters")
    parameters: _Parameters = checked(body.get("parameters") or {}, _Parameters, told)
    told, query = _WRONG.format(name="inputs"), ""
    if operation is Operation.RERANK:
        compared: _Compared = checked(body["inputs"], _Compared, told)
        query, prompts = compared.source_sentence, tuple(compared.sentences)
    else:
        texts: str | list[str] = checked(body["inputs"], Texts, told)
        prompts = (texts,) if isinstance(texts, str) else tuple(texts)
    if operation is Operation.TRANSLATE and parameters.tgt_lang is not None:
        ask = Translation(target=parameters.tgt_lang, source=parameters.src_lang)
    if operation is Operation.IMAGE:
        ask = Painting(width=parameters.width or 0, height=parameters.height or 0)
    return Call(
        id=ids.new("emulated-"),
        operation=operation,
        alias=model,
        prompts=prompts,
        query=query,
        ask=ask,
        sampling=Sampling(max_tokens=parameters.max_new_tokens),
    )


async def _told(call: Call, events: Batch, delivery: Delivery) -> web.StreamResponse:
    """The answer in the form of its task."""
    files = [event.content for event in events if isinstance(event, Sound | Picture)]
    if files:
        content = b"".join(files)
        kind = "audio/wav" if call.operation is Operation.SPEAK else media_type(content)
        return await delivery.whole(content, kind)
    return await delivery.document(_document(call, events))


def _document(call: Call, events: Batch) -> Any:
    match call.operation:
        case Operation.EMBED:
            return [floats(event.values) for event in events if isinstance(event, Embedding)]
        case Operation.RERANK:
            return [event.score for event in events if isinstance(event, Relevance)]
        case Operation.CLASSIFY:
            found = [event for event in events if isinstance(event, Label)]
            return [{"label": event.label, "score": event.score} for event in found]
        case Operation.MODERATE:
            return [_labels(event) for event in events if isinstance(event, Verdict)]
        case Operation.TRANSCRIBE:
            return {"text": "".join(event.text for event in events if isinstance(event, Segment)).strip()}
        case _:
            return [_written(call, events)]


def _written(call: Call, events: Batch) -> dict[str, str]:
    """A text under the name that its task gives it; what goes on holds the prompt as well."""
    text = "".join(event.text for event in events if isinstance(event, Text))
    if call.operation is Operation.TRANSLATE:
        return {"translation_text": text}
    if "summarization" in call.alias:
        return {"summary_text": text}
    return {"generated_text": f"{call.prompts[0]}{text}"}


def _labels(verdict: Verdict) -> list[dict[str, Any]]:
    """Two labels, as of a classifier of toxic texts."""
    worst = max((score for _, score in verdict.scores), default=1.0 if verdict.flagged else 0.0)
    return [{"label": "toxic", "score": worst}, {"label": "neutral", "score": 1.0 - worst}]
