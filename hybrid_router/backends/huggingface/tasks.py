"""The task API: one model, one task, told by its address.

Texts are `{"inputs", "parameters"}`, files go as they are; pictures and sounds come as they are.
Source: the reference of Inference Providers, "hf-inference".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias
from urllib.parse import quote

import msgspec
from msgspec import Struct

from hybrid_router.backends import unsaid
from hybrid_router.backends.errand import Errand, Reader, Unreadable
from hybrid_router.backends.forms import UNKNOWN_TYPE, pieces
from hybrid_router.backends.huggingface.results import found, labels, text
from hybrid_router.backends.openai.chat import Manner
from hybrid_router.backends.openai.speech import Sounds
from hybrid_router.backends.openai.upstream import Form
from hybrid_router.backends.readers import Whole
from hybrid_router.backends.vectors import embedding
from hybrid_router.core.asks import Classification, Painting, Speech, Transcription, Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import (
    Batch,
    Finish,
    Heard,
    Label,
    Picture,
    Relevance,
    Segment,
    Text,
    Usage,
    Verdict,
)
from hybrid_router.engines.moderate import categories

_FLAGGED_FROM = 0.5
_PICTURE = ("image/",)
# What a completion cannot be told.  It is refused, since dropping it would change the answer unseen.
_UNKNOWN = (
    "stop", "logprobs", "suffix", "response_format", "echo", "lora", "max_tokens: 0", "seed", "logit_bias",
    "presence_penalty", "frequency_penalty", "min_p", "typical_p", "dry_multiplier", "xtc_probability",
    "mirostat", "ignore_eos",
)  # fmt: skip
Exchange: TypeAlias = tuple[Errand, Reader]


class _Chunk(Struct, gc=False):
    text: str
    timestamp: tuple[float | None, float | None] = (None, None)


class _Transcript(Struct):
    text: str
    chunks: list[_Chunk] | None = None


def vectors(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """All texts at once, of a model that makes one vector of each."""
    inputs = unsaid.texts(call, manner.label)
    errand = _errand(model, {"inputs": inputs}, task="feature-extraction")
    return [(errand, Whole(lambda body: _embedded(body, len(inputs))))]


def similarities(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """How near each document is to the query."""
    documents = unsaid.texts(call, manner.label)
    asked = {"inputs": {"source_sentence": call.query, "sentences": documents}}
    errand = _errand(model, asked, task="sentence-similarity")
    return [(errand, Whole(lambda body: _ranked(body, len(documents))))]


def written(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """A text that goes on, or a summary: which one, only the model knows."""
    sampling = call.sampling
    if call.n > 1:
        raise Inexpressible(f"{manner.label} completes a text once")
    unsaid.check(call, _UNKNOWN, manner.label)
    parameters = {
        "max_new_tokens": sampling.max_tokens or manner.default_max_tokens,
        "temperature": sampling.temperature or None,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "repetition_penalty": sampling.repeat_penalty,
        "do_sample": False if sampling.temperature == 0 else None,
    }
    return [
        (_errand(model, _asked(prompt, parameters)), Whole(partial(_completed, prompt, index)))
        for index, prompt in enumerate(unsaid.texts(call, manner.label))
    ]


def translated(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """Each text by itself."""
    ask = call.ask
    if not isinstance(ask, Translation):
        raise TypeError("a translation without its languages")
    parameters = {"src_lang": ask.source, "tgt_lang": ask.target}
    return [
        (_errand(model, _asked(one, parameters)), Whole(partial(_translation, index)))
        for index, one in enumerate(unsaid.texts(call, manner.label))
    ]


def heard(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """A recording as it is; what it is in, and times of words, nobody can be told."""
    ask = call.ask if isinstance(call.ask, Transcription) else Transcription()
    if ask.translates or ask.words:
        raise Inexpressible(
            f"{manner.label} writes down what it hears, without translation or times of words"
        )
    return [(_file(model, call), Whole(lambda body: _transcript(body, ask)))]


def spoken(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """A text in the model's own voice."""
    ask = call.ask if isinstance(call.ask, Speech) else Speech()
    if ask.speed != 1.0:
        raise Inexpressible(f"{manner.label} takes no `speed`")
    return [(_errand(model, {"inputs": call.prompts[0]}), Sounds(manner.label, ask.format))]


