"""What a provider's codec reads and what it makes of it: the same for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Protocol, Unpack

import msgspec
from aiohttp import web
from msgspec import Struct, field

from hybrid_router.api.calls import Chunks
from hybrid_router.api.event_stream import EVENTS_TYPE
from hybrid_router.api.multipart import Form
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Call
from hybrid_router.core.errors import CallRefused, RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.upload import Upload


class Given(Struct, frozen=True, kw_only=True, eq=False):
    """A step as its provider's client wrote it.

    Attributes:
        endpoint: the provider's own path, such as `chat/completions`.
        query: the JSON body; None: it is a form, or bytes.
        parameters: of the address.
        request: for what hangs on the application.
        stack: closes what the codec opens, once the answer is out.
        able: whether a step of the router could serve such a call now.
    """

    endpoint: str
    request: web.Request
    stack: ExitStack
    able: Callable[[Call], bool]
    query: Any = None
    form: Form | None = None
    content: Upload | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """The JSON body as bytes.  Raises CallRefused: it is no object, or nested too deeply."""
        return written(self.document)

    @property
    def document(self) -> dict[str, Any]:
        """The JSON body.  Raises CallRefused: it is no object."""
        if not isinstance(self.query, dict):
            raise CallRefused("the body is no JSON object")
        return self.query


def written(document: dict[str, Any]) -> bytes:
    """A body as bytes.  Raises CallRefused: it is nested too deeply to be written."""
    try:
        return msgspec.json.encode(document)
    except RecursionError:
        raise CallRefused("the body is nested too deeply") from None


class Asked(Struct, frozen=True, kw_only=True, eq=False):
    """A call, and how its client reads the answer.

    Attributes:
        call: its alias is the name that the client used.
        document: all events → the whole answer.
        media_type: of that; None: what its first bytes say, as of a picture.
        chunks: the answer as it comes, if that is asked for.
        in_band: an error in a stream; None: it has no room for one.
        status: of a whole answer.
    """

    call: Call
    document: Callable[[Batch], bytes]
    media_type: str | None = "application/json"
    chunks: Chunks | None = None
    in_band: Callable[[RouterError], bytes] | None = None
    stream_type: str = EVENTS_TYPE
    status: int = 200


class Provider(Protocol):
    """The wire form of one provider."""

    def asked(self, given: Given, **sender: Unpack[Sender]) -> Asked:
        """What is asked.

        Raises:
            NotFound: the provider has no such endpoint, or not here.
            CallRefused: the body is not of this form.
        """
        ...

    def failure(self, error: RouterError) -> bytes:
        """An error as this provider writes it."""
        ...
