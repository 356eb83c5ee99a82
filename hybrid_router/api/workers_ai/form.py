"""What the wire forms of Workers AI's models have in common, whoever speaks them: the router or the emulator.

A form is a pair of pure functions for one family of models: what came in → `Call`, the answer's events →
bytes.  Only the front differs: who may ask, what is counted, what goes wrong on purpose.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, Unpack

from msgspec import Struct, field

from hybrid_router.api.calls import Chunks
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core.call import Call
from hybrid_router.core.event import Batch
from hybrid_router.core.upload import Upload


class Given(Struct, frozen=True, kw_only=True):
    """A request's input, whatever it came as.

    Attributes:
        model: the name that was asked for.
        body: the JSON object, or a form's fields as text; None: the body is bytes.
        content: those bytes.
        files: a form's files by field.
        query: of the address.
        openai: it came to `/ai/v1/…`, and is answered there as OpenAI would.
    """

    model: str
    body: dict[str, Any] | None = None
    content: Upload | None = None
    files: Mapping[str, Upload] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    openai: bool = False


class Reply(Struct, frozen=True, kw_only=True):
    """A whole answer.

    Attributes:
        content: what goes out, envelope included where the form has one.
        media_type: its type.
    """

    content: bytes
    media_type: str = "application/json"


class Form(Protocol):
    """The wire form of one family.  Uploads that it makes belong to the call, and are closed with it."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """What is asked.

        Raises:
            CallRefused: the input is not of this form; `param` is its path, as in `/messages/0/content`.
        """
        ...

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """The whole answer.

        Raises:
            StreamBroken: something is missing in it.
        """
        ...

    def chunks(self, given: Given, call: Call) -> Chunks | None:
        """The answer as a stream, where the input asks for one and the family has it."""
        ...

    def media_type(self, given: Given, call: Call) -> str:
        """Of the stream."""
        ...
