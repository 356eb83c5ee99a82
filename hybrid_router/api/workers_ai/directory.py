"""Where requests find what is known of Cloudflare's models."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from hybrid_router.catalogue.directory import Directory

DIRECTORY: Final = web.AppKey("directory", Directory)
