"""Live models: a WebSocket that is spoken to, or listened to, instead of a request and its answer.

Source: the contract on realtime models; where it is silent (`Flushed`, `Results`, `Metadata`, `CloseStream`),
the published protocol of the models' maker.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.emulator import admission
from hybrid_router.emulator.calls import SeenCall
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.live.line import Line, Part
from hybrid_router.emulator.live.listeners import Judge, ResultListener, TurnListener
from hybrid_router.emulator.live.speaker import Speaker
from hybrid_router.emulator.settings import Account

_MOST_MESSAGE_BYTES = 4 * 2**20

Made: TypeAlias = Callable[[Line, Model, dict[str, str]], Part]
_PARTS: Mapping[Family, Made] = MappingProxyType({
    Family.SPEECH_BYTES: Speaker,
    Family.SOUND_LIVE: TurnListener,
    Family.SOUND_NOVA: ResultListener,
    Family.TURN: Judge,
})  # fmt: skip


async def converse(
    account: Account, request: web.Request, seen: SeenCall, fault: Fault
) -> web.StreamResponse:
    """Hold one conversation with the model that the path names.

    Raises:
        Refusal: there is none; nothing was upgraded.
    """
    model_id = request.match_info["model"]
    seen.model, seen.stream, seen.body = model_id, True, dict(request.query)
    model, priced = admission.model_of(account, model_id)
    part = _PARTS.get(family(model)) if model.realtime else None
    if part is None:
        raise Refusal(5006, f"Bad input: Error: {model_id} is no realtime model")
    admission.count(account, priced)
    admission.check_quota(account)
    delivery = Delivery(request, fault, seen, account.settings)
    instead = await delivery.instead()
    if instead is not None:
        return instead
    socket = web.WebSocketResponse(max_msg_size=_MOST_MESSAGE_BYTES)
    line = Line(account, priced, socket, delivery, seen)
    speaker = part(line, model, dict(request.query))
    await socket.prepare(request)
    return await line.held(speaker)


def upgrades(request: web.Request) -> bool:
    """Whether a WebSocket is asked for."""
    return web.WebSocketResponse().can_prepare(request).ok
