"""Documents turned into Markdown by `/ai/tomarkdown`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.tasks import results
from hybrid_router.core.upload import Upload

Format: TypeAlias = Literal["markdown", "text"]
_WITHIN_S = 300.0


class Converted(Struct, frozen=True, kw_only=True):
    """What became of one file.

    Attributes:
        format: `error` where nothing became of it: `error` says why.
        tokens: of `data`, as Workers AI counts them.
    """

    name: str
    format: Literal["markdown", "text", "error"]
    mime_type: str = msgspec.field(name="mimeType", default="")
    tokens: float = 0
    data: str = ""
    error: str = ""


class Supported(Struct, frozen=True, kw_only=True):
    """A kind of file that can be converted."""

    extension: str
    mime_type: str = msgspec.field(name="mimeType", default="")


async def convert(desk: Desk, files: Sequence[Upload], format_: Format = "markdown") -> list[Converted]:
    """Each file's text, in their order.  One that cannot be read fails alone.

    Descriptions of pictures cost neurons, which nobody reports; the rest is free.
    """
    options: dict[str, Any] = {"output": {"format": format_}}
    fields = () if format_ == "markdown" else (("conversionOptions", msgspec.json.encode(options).decode()),)
    form = FormBody(fields, [File("files", file, file.name) for file in files])
    errand = Errand(path="tomarkdown", body=form, media_type=form.media_type)
    read = lambda body: results.read(body, list[Converted], "documents")  # noqa: E731
    return await desk.ask(errand, read, within_s=_WITHIN_S)


async def supported(desk: Desk) -> list[Supported]:
    """What can be converted."""
    errand = Errand(method="GET", path="tomarkdown/supported")
    return await desk.ask(errand, lambda body: results.read(body, list[Supported], "kinds of files"))
