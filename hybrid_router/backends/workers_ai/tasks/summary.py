"""Chats with a model that summarises: it reads what the user said last, and cannot be told how."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

from hybrid_router.backends.chunks import Counts
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, counts, results
from hybrid_router.backends.workers_ai.tasks.description import check_plain
from hybrid_router.backends.workers_ai.tasks.pieces import Piece
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.core.call import Call, TextPart
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Text


class _Summary(Struct, gc=False):
    summary: str
    usage: Counts | None = None


def write(asked: Asked) -> list[Piece]:
    """The request.

    Raises:
        Inexpressible: it takes a model that chats.
    """
    call = asked.call
    check_plain(call)
    if call.n > 1:
        raise Inexpressible("this Workers AI model makes one summary: `n` is more", param="n")
    if call.sampling.stop:
        raise Inexpressible("this Workers AI model takes no `stop`", param="stop")
    document: dict[str, Any] = {"input_text": _text(call)}
    if call.sampling.max_tokens is not None:
        document["max_length"] = call.sampling.max_tokens
    return [Piece(bodies.document(asked.model, document), decode)]


def _text(call: Call) -> str:
    """What the user said.  An order to summarise, from the system, is what the model does by itself."""
    turns = [message for message in call.messages if message.role not in {"system", "developer"}]
    if len(turns) != 1 or turns[0].role != "user":
        raise Inexpressible("this Workers AI model summarises one message of the user", param="messages")
    content = turns[0].content
    if isinstance(content, list) and not all(isinstance(part, TextPart) for part in content):
        raise Inexpressible("this Workers AI model takes text alone", param="messages")
    if not turns[0].text.strip():
        raise Inexpressible("there is nothing to summarise", param="messages")
    return turns[0].text


def decode(body: bytes) -> Batch:
    """The summary.

    Raises:
        Unreadable: there is none.
    """
    told = results.read(body, _Summary, "a summary")
    if not told.summary.strip():
        raise Unreadable("answered with an empty summary")
    return [Text(told.summary), Finish("stop"), *counts.usage(told.usage)]
