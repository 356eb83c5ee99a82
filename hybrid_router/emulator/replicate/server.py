"""The emulated API's addresses."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any

from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.core import ids
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.port import SEEN
from hybrid_router.emulator.replicate import ask, predictions
from hybrid_router.emulator.replicate.predictions import CANCELED, CREATED_AT, Prediction, Shop, Stored
from hybrid_router.emulator.settings import Settings
from hybrid_router.emulator.stage import Answering, RunningCloud, Stage, invalid, on_stage, read_object

_TITLES = {401: "Unauthenticated", 402: "Payment Required", 404: "Not found", 422: "Input validation failed"}
Respond = Callable[[web.Request], Awaitable[web.StreamResponse]]
_OPEN_PATHS = ("/v1/streams/", "/delivery/")


@asynccontextmanager
async def serve(settings: Settings) -> AsyncGenerator[RunningCloud]:
    """Predictions, their streams, files, and the emulator's own addresses, until the block ends."""
    stage, shop = Stage(settings, _error, _token), Shop()
    with closing(shop):
        async with on_stage(stage, _routes(Booth(shop), stage.asked)) as running:
            yield running


def _routes(booth: Booth, asked: Callable[[Answering], Respond]) -> list[web.RouteDef]:
    return [
        web.post("/v1/predictions", asked(booth.make)),
        web.post("/v1/models/{owner}/{name}/predictions", asked(booth.make)),
        web.get("/v1/predictions/{id}", asked(booth.show)),
        web.post("/v1/predictions/{id}/cancel", asked(booth.cancel)),
        web.get("/v1/streams/{id}", asked(booth.stream)),
        web.post("/v1/files", asked(booth.store)),
        web.delete("/v1/files/{id}", asked(booth.delete)),
        web.get("/delivery/{id}/out", asked(booth.deliver)),
    ]


def _error(refusal: Refusal) -> dict[str, Any]:
    """A problem's document."""
    title = _TITLES.get(refusal.status, "")
    return {"title": title, "detail": refusal.message, "status": refusal.status}


def _token(request: web.Request) -> str | None:
    """Streams and files are for whoever knows their addresses."""
    if request.path.startswith(_OPEN_PATHS):
        return None
    return request.headers.get("authorization", "").partition(" ")[2]


def _root(request: web.Request) -> str:
    return str(request.url.origin())


class Booth:
    """Where predictions are made, looked at and handed out."""

    def __init__(self, shop: Shop) -> None:
        self._shop = shop

    async def make(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A prediction.  What shall go wrong with its answer is kept for its stream, if it has one."""
        body = await read_object(request)
        given = body.get("input")
        if not isinstance(given, dict):
            raise invalid("- input is required", 422)
        matched, id_, streams = request.match_info, ids.new("p"), bool(body.get("stream"))
        model = f"{matched['owner']}/{matched['name']}" if "owner" in matched else str(body.get("version"))
        request[SEEN].model = model
        settings = stage.account.settings
        made = Prediction(
            id=id_,
            call=ask.call(id_, model, given, self._shop.input, stream=streams),
            given=given,
            stream=streams,
            fault=delivery.fault,
            looks_left=settings.queue_polls,
        )
        self._shop.add(made)
        if "wait" in request.headers.get("prefer", "") and settings.plain_limit_s > 0 and not streams:
            await self._shop.finish(made, stage.batches(made.call), _root(request))
            return await delivery.document(self._shop.document(made, _root(request)))
        return web.json_response(self._shop.document(made, _root(request)), status=201)

    async def show(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A prediction, a step further each time it is looked at."""
        made = self._shop.find(request.match_info["id"])
        if not made.ended and not made.stream:
            made.looks_left -= 1
            made.status = "processing"
            if made.looks_left < 0:
                await self._shop.finish(made, stage.batches(made.call), _root(request))
        return web.json_response(self._shop.document(made, _root(request)))

    async def cancel(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """Nothing more comes of it."""
        made = self._shop.find(request.match_info["id"])
        made.end(CANCELED)
        return web.json_response(self._shop.document(made, _root(request)))

    async def stream(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A prediction's answer, as it is written."""
        made = self._shop.find(request.match_info["id"])
        frames = predictions.frames(made, stage.batches(made.call))
        return await delivery.with_fault(made.fault).frames(frames, predictions.error_frame)

    async def store(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A file is put here."""
        part = (await request.post()).get("content")
        if not isinstance(part, web.FileField):
            raise invalid("content is required")
        kept = Stored(part.file.read(), part.content_type)
        id_ = self._shop.inputs.put(kept)
        document = {
            "id": id_,
            "name": part.filename,
            "content_type": kept.media_type,
            "size": len(kept.content),
            "etag": "",
            "checksums": {},
            "metadata": {},
            "created_at": CREATED_AT,
            "expires_at": None,
            "urls": {"get": f"{_root(request)}/v1/files/{id_}"},
        }
        return web.json_response(document, status=201)

    async def delete(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A file is taken away."""
        if self._shop.inputs.take(request.match_info["id"]) is None:
            raise invalid("The requested resource could not be found.", 404)
        return web.Response(status=204)

    async def deliver(self, stage: Stage, request: web.Request, delivery: Delivery) -> web.StreamResponse:
        """A file that came out: whoever knows its address may have it."""
        found = self._shop.outputs.find(request.match_info["id"])
        if found is None:
            raise invalid("no such file", 404)
        return web.Response(body=found.content, content_type=found.media_type)