def drawn(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """Pictures one by one, each with a seed of its own."""
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    if call.uploads:
        raise Inexpressible(f"{manner.label} draws of a text alone")
    seed = call.sampling.seed
    exchanges: list[Exchange] = []
    for index in range(call.n):
        parameters = {
            "width": ask.width or None,
            "height": ask.height or None,
            "num_inference_steps": ask.steps,
            "guidance_scale": ask.guidance,
            "negative_prompt": ask.negative or None,
            "seed": None if seed is None else seed + index,
        }
        errand = _errand(model, _asked(str(call.prompts[0]), parameters))
        exchanges.append((errand, Whole(partial(_picture, index), _PICTURE)))
    return exchanges


def classified(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """What an image shows."""
    top_k = call.ask.top_k if isinstance(call.ask, Classification) else Classification().top_k
    return [(_file(model, call), Whole(lambda body: _shown(body, top_k)))]


def judged(call: Call, model: str, manner: Manner) -> list[Exchange]:
    """Each text by itself, by a classifier's labels."""
    if call.uploads:
        raise Inexpressible(f"{manner.label} judges texts alone")
    return [
        (_errand(model, {"inputs": one}), Whole(partial(_verdict, index)))
        for index, one in enumerate(unsaid.texts(call, manner.label))
    ]


TASKS: Mapping[Operation, Form] = MappingProxyType({
    Operation.EMBED: vectors,
    Operation.RERANK: similarities,
    Operation.COMPLETE: written,
    Operation.TRANSLATE: translated,
    Operation.TRANSCRIBE: heard,
    Operation.SPEAK: spoken,
    Operation.IMAGE: drawn,
    Operation.CLASSIFY: classified,
    Operation.MODERATE: judged,
})  # fmt: skip


def _asked(said: str, parameters: dict[str, Any]) -> dict[str, Any]:
    told = {name: value for name, value in parameters.items() if value is not None}
    return {"inputs": said, "parameters": told} if told else {"inputs": said}


def _path(model: str, task: str = "") -> str:
    return f"models/{quote(model, safe='/')}" + (f"/pipeline/{task}" if task else "")


def _errand(model: str, document: dict[str, Any], task: str = "") -> Errand:
    return Errand(path=_path(model, task), body=msgspec.json.encode(document))


def _file(model: str, call: Call) -> Errand:
    """A file as it is, piece by piece."""
    upload = call.uploads[0]
    kind = upload.media_type or UNKNOWN_TYPE
    return Errand(path=_path(model), body=lambda: pieces(upload), media_type=kind)


def _embedded(body: bytes, count: int) -> Batch:
    rows = found(body, list[list[float]], "a vector of each text")
    if len(rows) != count:
        raise Unreadable(f"gave vectors of {len(rows)} texts, and {count} were asked for")
    events: Batch = [embedding(row, index) for index, row in enumerate(rows)]
    return [*events, *_ends(count)]


def _ranked(body: bytes, count: int) -> Batch:
    scores = found(body, list[float], "a score of each document")
    if len(scores) != count:
        raise Unreadable(f"ranked {len(scores)} documents of {count}")
    events: Batch = [Relevance(score, index) for index, score in enumerate(scores)]
    return [*events, *_ends(count)]


def _ends(count: int) -> Batch:
    return [Finish("stop", index) for index in range(count)]


def _completed(prompt: str, index: int, body: bytes) -> Batch:
    told = text(body, ("generated_text", "summary_text"))
    return [Text(told.removeprefix(prompt), index), Finish("stop", index)]


def _translation(index: int, body: bytes) -> Batch:
    told = text(body, ("translation_text",))
    return [Text(told, index), Finish("stop", index)]


def _picture(index: int, body: bytes) -> Batch:
    if not body:
        raise Unreadable("sent no picture")
    return [Picture(body, index), Finish("stop", index)]


def _verdict(index: int, body: bytes) -> Batch:
    told = labels(body)
    if not all(categories.is_named(label) for label, _ in told):
        raise Unreadable("numbers its labels: nobody can say what they mean")
    scores = categories.scored(told)
    flagged = tuple(name for name, score in scores.items() if score >= _FLAGGED_FROM)
    return [Verdict(flagged, tuple(scores.items()), index), Finish("stop", index)]


def _shown(body: bytes, top_k: int) -> Batch:
    ranked = sorted(labels(body), key=lambda pair: -pair[1])[:top_k]
    if not ranked:
        raise Unreadable("named no label")
    return [*(Label(label, score) for label, score in ranked), Finish("stop")]


def _transcript(body: bytes, ask: Transcription) -> Batch:
    told = found(body, _Transcript, "a transcript")
    chunks = told.chunks or ([_Chunk(told.text)] if told.text else [])
    events: Batch = []
    end_s = 0.0
    for chunk in chunks:
        start_s = chunk.timestamp[0] if chunk.timestamp[0] is not None else end_s
        end_s = chunk.timestamp[1] if chunk.timestamp[1] is not None else start_s
        events.append(Segment(chunk.text, start_s, end_s))
    heard_: Batch = [Heard(ask.language or "", end_s)]
    return [*heard_, *events, Finish("stop"), Usage(0, 0, sound_s=end_s)]
