"""What the service says of its decisions."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import aiohttp
from router_process import Router
from wire_client import Answer

_WITHIN_S = 10.0


async def record_of(router: Router, answer: Answer, headers: Mapping[str, str] | None = None) -> Any:
    """The record of a call, once it is written."""
    address = f"{router.url}/router/decisions/{answer.headers['x-router-decision']}"
    async with asyncio.timeout(_WITHIN_S), aiohttp.ClientSession(headers=headers) as http:
        while True:
            async with http.get(address) as reply:
                if reply.status == 200:
                    return await reply.json()
            await asyncio.sleep(0.02)


async def explained(router: Router, body: Any, headers: Mapping[str, str] | None = None) -> Any:
    """The plan that a call would get."""
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{router.url}/router/explain", json=body, headers=headers) as reply,
    ):
        assert reply.status == 200, await reply.text()
        return await reply.json()
