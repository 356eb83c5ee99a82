"""What hangs on the application and on each request, by typed keys."""

from __future__ import annotations

from aiohttp import web

from hybrid_router.api.answers import OnCall, OnRefusal
from hybrid_router.api.failures import Document
from hybrid_router.api.openai import error as openai
from hybrid_router.dispatch.record import Record


class Lifecycle:
    """Whether the process still takes calls.  Set once, by the listener that drains."""

    __slots__ = ("draining",)

    def __init__(self) -> None:
        self.draining = False


class Exchange:
    """One request and its response; `failure` writes its errors, `headers` go with whatever is sent.

    `begun`: signs of life were sent, so the status is out.
    """

    __slots__ = (
        "begun", "failure", "headers", "origin", "principal", "record", "request_id", "started_s", "told",
    )  # fmt: skip

    def __init__(self, request_id: str, started_s: float, failure: Document = openai.document) -> None:
        self.request_id = request_id
        self.failure = failure
        self.headers: dict[str, str] = {}
        self.begun = False
        self.started_s = started_s
        self.principal = "local"
        self.record: Record | None = None  # once a call is decided
        self.origin: str | None = None  # set only if it is an allowed one
        self.told = False  # `on_call` has heard of the error: it is not told again as a refusal


LIFECYCLE = web.AppKey("lifecycle", Lifecycle)
VERSION = web.AppKey("version", str)
STARTED = web.AppKey("started", int)
ON_CALL: web.AppKey[OnCall] = web.AppKey("on_call", object)  # type: ignore[arg-type]
ON_REFUSAL: web.AppKey[OnRefusal] = web.AppKey("on_refusal", object)  # type: ignore[arg-type]
EXCHANGE = web.RequestKey("exchange", Exchange)
