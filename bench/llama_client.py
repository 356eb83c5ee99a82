"""Streams from an OpenAI-compatible server, with the moment at which each piece of text came."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import msgspec
from msgspec import Struct, field

from bench.processes import BenchError

_SILENCE_S = 600.0
_CHUNK: msgspec.json.Decoder[dict[str, Any]] = msgspec.json.Decoder(dict[str, Any])


class Server(Struct):
    """A server that listens.

    Attributes:
        pid: the process that has the model.
        front_pid: the one that listens; the same for llama-server.
    """

    name: str
    url: str
    model: str
    pid: int
    front_pid: int


class Said(Struct, kw_only=True):
    """One stream.

    Attributes:
        sent_s, ended_s: `perf_counter` when the call left, and when its last byte was read.
        arrivals_s: when each chunk with text came.
        chunks: every document of the stream.
        error: why there is no whole answer.
    """

    sent_s: float
    ended_s: float = 0.0
    arrivals_s: list[float] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None

    @property
    def text(self) -> str:
        return "".join(_said(chunk) for chunk in self.chunks)

    @property
    def ttft_s(self) -> float:
        return self.arrivals_s[0] - self.sent_s

    @property
    def reason(self) -> str | None:
        """Why it ended, in the server's words."""
        choices = (choice for chunk in self.chunks for choice in chunk.get("choices", ()))
        return next((choice["finish_reason"] for choice in choices if choice.get("finish_reason")), None)

    @property
    def tokens_count(self) -> int:
        return int(self._usage["completion_tokens"])

    @property
    def prompt_count(self) -> int:
        return int(self._usage["prompt_tokens"])

    @property
    def cached_count(self) -> int:
        """Tokens of the prompt that were not computed, as the server says."""
        return int((self._usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0))

    @property
    def computed_count(self) -> int:
        return self.prompt_count - self.cached_count

    @property
    def _usage(self) -> dict[str, Any]:
        found = (chunk["usage"] for chunk in reversed(self.chunks) if chunk.get("usage"))
        usage: dict[str, Any] | None = next(found, None)
        if usage is None:
            raise BenchError("a stream ended without its usage")
        return usage


def _said(chunk: dict[str, Any]) -> str:
    """The text that a chunk brings."""
    choices = chunk.get("choices")
    if not choices:
        return ""
    return choices[0].get("delta", {}).get("content") or ""


class Stream:
    """One call that is under way.  `begun` is set at its first text, or when it has so many; or ends."""

    def __init__(self, server: Server, body: dict[str, Any], begun_at: int = 1) -> None:
        self._server, self._body = server, body
        self._rest, self._begun_at = b"", begun_at
        self.begun = asyncio.Event()
        self.said = Said(sent_s=0.0)

    async def run(self, session: aiohttp.ClientSession) -> Said:
        """Read to the end; cancel it, and the connection is closed."""
        said = self.said
        call = {
            **self._body,
            "model": self._server.model,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        said.sent_s = time.perf_counter()
        try:
            async with session.post(f"{self._server.url}/v1/chat/completions", json=call) as reply:
                if reply.status != 200:  # noqa: PLR2004
                    said.error = f"{reply.status}: {(await reply.read())[:300].decode('utf-8', 'replace')}"
                    return said
                async for piece in reply.content.iter_any():
                    self._take(piece, time.perf_counter())
        except (aiohttp.ClientError, TimeoutError) as error:
            said.error = f"{type(error).__name__}: {error}"
        finally:
            said.ended_s = time.perf_counter()
            self.begun.set()
        if said.error is None and said.reason is None:
            said.error = "the stream ended without a finish reason"
        return said

    def _take(self, piece: bytes, now_s: float) -> None:
        *events, self._rest = (self._rest + piece).split(b"\n\n")
        for event in events:
            document = event.strip().removeprefix(b"data:").strip()
            if not document.startswith(b"{"):
                continue
            chunk = _CHUNK.decode(document)
            self.said.chunks.append(chunk)
            if "error" in chunk:
                self.said.error = str(chunk["error"])[:300]
            if _said(chunk):
                self.said.arrivals_s.append(now_s)
                if len(self.said.arrivals_s) == self._begun_at:
                    self.begun.set()


def session() -> aiohttp.ClientSession:
    """A session that opens as many connections as there are calls, and waits long."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S),
    )


def attempts(server: Server, bodies: Sequence[dict[str, Any]]) -> list[Said]:
    """All calls at once, to their ends, whatever those are."""

    async def run() -> list[Said]:
        async with session() as client:
            return await asyncio.gather(*(Stream(server, one).run(client) for one in bodies))

    return asyncio.run(run())


def together(server: Server, bodies: Sequence[dict[str, Any]]) -> list[Said]:
    """All calls at once, to their ends.

    Raises:
        BenchError: one of them failed.
    """
    said = attempts(server, bodies)
    if error := next((one.error for one in said if one.error), None):
        raise BenchError(f"{server.name}: {error}")
    return said
