"""The emulated API's addresses."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from aiohttp import web

from hybrid_router.emulator.anthropic import ask, frames
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import RunningCloud, Stage, invalid, on_stage, read_object


def serve(settings: Settings) -> AbstractAsyncContextManager[RunningCloud]:
    """`POST /v1/messages`, and the emulator's own addresses, until the block ends."""
    return on_stage(Stage(settings, frames.error, _token), [("/v1/messages", _answer)])


def _token(request: web.Request) -> str:
    """The key in the header of either of the API's versions."""
    bearer = request.headers.get("authorization", "").partition(" ")[2]
    return request.headers.get("x-api-key") or bearer


async def _answer(stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
    if "anthropic-version" not in request.headers:
        raise invalid("anthropic-version: header is required")
    call = ask.call(await read_object(request))
    if not call.stream or delivery.fault.plain:
        return await delivery.document(frames.message(call, await stage.events(call)))
    return await delivery.frames(frames.Frames(call).written(stage.batches(call)), frames.error_frame)
