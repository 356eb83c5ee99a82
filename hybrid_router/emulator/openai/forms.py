"""Requests with files: a form's fields and files as the dialect's decoders take them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from aiohttp import web
from aiohttp.web_request import FileField

from hybrid_router.api.multipart import Form
from hybrid_router.core.upload import Upload, upload_of


@asynccontextmanager
async def form_of(request: web.Request) -> AsyncIterator[Form]:
    """A form, its files in memory while the block runs."""
    form = Form()
    try:
        for name, value in (await request.post()).items():
            field = name.removesuffix("[]")
            if isinstance(value, FileField):
                file = upload_of(value.file.read(), value.filename, value.content_type)
                form.files.setdefault(field, []).append(file)
            else:
                form.fields.setdefault(field, []).append(str(value))
        yield form
    finally:
        form.close()


@contextmanager
def uploaded(contents: Iterator[bytes]) -> Iterator[tuple[Upload, ...]]:
    """Files of these contents, while the block runs."""
    uploads: list[Upload] = []
    try:
        uploads += [upload_of(content) for content in contents]
        yield tuple(uploads)
    finally:
        for upload in uploads:
            upload.close()
