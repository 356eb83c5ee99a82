"""Calls that are answered later, to an address that the call names: one POST, never repeated.

The contract does not tell how such a call is answered at once, nor what the `chat` format is: the former is
made here as of a batch, the latter refused.  Nor does it tell what becomes of an answer without an address:
here nobody could ever read it, so such a call is refused.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any, TypeAlias

import aiohttp
from aiohttp import web
from msgspec import Struct
from yarl import URL

from hybrid_router.api.workers_ai.refusal import Refusal, body_of
from hybrid_router.core import ids

_MOST_WAITING = 100
_POST_S = 10.0
_FORMATS = ("raw", "chat")
_PROVIDER = "workers-ai"
Work: TypeAlias = Callable[[], Awaitable[dict[str, Any]]]


class Hook(Struct, frozen=True):
    """Where the answer shall go."""

    url: URL


def hook_of(options: dict[str, Any]) -> Hook | None:
    """What a call's options say about its answer; None: it waits for it.

    Raises:
        Refusal: 5006, a webhook without `background` or the reverse, or none that is an address; 8001, an
            address of another machine, or a format that is not played.
    """
    background = options.get("background", False)
    if not isinstance(background, bool):
        raise Refusal(5006, "Bad input: Error: Type mismatch of '/options/background', not in 'boolean'")
    if not background:
        if "webhookUrl" in options or "webhookFormat" in options:
            raise Refusal(5006, "Bad input: Error: '/options/webhookUrl' needs '/options/background'")
        return None
    told = options.get("webhookFormat", "raw")
    if told not in _FORMATS:
        raise Refusal(5006, "Bad input: Error: value at '/options/webhookFormat' is not one of raw, chat")
    if told != "raw":
        raise Refusal(8001, "the emulator plays no webhookFormat but raw")
    if "webhookUrl" not in options:
        raise Refusal(5006, "Bad input: Error: required properties at '/options' are 'webhookUrl'")
    return Hook(_address(options["webhookUrl"]))


def _address(written: Any) -> URL:
    try:
        url = URL(written)
    except (TypeError, ValueError):
        url = URL()
    if url.scheme not in ("http", "https") or not url.host:
        raise Refusal(5006, "Bad input: Error: '/options/webhookUrl' is no http address")
    if not _is_here(url.host):
        raise Refusal(8001, "the emulator sends webhooks to loopback addresses alone, such as 127.0.0.1")
    return url


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Webhooks:
    """The calls of one account that are answered later."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._http: aiohttp.ClientSession | None = None

    async def connected(self, app: web.Application) -> AsyncGenerator[None]:
        """Have a client as long as the application runs; what is still to be said then is not said."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_POST_S)) as http:
            self._http = http
            yield
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self, hook: Hook, model: str, work: Work) -> dict[str, Any]:
        """Have `work` done later.  What is told of it now.

        Raises:
            Refusal: 3040, too much is waiting.
        """
        if len(self._tasks) >= _MOST_WAITING:
            raise Refusal(3040)
        told = {"id": ids.new(""), "state": "queued", "provider": _PROVIDER, "model": model}
        task = asyncio.create_task(self._done(hook, told, work), name=f"background {told['id']}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return told

    async def _done(self, hook: Hook, told: dict[str, Any], work: Work) -> None:
        try:
            result = (await work())["result"]
        except Refusal as refusal:
            ended = {"state": "failed", "result": None, "error": body_of(refusal)["errors"][0], "usage": None}
        else:
            usage = result.get("usage") if isinstance(result, dict) else None
            ended = {"state": "completed", "result": result, "error": None, "usage": usage}
        if self._http is None:
            return
        try:
            async with self._http.post(hook.url, json=told | ended, allow_redirects=False):
                pass
        except (aiohttp.ClientError, TimeoutError):
            return  # whoever is not there misses it, as with the service
