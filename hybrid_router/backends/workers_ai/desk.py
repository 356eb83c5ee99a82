"""Requests about an account that are no calls: each is sent once and answered whole, or named as failed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeVar

from msgspec.structs import replace

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.workers_ai.tasks.sending import value
from hybrid_router.backends.workers_ai.upstream import Upstream
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.errors import BackendTimeout
from hybrid_router.core.secret import Secret

T = TypeVar("T")
WITHIN_S = 60.0
_CONNECT_S = 10.0


class Desk:
    """The account's side of the API: below `/accounts/{id}/ai/`, never through a gateway.

    Args:
        within_s: how long an answer may take, unless the request says otherwise.
    """

    def __init__(
        self, config: WorkersAIBackend, account_id: str, token: Secret, *, within_s: float = WITHIN_S
    ) -> None:
        self._upstream = Upstream(replace(config, gateway=None), account_id, token)
        self._within_s = within_s

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._upstream.close()

    async def ask(self, errand: Errand, decode: Callable[[bytes], T], *, within_s: float | None = None) -> T:
        """Send one request and read its reply.

        Args:
            decode: what the reply's body says; it raises `Unreadable`.

        Raises:
            BackendTimeout: there was no answer in time.
            RouterError: see `backends.errand.Line.run`.
        """
        wait_s = self._within_s if within_s is None else within_s
        send = lambda errand, reader: self._upstream.errand(errand, reader, _CONNECT_S)  # noqa: E731
        try:
            async with asyncio.timeout(wait_s):
                found, _ = await value(send, errand, decode)
        except TimeoutError:
            raise BackendTimeout(f"Workers AI gave no answer in {wait_s:.0f} s") from None
        return found
