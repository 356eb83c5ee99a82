"""The emulated API's addresses."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from hybrid_router.emulator.anthropic import ask, frames
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.scene import NamedDelivery, Scene, invalid, read_object
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud, Stage, on_stage


def serve(settings: Settings) -> AbstractAsyncContextManager[RunningCloud]:
    """`POST /v1/messages`, and the emulator's own addresses, until the block ends."""
    return on_stage(Scene(settings, frames.error, _token), [("/v1/messages", _answer)])


def _token(request: web.Request) -> str:
    """The key in the header of either of the API's versions."""
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    return request.headers.get("x-api-key") or bearer


async def _answer(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    if "anthropic-version" not in request.headers:
        raise invalid("anthropic-version: header is required")
    call = ask.call(await read_object(request))
    fault = delivery.fault
    if not call.stream or fault.plain:
        return await delivery.document(frames.message(call, await stage.events(call)))
    named = NamedDelivery(delivery, fault, frames.error_frame)
    return await named.frames(frames.Frames(call).written(stage.batches(call)))
