"""A call as the inputs of a model, each called as its author liked."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from hybrid_router.backends.replicate.refusal import LABEL
from hybrid_router.backends.unsaid import check, texts
from hybrid_router.config.cloud_schema import ReplicateModel
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, ImagePart, Message, Operation, RefusalPart, TextPart
from hybrid_router.core.errors import Inexpressible

_USUAL: Mapping[str, str] = MappingProxyType({
    "system": "system_prompt",
    "stop": "stop_sequences",
    "negative": "negative_prompt",
    "steps": "num_inference_steps",
    "guidance": "guidance_scale",
    "strength": "prompt_strength",
    "format": "output_format",
})  # fmt: skip
# For these, models have no usual input.
_UNUSUAL = (
    "tools", "response_format", "logprobs", "suffix", "logit_bias", "min_p", "repeat_penalty", "typical_p",
    "dry_multiplier", "xtc_probability", "mirostat", "ignore_eos", "max_tokens: 0", "reasoning_effort",
    "reasoning_budget", "lora",
)  # fmt: skip
_SYSTEM = ("system", "developer")
_SPEAKERS: Mapping[str, str] = MappingProxyType({"user": "User", "assistant": "Assistant"})
_PICTURES: Mapping[str, str] = MappingProxyType({"jpeg": "jpg"})


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One prediction.

    Attributes:
        fields: by our own names.
        upload: the field that takes the call's file, if it takes one.
        index: of the answer that it gives.
    """

    fields: dict[str, Any]
    upload: str = ""
    index: int = 0


def wanted(call: Call, model: ReplicateModel, default_max_tokens: int | None) -> list[Wanted]:
    """The predictions that answer `call`, in the order of their indices.

    Raises:
        Inexpressible: there is no input for something in it; the message names the field.
    """
    match call.operation:
        case Operation.CHAT | Operation.COMPLETE:
            return _texts(call, model, default_max_tokens)
        case Operation.EMBED:
            return [Wanted(fields={"text": text}, index=at) for at, text in enumerate(texts(call, LABEL))]
        case Operation.IMAGE:
            return _pictures(call)
        case Operation.SPEAK:
            return [_speech(call)]
    return [_transcription(call)]


def named(fields: Mapping[str, Any], model: ReplicateModel) -> dict[str, Any]:
    """Inputs by the model's names, without those that it does not have, and with those that never change."""
    ours = {
        model.input.get(name, _USUAL.get(name, name)): value
        for name, value in fields.items()
        if value is not None
    }
    ours.pop("", None)
    return {**ours, **{name: _fixed(value) for name, value in model.fixed.items()}}


def _fixed(value: str) -> Any:
    try:
        return msgspec.json.decode(value)
    except msgspec.DecodeError:
        return value


def _texts(call: Call, model: ReplicateModel, default_max_tokens: int | None) -> list[Wanted]:
    check(call, _UNUSUAL, LABEL)
    sampling = call.sampling
    shared = {
        "max_tokens": default_max_tokens if sampling.max_tokens is None else sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "stop": ",".join(sampling.stop) if sampling.stop and "," not in "".join(sampling.stop) else None,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
    }
    prompts = [_chat(call, model)] if call.messages else [{"prompt": prompt} for prompt in texts(call, LABEL)]
    return [
        Wanted(fields={**prompt, **shared, "seed": _seed(call, at)}, index=index * call.n + at)
        for index, prompt in enumerate(prompts)
        for at in range(call.n)
    ]


def _seed(call: Call, at: int) -> int | None:
    """Each choice has a seed of its own."""
    return None if call.sampling.seed is None else call.sampling.seed + at


def _chat(call: Call, model: ReplicateModel) -> dict[str, Any]:
    """A conversation: as it is, where the model has an input for that, else as one prompt."""
    if model.input.get("messages"):
        return {"messages": [_message(message) for message in call.messages]}
    system = "\n\n".join(message.text for message in call.messages if message.role in _SYSTEM)
    turns = [message for message in call.messages if message.role not in _SYSTEM]
    if not turns or any(message.role not in _SPEAKERS or message.tool_calls for message in turns):
        raise Inexpressible("Replicate takes what users and assistants say: other roles have no input")
    fields = {"system": system or None, "image": _image(turns)}
    if len(turns) == 1 and turns[0].role == "user":
        return {"prompt": turns[0].text, **fields}
    said = [f"{_SPEAKERS[message.role]}: {message.text}" for message in turns]
    return {"prompt": "\n\n".join([*said, "Assistant:"]), **fields}


def _message(message: Message) -> dict[str, Any]:
    return {"role": "system" if message.role in _SYSTEM else message.role, "content": message.text}


def _image(turns: list[Message]) -> str | None:
    """The one picture that a conversation may hold."""
    parts = [part for message in turns for part in (message.content or ()) if not isinstance(part, str)]
    pictures = [part for part in parts if isinstance(part, ImagePart)]
    if len(pictures) > 1 or any(not isinstance(part, ImagePart | TextPart | RefusalPart) for part in parts):
        raise Inexpressible("Replicate takes text and one picture")
    return str(pictures[0].image_url.get("url")) if pictures else None


def _pictures(call: Call) -> list[Wanted]:
    """One prediction a picture, since not every model makes several."""
    ask = call.ask if isinstance(call.ask, Painting) else Painting()
    if ask.masked or len(call.uploads) > 1:
        raise Inexpressible("Replicate takes one picture and no mask")
    fields = {
        "prompt": next(iter(texts(call, LABEL)), None),
        "negative": ask.negative or None,
        "width": ask.width or None,
        "height": ask.height or None,
        "steps": ask.steps,
        "guidance": ask.guidance,
        "strength": ask.strength,
        "format": _PICTURES.get(ask.format, ask.format),
    }
    upload = "image" if call.uploads else ""
    return [
        Wanted(fields={**fields, "seed": _seed(call, at)}, upload=upload, index=at) for at in range(call.n)
    ]


def _speech(call: Call) -> Wanted:
    ask = call.ask if isinstance(call.ask, Speech) else Speech()
    speed = None if ask.speed == 1.0 else ask.speed
    return Wanted(fields={"text": texts(call, LABEL)[0], "voice": ask.voice or None, "speed": speed})


def _transcription(call: Call) -> Wanted:
    ask = call.ask if isinstance(call.ask, Transcription) else Transcription()
    return Wanted(
        fields={
            "language": ask.language,
            "translate": ask.translates or None,
            "temperature": ask.temperature,
            "prompt": next(iter(texts(call, LABEL)), None),
        },
        upload="audio",
    )
