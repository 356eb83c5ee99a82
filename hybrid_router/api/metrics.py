"""GET /metrics: what was counted, for Prometheus and whoever reads its form."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from aiohttp import web

Told: TypeAlias = Callable[[str], tuple[bytes, str]]  # what the reader accepts → body and media type


def nothing(accept: str) -> tuple[bytes, str]:
    """The default `Told`: nothing is counted."""
    return b"", "text/plain; charset=utf-8"


METRICS: web.AppKey[Told] = web.AppKey("metrics", object)  # type: ignore[arg-type]


async def show(request: web.Request) -> web.Response:
    """GET /metrics."""
    body, media_type = request.app[METRICS](request.headers.get("Accept", ""))
    return web.Response(body=body, headers={"content-type": media_type})
