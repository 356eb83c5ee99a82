"""Calls with `background`: answered at once, and again where the call says."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from emulated import CLASSIC, emulated, first_code

AURA = "@cf/deepgram/aura-1"


class Box:
    """Somebody who takes webhooks, and refuses each, so that a second try would show."""

    def __init__(self) -> None:
        self.posted: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.url = ""

    async def take(self, request: web.Request) -> web.Response:
        """One POST."""
        await self.posted.put(await request.json())
        return web.Response(status=500)


@asynccontextmanager
async def boxed() -> AsyncGenerator[Box]:
    """A box on a free port."""
    box, app = Box(), web.Application()
    app.router.add_post("/box", box.take)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    box.url = f"http://127.0.0.1:{runner.addresses[0][1]}/box"
    try:
        yield box
    finally:
        await runner.cleanup()


def asked(model: str, given: Any, **options: Any) -> dict[str, Any]:
    """The body of `/ai/run`."""
    return {"model": model, "input": given, "options": options}


async def test_an_answer_comes_later_to_the_address_that_the_call_names() -> None:
    """Once, with the id that was told at once; text as it is, files as base64; failures go there too."""
    async with emulated() as cloud, boxed() as box:
        told, came = [], []
        for model, given in (
            (CLASSIC, {"prompt": "repeat: later"}),
            (AURA, {"text": "later"}),
            (CLASSIC, {"max_tokens": 5}),
        ):
            hook = {"background": True, "webhookUrl": box.url}
            status, document = await cloud.reply("/run", asked(model, given, **hook))
            assert (status, document["success"], document["result"]["state"]) == (200, True, "queued")
            told.append(document["result"]["id"])
            came.append(await asyncio.wait_for(box.posted.get(), 10))
        assert box.posted.empty()

    text, file, failed = came
    assert [row["id"] for row in came] == told
    assert [row["state"] for row in came] == ["completed", "completed", "failed"]
    assert set(text) == {"id", "state", "result", "error", "provider", "model", "usage"}
    assert text["result"]["response"].strip() == "later"
    assert text["usage"]["completion_tokens"] > 0
    assert base64.b64decode(file["result"]["body"])[:3] == b"ID3"
    assert (failed["result"], failed["error"]["code"]) == (None, 5006)


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"webhookUrl": "http://127.0.0.1:1/"}, 5006),
        ({"background": False, "webhookUrl": "http://127.0.0.1:1/"}, 5006),
        ({"background": "yes"}, 5006),
        ({"background": True}, 5006),
        ({"background": True, "webhookUrl": None}, 5006),
        ({"background": True, "webhookUrl": "nonsense"}, 5006),
        ({"background": True, "webhookUrl": 7}, 5006),
        ({"background": True, "webhookUrl": "https://example.com/"}, 8001),
        ({"background": True, "webhookUrl": "http://127.0.0.1.example.com/"}, 8001),
        ({"background": True, "webhookFormat": "chat"}, 8001),
        ({"background": True, "webhookFormat": "other"}, 5006),
    ],
)
async def test_webhooks_that_cannot_be_are_refused(options: dict[str, Any], code: int) -> None:
    """One without `background`, none at all, no address, another machine's, another format: 400 at once."""
    async with emulated() as cloud:
        status, document = await cloud.reply("/run", asked(CLASSIC, {"prompt": "hi"}, **options))

    assert (status, first_code(document)) == (400, code)


async def test_only_the_address_without_a_model_answers_later() -> None:
    """`background` at `/ai/run/MODEL` is refused, and so is an unknown model at `/ai/run`."""
    async with emulated() as cloud:
        _, named = await cloud.run(CLASSIC, {"prompt": "hi", "options": {"background": True}})
        hook = {"background": True, "webhookUrl": "http://127.0.0.1:1/"}
        _, unknown = await cloud.reply("/run", asked("@cf/none/such", {"prompt": "hi"}, **hook))

    assert (first_code(named), first_code(unknown)) == (5006, 5007)


async def test_an_address_beside_the_options_is_missed() -> None:
    """It belongs into them; elsewhere nobody would read it, and the answer would be lost."""
    body = asked(CLASSIC, {"prompt": "hi"}, background=True) | {"webhookUrl": "http://127.0.0.1:1/"}
    async with emulated() as cloud:
        status, document = await cloud.reply("/run", body)

    assert (status, first_code(document)) == (400, 5006)
    assert "required properties at '/options' are 'webhookUrl'" in document["errors"][0]["message"]
