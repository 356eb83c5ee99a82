"""The universal endpoint through a WebSocket: each request a message, each answer one or several.

Every request goes on to the host's own universal address, so that cache, log, rates and retries are the same.
What a failure of the gateway is told with (`universal.error`) is not in the contract.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

import aiohttp
import msgspec
from aiohttp import WSMsgType, web
from msgspec import Struct, field

from hybrid_router.core import ids
from hybrid_router.core.sse import Decoder, EventTooLong

TOKEN = "cf-aig-authorization"  # noqa: S105 - the header's name
_BY_PROTOCOL = TOKEN + "."
_EVENTS = "text/event-stream"
_DONE = b"[DONE]"
_MOST_AT_ONCE = 16
_MOST_BYTES = 4 * 2**20
_LONGEST_SILENCE_S = 600.0
# Each place of the metadata, and the header that tells it.
_TOLD = (
    ("cacheStatus", "cf-aig-cache-status"),
    ("logId", "cf-aig-log-id"),
    ("step", "cf-aig-step"),
    ("contentType", "content-type"),
)


class _Asked(Struct, frozen=True, rename="camel"):
    provider: str
    endpoint: str = ""
    event_id: str = ""
    headers: dict[str, Any] = field(default_factory=dict)
    query: Any = None


class _Message(Struct, frozen=True, tag_field="type", tag="universal.create"):
    request: _Asked


def credential(request: web.Request) -> str:
    """The gateway's token as its header has it; browsers send it as a protocol, for want of headers."""
    for protocol in _protocols(request):
        if protocol.startswith(_BY_PROTOCOL):
            return f"Bearer {protocol.removeprefix(_BY_PROTOCOL)}"
    return request.headers.get(TOKEN, "")


async def converse(request: web.Request, http: aiohttp.ClientSession, url: str) -> web.StreamResponse:
    """Pass messages on to the universal endpoint at `url`, several at once, until the caller hangs up."""
    own = [name for name in _protocols(request) if name.startswith(_BY_PROTOCOL)]
    socket = web.WebSocketResponse(max_msg_size=_MOST_BYTES, protocols=own)
    await socket.prepare(request)
    conversation = _Conversation(socket, http, url, {TOKEN: credential(request)})
    running: set[asyncio.Task[None]] = set()
    async with asyncio.TaskGroup() as tasks:
        while (message := await _received(socket)) is not None:
            await conversation.free.acquire()
            task = tasks.create_task(conversation.answer(message))
            running.add(task)
            task.add_done_callback(running.discard)
        for task in running:  # nobody is there to hear their answers
            task.cancel()
    return socket


async def _received(socket: web.WebSocketResponse) -> str | bytes | None:
    """The next message; None: there is none any more."""
    try:
        message = await socket.receive(timeout=_LONGEST_SILENCE_S)
    except TimeoutError:
        await socket.close()
        return None
    if message.type not in (WSMsgType.TEXT, WSMsgType.BINARY):
        return None
    content: str | bytes = message.data
    return content


class _Conversation:
    def __init__(
        self,
        socket: web.WebSocketResponse,
        http: aiohttp.ClientSession,
        url: str,
        headers: Mapping[str, str],
    ) -> None:
        self._socket = socket
        self._http = http
        self._url = url
        self._headers = headers
        self.free = asyncio.Semaphore(_MOST_AT_ONCE)

    async def answer(self, message: str | bytes) -> None:
        """Answer one message, as far as somebody is there to hear it."""
        event_id = ids.new("")
        try:
            asked = msgspec.json.decode(message, type=_Message).request
            event_id = asked.event_id or event_id
            await self._pass_on(asked, event_id)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            failure = {"code": 2005, "message": f"expected universal.create with its request: {error}"}
            await self._tell("universal.error", {"eventId": event_id}, error=[failure])
        except (aiohttp.ClientError, EventTooLong) as error:
            failure = {"code": 2005, "message": f"Failed to get response from provider: {error}"}
            await self._tell("universal.error", {"eventId": event_id}, error=[failure])
        finally:
            self.free.release()

    async def _pass_on(self, asked: _Asked, event_id: str) -> None:
        step = {"provider": asked.provider, "endpoint": asked.endpoint, "query": asked.query}
        headers = {**self._headers, "cf-aig-event-id": event_id}
        body = [step | {"headers": asked.headers}]
        async with self._http.post(self._url, json=body, headers=headers) as response:
            told = {"eventId": event_id} | {
                name: response.headers[header] for name, header in _TOLD if header in response.headers
            }
            if response.content_type == _EVENTS:
                await self._stream(response, told)
                return
            document = _document(await response.read())
        if isinstance(document, dict) and document.get("name") == "AiGatewayError":
            await self._tell("universal.error", told, error=document["error"])
        else:
            await self._tell("universal.created", told, response=document)

    async def _stream(self, response: aiohttp.ClientResponse, told: dict[str, str]) -> None:
        await self._tell("universal.created", told)
        decoder = Decoder(_MOST_BYTES)
        while chunk := await response.content.readany():
            await self._pieces(decoder.feed(chunk), told)
        await self._pieces(decoder.end(), told)
        await self._tell("universal.done", told)

    async def _pieces(self, payloads: list[bytes], told: dict[str, str]) -> None:
        for payload in payloads:
            if payload != _DONE:
                about = {"eventId": told["eventId"]}
                await self._tell("universal.stream", about, response=_document(payload))

    async def _tell(self, kind: str, metadata: dict[str, str], **more: Any) -> None:
        if self._socket.closed:
            return
        document = {"type": kind, "metadata": metadata, **more}
        with contextlib.suppress(ConnectionError):
            await self._socket.send_str(msgspec.json.encode(document).decode())


def _protocols(request: web.Request) -> list[str]:
    return [each.strip() for each in request.headers.get("sec-websocket-protocol", "").split(",")]


def _document(content: bytes) -> Any:
    """JSON as it is, all else as text."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return content.decode("utf-8", "replace")
