"""A client that keeps every byte, and what can be said of an answer by its bytes alone."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from openai_contract import check, events
from router_process import Router

PROMPT_CANARY = "promptcanary9d31"
CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
_PIECE = re.compile(rb'"(?:text|content)":"')
SCHEMAS = {
    CHAT: ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    COMPLETIONS: ("CreateCompletionResponse", "StreamedCompletion"),
}


@dataclass(frozen=True)
class Answer:
    """What came back.  Every document in it has been held against OpenAI's schemas.

    Attributes:
        documents: the reply, or the stream's events; an error object where there was one.
        done: `[DONE]` came, once and last.
    """

    path: str
    status: int
    headers: Mapping[str, str]
    documents: list[Any]
    done: bool
    streamed: bool

    @property
    def error(self) -> dict[str, Any] | None:
        """The error object, told by status or in-band."""
        found = [document["error"] for document in self.documents if "error" in document]
        return found[0] if found else None

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Every choice of every document, in order."""
        return [choice for document in self.documents for choice in document.get("choices", [])]

    def text(self, index: int = 0) -> str:
        """What was said, joined."""
        return "".join(self.pieces(index))

    def pieces(self, index: int = 0) -> list[str]:
        """What was said, delta by delta."""
        return [_content(choice) for choice in self.choices if choice["index"] == index]

    @property
    def roles(self) -> list[str]:
        """Every role that was named, in order."""
        deltas = [choice.get("delta") or choice.get("message") or {} for choice in self.choices]
        return [delta["role"] for delta in deltas if "role" in delta]

    @property
    def finish_reasons(self) -> list[str]:
        """Every finish reason, in order."""
        return [choice["finish_reason"] for choice in self.choices if choice["finish_reason"]]

    @property
    def counted(self) -> tuple[int, int]:
        """Tokens of prompt and answer.  How many were cached depends on what was asked before."""
        assert self.usage is not None
        return self.usage["prompt_tokens"], self.usage["completion_tokens"]

    @property
    def usage(self) -> dict[str, Any] | None:
        """The usage that was told."""
        found = [document["usage"] for document in self.documents if document.get("usage")]
        assert len(found) <= 1, "usage is told once"
        return found[0] if found else None

    @property
    def served_by(self) -> tuple[str | None, str | None]:
        """Backend and number of attempts, as the headers have them."""
        return self.headers.get("x-router-backend"), self.headers.get("x-router-attempts")


def _content(choice: dict[str, Any]) -> str:
    if "text" in choice:
        return str(choice["text"])
    return (choice.get("delta") or choice.get("message") or {}).get("content") or ""


def parsed(path: str, status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """Read and check an answer's bytes."""
    lowered = {name.lower(): value for name, value in headers.items()}
    streamed = lowered["content-type"].startswith("text/event-stream")
    found = events(body) if streamed else [json.loads(body)]
    done = found[-1] == "[DONE]" if found else False
    documents = found[:-1] if done else found
    assert "[DONE]" not in documents, "[DONE] comes once, and last"
    for place, document in enumerate(documents):
        if "error" in document:
            check("ErrorResponse", document)
            assert place == len(documents) - 1, "nothing follows an error"
        else:
            check(SCHEMAS[path][streamed], document)
    return Answer(path, status, lowered, documents, done, streamed)


def chat_body(alias: str, said: str, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """A chat request with one user message, greedy, with usage where there is a stream."""
    body = {"model": alias, "messages": [{"role": "user", "content": said}], "temperature": 0, **fields}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


def completion_body(alias: str, prompt: str, *, stream: bool = False, **fields: Any) -> dict[str, Any]:
    """The same for a completion."""
    body = {"model": alias, "prompt": prompt, "temperature": 0, **fields}
    return body | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


async def ask(
    router: Router, body: Any, path: str = CHAT, headers: Mapping[str, str] | None = None
) -> Answer:
    """Make a call on a connection of its own and keep the whole answer."""
    router.asked_count += 1
    connector = aiohttp.TCPConnector(force_close=True)
    async with (
        aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as http,
        http.post(router.url + path, json=body, headers=headers) as reply,
    ):
        return parsed(path, reply.status, dict(reply.headers), await reply.read())


class RawCall:
    """A call on a bare socket, read as far as the test likes, and left by a reset."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
        self._reader = reader
        self._writer = writer
        self._path = path
        self.received = b""

    async def pieces(self, count: int) -> None:
        """Read until so many pieces of text were received, empty ones included."""
        while len(_PIECE.findall(self.received)) < count:
            chunk = await self._reader.read(65536)
            assert chunk, f"it ended before piece {count}; its last bytes: {self.received[-400:]!r}"
            self.received += chunk

    async def sees(self, wanted: bytes) -> None:
        """Read until these bytes came."""
        while wanted not in self.received:
            chunk = await self._reader.read(65536)
            assert chunk, f"it ended before {wanted!r} came: {self.received[-400:]!r}"
            self.received += chunk

    async def to_the_end(self) -> None:
        """Read to the end of the connection, whole or not."""
        while chunk := await self._reader.read(65536):
            self.received += chunk

    async def rest(self) -> Answer:
        """Read a whole response, which the end of the connection follows."""
        await self.to_the_end()
        head, _, body = self.received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        whole = _unchunked(body) if headers.get("transfer-encoding") == "chunked" else body
        return parsed(self._path, int(status.split()[1]), headers, whole)

    def reset(self) -> None:
        """Leave with a RST."""
        connection = self._writer.get_extra_info("socket")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


def _unchunked(body: bytes) -> bytes:
    """The content of a chunked body, which must be complete."""
    content = b""
    while True:
        size, _, rest = body.partition(b"\r\n")
        count = int(size, 16)
        if not count:
            assert rest == b"\r\n"
            return content
        assert rest[count : count + 2] == b"\r\n"
        content, body = content + rest[:count], rest[count + 2 :]


@asynccontextmanager
async def raw_call(
    router: Router, body: Any, path: str = CHAT, headers: Mapping[str, str] | None = None
) -> AsyncIterator[RawCall]:
    """Send a call on a bare socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    router.asked_count += 1
    content = json.dumps(body).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{more}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    writer.write(head.encode() + content)
    try:
        yield RawCall(reader, writer, path)
    finally:
        writer.transport.abort()
