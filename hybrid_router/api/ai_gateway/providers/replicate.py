"""Replicate: predictions, which are always waited for, since nothing of them is kept.

The input does not say what is made of it; the first of these that a step of the alias can do is meant:
text, a picture, a vector.  Source: Replicate's HTTP reference and its official package.
"""

from __future__ import annotations

import base64
import time
from datetime import UTC, datetime
from typing import Any, Unpack

import msgspec
from msgspec import Struct

from hybrid_router.api import gallery
from hybrid_router.api.ai_gateway.asked import Asked, Given
from hybrid_router.api.ai_gateway.providers import kinds
from hybrid_router.api.openai import reply
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core import ids
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.errors import CallRefused, NotFound, RouterError
from hybrid_router.core.event import Batch

_CREATED = 201
_PARTS = 5  # v1/models/OWNER/NAME/predictions


class Input(kinds.Parameters, frozen=True, kw_only=True):
    """The usual fields of models there."""

    prompt: str = ""
    text: str = ""
    system_prompt: str = ""
    max_tokens: int | None = None
    max_new_tokens: int | None = None


class PredictionBody(Struct, frozen=True, kw_only=True):
    """The fields that a prediction is made of."""

    input: Input
    version: str = ""
    stream: bool = False


class Replicate:
    """`v1/predictions`, `v1/models/{owner}/{name}/predictions` and `v1/deployments/…`, without streams."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        try:
            asked = msgspec.convert(given.document, PredictionBody)
        except msgspec.ValidationError as error:
            raise CallRefused(str(error)) from None
        fields = {"alias": _model(given.endpoint, asked), **senders.fields(sender, {})}
        if not (asked.input.prompt or asked.input.text):
            raise CallRefused("input: expected a prompt or a text", param="input")
        made = (_written, _painted, _embedded)
        return kinds.first_able(given, *(make(fields, asked.input) for make in made))

    def failure(self, error: RouterError) -> bytes:
        """See `asked.Provider`."""
        told = {"title": error.code, "detail": error.message, "status": error.status}
        return msgspec.json.encode(told)


def _model(endpoint: str, asked: PredictionBody) -> str:
    """Whose prediction it is: by the path, or by the version."""
    parts = endpoint.removeprefix("v1/").split("/")
    if parts == ["predictions"] and asked.version:
        return asked.version
    if len(parts) == _PARTS - 1 and parts[0] in ("models", "deployments") and parts[-1] == "predictions":
        return f"{parts[1]}/{parts[2]}"
    raise NotFound("of Replicate's API new predictions are answered here, with a version or a model's path")


def _written(fields: dict[str, Any], asked: Input) -> Asked:
    system = [Message(role="system", content=asked.system_prompt)] if asked.system_prompt else []
    messages = (*system, Message(role="user", content=asked.prompt or asked.text))
    sampling = asked.sampling(asked.max_tokens or asked.max_new_tokens)
    call = Call(operation=Operation.CHAT, messages=messages, sampling=sampling, **fields)

    def output(events: Batch) -> list[str]:
        (choice, *_), _ = reply.fold(call, events)
        return ["".join(choice.text)]

    return _predicted(call, output)


def _painted(fields: dict[str, Any], asked: Input) -> Asked:
    call = asked.painting(prompts=(asked.prompt or asked.text,), **fields)

    def output(events: Batch) -> list[str]:
        content = kinds.picture(events)
        return [f"data:{gallery.media_type(content)};base64,{base64.b64encode(content).decode()}"]

    return _predicted(call, output)


def _embedded(fields: dict[str, Any], asked: Input) -> Asked:
    call = Call(operation=Operation.EMBED, prompts=(asked.text or asked.prompt,), **fields)
    return _predicted(call, lambda events: kinds.floats(call, events)[0])


def _predicted(call: Call, output: Any) -> Asked:
    began_s = time.time()

    def document(events: Batch) -> bytes:
        done_s = time.time()
        return msgspec.json.encode(
            {
                "id": ids.sibling(call.id, ""),
                "model": call.alias,
                "status": "succeeded",
                "output": output(events),
                "error": None,
                "logs": "",
                "created_at": _written_time(began_s),
                "started_at": _written_time(began_s),
                "completed_at": _written_time(done_s),
                "metrics": {"predict_time": round(done_s - began_s, 3)},
                "urls": {},
            }
        )

    return Asked(call=call, document=document, status=_CREATED)


def _written_time(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat()
