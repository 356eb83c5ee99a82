"""An emulator, and the backend in front of it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from scripted_cloud import make

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import Settings


@asynccontextmanager
async def emulating(
    settings: Settings | None = None, **config: Any
) -> AsyncIterator[tuple[WorkersAI, Running]]:
    """A backend that asks an emulator, and that."""
    async with serve(settings or Settings()) as running:
        backend = make(running.base_url, account=running.account_id, token=running.token, **config)
        try:
            yield backend, running
        finally:
            await backend.close()
