"""What a picture or a text may be: labels, and for some models where in the picture."""

from __future__ import annotations

import heapq
from functools import partial

from msgspec import Struct

from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.workers_ai.tasks import bodies, results
from hybrid_router.backends.workers_ai.tasks.pieces import Piece, texts
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.catalogue.families import Family
from hybrid_router.core.asks import Classification
from hybrid_router.core.call import Call
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Finish, Label
from hybrid_router.core.upload import Upload

MOST_IMAGE_BYTES = 10 * 2**20  # no limit is published; a batch may have so much


class _Box(Struct, gc=False):
    xmin: float
    ymin: float
    xmax: float
    ymax: float


class _Row(Struct, gc=False):
    label: str
    score: float
    box: _Box | None = None


def of_image(asked: Asked) -> list[Piece]:
    """The request for a call's picture.

    Raises:
        Inexpressible: there is no picture, or too large a one.
    """
    errand = bodies.raw(asked.model, _image(asked.call), "application/octet-stream")
    boxed = asked.family is Family.IMAGE_BOXES
    return [Piece(errand, partial(decode, top_k=_top_k(asked.call), boxed=boxed))]


def of_text(asked: Asked) -> list[Piece]:
    """The request for a call's text.

    Raises:
        Inexpressible: there is no text, or a picture.
    """
    given = texts(asked.call)
    if len(given) != 1 or asked.call.uploads:
        raise Inexpressible("this Workers AI model classifies one text", param="input")
    errand = bodies.document(asked.model, {"text": given[0]})
    return [Piece(errand, partial(decode, top_k=_top_k(asked.call), boxed=False))]


def _top_k(call: Call) -> int:
    return (call.ask if isinstance(call.ask, Classification) else Classification()).top_k


def _image(call: Call) -> Upload:
    if len(call.uploads) != 1 or call.prompts:
        raise Inexpressible("this Workers AI model classifies one image", param="image")
    upload = call.uploads[0]
    if upload.size_bytes > MOST_IMAGE_BYTES:
        raise Inexpressible(f"an image for Workers AI has at most {MOST_IMAGE_BYTES} bytes", param="image")
    return upload


def decode(body: bytes, *, top_k: int, boxed: bool) -> Batch:
    """The `top_k` likeliest labels, the likeliest first.  They come in any order.

    Raises:
        Unreadable: there are none.  With boxes that is an answer: nothing was found.
    """
    rows = results.read(body, list[_Row], "labels")
    if not rows and not boxed:
        raise Unreadable("sent no label")
    best = heapq.nlargest(top_k, rows, key=lambda row: row.score)
    return [*(Label(row.label, row.score, box=_place(row, boxed=boxed)) for row in best), Finish("stop")]


def _place(row: _Row, *, boxed: bool) -> tuple[float, float, float, float] | None:
    if not boxed:
        return None
    if row.box is None:
        raise Unreadable("sent a label without its place")
    return row.box.xmin, row.box.ymin, row.box.xmax, row.box.ymax
