"""A conversation's wire, and the end of it that the emulator holds."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.refusal import Refusal, body_of
from hybrid_router.catalogue import prices
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import CallRefused, RouterError
from hybrid_router.core.event import Batch
from hybrid_router.emulator import admission
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.settings import Account

_LIVE = "(WebSocket)"
_SWITCHED = 101
_LONGEST_SILENCE_S = 600.0


class Line:
    """A conversation's wire: what is told on it, what may go wrong there, what it costs."""

    def __init__(
        self,
        account: Account,
        priced: Model,
        socket: web.WebSocketResponse,
        delivery: Delivery,
        seen: SeenCall,
    ) -> None:
        self.account = account
        self.request_id = str(uuid.uuid4())
        self._priced = priced
        self._live = any(_LIVE in line.unit for line in priced.price)
        self._socket = socket
        self._delivery = delivery
        self._seen = seen

    async def held(self, speaker: Part) -> web.StreamResponse:
        """Listen until somebody hangs up."""
        try:
            while not self._socket.closed:
                message = await self._socket.receive(timeout=_LONGEST_SILENCE_S)
                if message.type is WSMsgType.TEXT:
                    await speaker.told(_object(message.data))
                elif message.type is WSMsgType.BINARY:
                    await speaker.heard(message.data)
                else:
                    break
        except Refusal as refusal:
            await self._failed(refusal, WSCloseCode.POLICY_VIOLATION)
        except RouterError as error:
            await self._failed(admission.refusal(error), WSCloseCode.INTERNAL_ERROR)
        except TimeoutError:
            await self.close(WSCloseCode.GOING_AWAY)
        finally:
            self._seen.status = _SWITCHED
        return self._socket

    async def tell(self, document: Any) -> None:
        """Send one message of text."""
        await self._send(_json(document))

    async def sound(self, content: bytes) -> None:
        """Send one message of bytes."""
        await self._send(content)

    async def close(self, code: int = WSCloseCode.OK) -> None:
        """Hang up."""
        await self._socket.close(code=code)

    async def events(self, call: Call) -> Batch:
        """The answer to `call`, charged however that ends.  Its files are closed.

        Raises:
            Refusal: it failed, or took too long.
        """
        events: Batch = []
        try:
            admission.check_quota(self.account)
            async with admission.plainly(self.account), aclosing(self.account.played(call)) as batches:
                async for batch in batches:
                    events += batch
            return events
        finally:
            for upload in call.uploads:
                upload.close()

    def charge(self, done: prices.Work) -> None:
        """Count the neurons of what was said or heard."""
        done = msgspec.structs.replace(done, live=self._live)
        self.account.ledger.charge(prices.neurons(self._priced.price, done))

    async def _failed(self, refusal: Refusal, code: int) -> None:
        await self._socket.send_str(_json(body_of(refusal)))
        await self.close(code)

    async def _send(self, message: str | bytes) -> None:
        """Send a message, or do what a fault wants in its place."""
        if self._socket.closed:
            return
        await asyncio.sleep(self.account.settings.token_delay_s)
        fault, place = self._delivery.fault, self._seen.events_sent
        if place == fault.malformed_after:
            await self._socket.send_str('{"unfin')
        if place == fault.error_after:
            raise Refusal(fault.code or 8005, fault.message)
        if place == fault.stall_after:
            await asyncio.sleep(self.account.settings.hang_limit_s)
        if place in (fault.stall_after, fault.cut_after):
            self._delivery.broken()
            raise ConnectionResetError("cut by a fault")
        if place == fault.close_after:
            await self.close()
            return
        if isinstance(message, str):
            await self._socket.send_str(message)
        else:
            await self._socket.send_bytes(message)
        self._seen.events_sent += 1


class Part:
    """Who is at the emulator's end of the line.

    Raises:
        Refusal: the address's query does not fit; on the line, a message does not.
    """

    def __init__(self, line: Line, model: Model, options: dict[str, str]) -> None:
        self._line = line
        self._model = model
        self._options = options

    async def told(self, message: dict[str, Any]) -> None:
        """A message of text came."""
        raise unknown(message)

    async def heard(self, frame: bytes) -> None:
        """A message of bytes came."""
        raise Refusal(5006, f"Bad input: Error: {self._model.id} takes messages of text")


def read(form: Callable[[], Call]) -> Call:
    """What `form` reads.  Raises Refusal: it cannot."""
    try:
        return form()
    except CallRefused as error:
        raise Refusal(5006, f"Bad input: Error: {error.message}") from error


def sender() -> Sender:
    """Of every call on a line."""
    return Sender(call_id=ids.new("emu_"), principal="emulator", headers={})


def unknown(message: dict[str, Any]) -> Refusal:
    """A message that means nothing here."""
    return Refusal(5006, f"Bad input: Error: '/type' {str(message.get('type'))[:40]!r} is not known here")


def _object(text: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Refusal(5006, f"Bad input: Error: the message is no JSON object: {error}") from None


def _json(document: Any) -> str:
    return msgspec.json.encode(document).decode()
