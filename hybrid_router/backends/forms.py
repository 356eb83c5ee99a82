"""Forms with files, made piece by piece: a recording is held once, however large it is."""

from __future__ import annotations

import base64
import secrets
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

from msgspec import Struct

from hybrid_router.core.upload import Upload

PIECE_BYTES = 64 * 1024
UNKNOWN_TYPE = "application/octet-stream"
_UNSAFE = str.maketrans({"\r": " ", "\n": " ", '"': "'", "\\": "_"})


class File(Struct, frozen=True):
    """A file under a field's name.  `name` is what a server that goes by endings is told."""

    field: str
    upload: Upload
    name: str


class FormBody:
    """A `multipart/form-data` body.  See `backends.errand.Body`.

    Attributes:
        media_type: with its border.
        size_bytes: of the whole body.
    """

    def __init__(self, fields: Iterable[tuple[str, str]], files: Sequence[File]) -> None:
        self._border = secrets.token_hex(16)
        self._parts = tuple(self._made(fields, files))
        self.media_type = f"multipart/form-data; boundary={self._border}"
        sizes = (len(part) if isinstance(part, bytes) else part.size_bytes for part in self._parts)
        self.size_bytes = sum(sizes)

    async def __call__(self) -> AsyncIterator[bytes]:
        """The body from its beginning."""
        for part in self._parts:
            if isinstance(part, bytes):
                yield part
                continue
            async for piece in pieces(part):
                yield piece

    def _made(self, fields: Iterable[tuple[str, str]], files: Sequence[File]) -> Iterator[bytes | Upload]:
        for name, value in fields:
            yield self._head(f'name="{name}"') + value.encode() + b"\r\n"
        for file in files:
            kind = file.upload.media_type or UNKNOWN_TYPE
            shown = file.name.translate(_UNSAFE)
            yield self._head(f'name="{file.field}"; filename="{shown}"', kind.translate(_UNSAFE))
            yield file.upload
            yield b"\r\n"
        yield f"--{self._border}--\r\n".encode()

    def _head(self, disposition: str, media_type: str = "") -> bytes:
        kind = f"Content-Type: {media_type}\r\n" if media_type else ""
        head = f"--{self._border}\r\nContent-Disposition: form-data; {disposition}\r\n{kind}\r\n"
        return head.encode("utf-8", "replace")


async def pieces(upload: Upload) -> AsyncIterator[bytes]:
    """A file's bytes, a little at a time."""
    if not upload.size_bytes:
        return
    with upload.mapped() as pages:
        for start in range(0, upload.size_bytes, PIECE_BYTES):
            yield pages[start : start + PIECE_BYTES]


def data_url(upload: Upload, otherwise: str = UNKNOWN_TYPE) -> str:
    """A small file as an address that holds it; `otherwise` is its type where none is told."""
    with upload.mapped() as pages:
        encoded = base64.b64encode(pages).decode()
    return f"data:{upload.media_type or otherwise};base64,{encoded}"
