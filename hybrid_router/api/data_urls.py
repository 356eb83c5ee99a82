"""Files that come inside JSON, as `data:` URLs: kept like those of forms, in memory and without a name."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from aiohttp import web

from hybrid_router.api.generation import CURRENT
from hybrid_router.api.multipart import SHELF, system_is_full
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.upload import Upload, upload_of

_HEAD = re.compile(r"data:([\w.+-]+/[\w.+-]+)?(?:;[\w.+-]+=[\w.+-]+)*;base64,", re.IGNORECASE)
_MOST_HEAD_CHARS = 256


@contextmanager
def uploads(request: web.Request, urls: Sequence[tuple[str, str]]) -> Iterator[tuple[Upload, ...]]:
    """The files of `urls`, each with the name of its field; they are gone when the context is left.

    Raises:
        CallRefused: one is no `data:` URL, or is empty; addresses are not fetched.
        UploadsFull: no memory is left for it at the moment.
    """
    shelf, server = request.app[SHELF], request.app[CURRENT].generation.server
    with ExitStack() as afterwards:
        found = []
        for url, param in urls:
            media_type, content = _read(url, param)
            shelf.take(len(content), server)
            afterwards.callback(shelf.give_back, len(content))
            with system_is_full():
                upload = upload_of(content, media_type=media_type)
            afterwards.callback(upload.close)
            found.append(upload)
        yield tuple(found)


def _read(url: str, param: str) -> tuple[str, bytes]:
    """What kind of file it is, and its bytes."""
    head = _HEAD.match(url, 0, min(len(url), _MOST_HEAD_CHARS))
    if head is None:
        raise CallRefused(
            f"{param}: expected a data: URL, as in data:image/png;base64,…; addresses are not fetched",
            param=param,
        )
    try:
        content = base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        raise CallRefused(f"{param}: what follows `base64,` is not base64", param=param) from None
    if not content:
        raise CallRefused(f"{param}: the file is empty", param=param)
    return head[1] or "", content
