"""Chats about a picture with models that describe one: a picture and a prompt in, a description out.

They hold no conversation: what was said before is written into the prompt.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from functools import partial
from typing import Any

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.core.call import Call, ImagePart, Message, RefusalPart, TextPart
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Text
from hybrid_router.core.stops import StopFilter

MOST_IMAGE_BYTES = 4 * 2**20  # each byte is sent as a number, some four bytes of JSON
_SPEAKERS = {"user": "User", "assistant": "Assistant"}
_INSTRUCTS = frozenset({"system", "developer"})


class _Description(Struct, gc=False):
    description: str
    usage: Counts | None = None


def write(asked: Asked) -> list[Piece]:
    """The requests for a chat, one for each choice.

    Raises:
        Inexpressible: it is not about one picture, or wants what only chat models can.
    """
    call = asked.call
    check_plain(call)
    image = bodies.Numbers(_image(call))
    shared = _sampling(call)
    if said := prompt(call):  # a model that is told nothing describes by itself
        shared["prompt"] = said
    seed = call.sampling.seed
    return [
        Piece(
            bodies.document_with(
                asked.model, shared if seed is None else {**shared, "seed": seed + index}, {"image": image}
            ),
            partial(decode, index=index, stops=call.sampling.stop),
        )
        for index in range(call.n)
    ]


def check_plain(call: Call) -> None:
    """Refuse what takes a model that chats.

    Raises:
        Inexpressible: names the field.
    """
    formed = call.response_format is not None and call.response_format.get("type") != "text"
    wanted = {
        "tools": bool(call.tools),
        "response_format": formed,
        "logprobs": call.top_logprobs is not None,
        "logit_bias": bool(call.sampling.logit_bias),
        "continue_final_message": call.goes_on,
    }
    if (field := next((name for name, is_wanted in wanted.items() if is_wanted), None)) is not None:
        raise Inexpressible(f"this Workers AI model takes no `{field}`", param=field)


def prompt(call: Call) -> str:
    """All that is said: the words alone if nobody has answered yet, else each with its speaker.

    Raises:
        Inexpressible: a tool says something.
    """
    orders = [message.text for message in call.messages if message.role in _INSTRUCTS]
    turns = [message for message in call.messages if message.role not in _INSTRUCTS]
    if any(message.role not in _SPEAKERS for message in turns):
        raise Inexpressible("this Workers AI model knows no tools", param="messages")
    if all(message.role == "user" for message in turns):
        said = [message.text for message in turns]
    else:
        said = [f"{_SPEAKERS[message.role]}: {message.text}" for message in turns] + ["Assistant:"]
    return "\n".join(text for text in [*orders, *said] if text)


def _image(call: Call) -> bytes:
    """The call's one picture.

    Raises:
        Inexpressible: there is another number of them, or it is not inside the call.
    """
    urls = list(_image_urls(call.messages))
    if len(urls) != 1:
        raise Inexpressible("this Workers AI model takes one image, no more and no fewer", param="messages")
    head, comma, encoded = urls[0].partition(",")
    if not comma or not head.startswith("data:") or not head.endswith(";base64"):
        raise Inexpressible("this Workers AI model takes an image as a data: URL alone", param="messages")
    if len(encoded) * 3 // 4 > MOST_IMAGE_BYTES:
        raise Inexpressible(f"an image for Workers AI has at most {MOST_IMAGE_BYTES} bytes", param="messages")
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise Inexpressible("an image is not base64", param="messages") from None


def _image_urls(messages: tuple[Message, ...]) -> Iterator[str]:
    for message in messages:
        for part in message.content if isinstance(message.content, list) else ():
            match part:
                case ImagePart(image_url={"url": str(url)}):
                    yield url
                case TextPart() | RefusalPart():
                    pass
                case _:
                    raise Inexpressible(
                        "this Workers AI model takes text and one image: a message holds another part",
                        param="messages",
                    )


def _sampling(call: Call) -> dict[str, Any]:
    sampling = call.sampling
    fields = {
        "max_tokens": sampling.max_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or None,
        "repetition_penalty": sampling.repeat_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
    }
    return {name: value for name, value in fields.items() if value is not None}


def decode(body: bytes, *, index: int, stops: tuple[str, ...]) -> Batch:
    """The description, up to the first stop string: no such model can be told one.

    Raises:
        Unreadable: there is none.
    """
    told = results.read(body, _Description, "a description")
    if not told.description.strip():
        raise Unreadable("answered with an empty description")
    finder = StopFilter(stops)
    shown, is_stopped = finder.feed(told.description)
    text = shown if is_stopped else shown + finder.flush()
    said: Batch = [Text(text, index)] if text else []
    return [*said, Finish("stop", index), *counts.usage(told.usage)]
