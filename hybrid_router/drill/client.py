"""A client that notes what it is told, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import aiohttp
import msgspec
from msgspec import Struct

from hybrid_router.core.sse import Decoder

GRACE_S = 1.0  # after its deadline a call may still take so long
_EVENT_LIMIT_BYTES = 2**20
_DONE = b"[DONE]"
Ending: TypeAlias = Literal["whole", "broken", "refused", "dropped", "hung"]


class Heard(Struct, kw_only=True):
    """What a client was told.

    Attributes:
        ending: a whole answer; an error inside the stream; an error instead of an answer; a connection that
            ends without a word; nothing until the deadline and a second more.
        code, message: of the error.
        text: of the first choice.
        first_s: until the first text, None: there was none; ended_s: until the end.
    """

    ending: Ending = "dropped"
    status: int | None = None
    code: str | None = None
    message: str = ""
    text: str = ""
    first_s: float | None = None
    ended_s: float = 0.0


async def heard(
    http: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str], deadline_s: float
) -> Heard:
    """Make a call and listen to the end of it, or to its deadline and a second more."""
    loop = asyncio.get_running_loop()
    told, started_s = _Told(loop.time()), loop.time()
    try:
        async with asyncio.timeout(deadline_s + GRACE_S):
            async with http.post(url, data=body, headers=headers) as reply:
                told.heard.status = reply.status
                if reply.content_type == "text/event-stream":
                    decoder = Decoder(_EVENT_LIMIT_BYTES)
                    async for chunk in reply.content.iter_any():
                        for payload in decoder.feed(chunk):
                            told.event(payload, loop.time())
                else:
                    told.document(await reply.read(), loop.time())
    except TimeoutError:
        told.heard.ending = "hung"
    except aiohttp.ClientError:
        told.heard.ending = "dropped"
    told.heard.ended_s = loop.time() - started_s
    return told.heard


class _Told:
    """One reply, as it comes in."""

    def __init__(self, started_s: float) -> None:
        self.heard = Heard()
        self._started_s = started_s
        self._finished = False

    def event(self, payload: bytes, now_s: float) -> None:
        """An event of a stream; whole is what has a finish reason and `[DONE]`."""
        if payload == _DONE:
            self.heard.ending = "whole" if self._finished else "dropped"
        else:
            self._take(msgspec.json.decode(payload), now_s, "broken")

    def document(self, body: bytes, now_s: float) -> None:
        """A whole reply."""
        self._take(msgspec.json.decode(body), now_s, "refused")
        if self._finished:
            self.heard.ending = "whole"

    def _take(self, document: dict[str, Any], now_s: float, failed: Ending) -> None:
        error = document.get("error")
        if error is not None:
            self.heard.ending, self.heard.code = failed, error["code"]
            self.heard.message = error["message"]
        for choice in document.get("choices", ()):
            text = choice.get("text") or (choice.get("delta") or choice.get("message") or {}).get("content")
            if text:
                self.heard.text += text
                if self.heard.first_s is None:
                    self.heard.first_s = now_s - self._started_s
            self._finished = self._finished or choice.get("finish_reason") is not None
