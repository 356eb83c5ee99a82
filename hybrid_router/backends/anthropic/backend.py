"""Anthropic as a backend."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import ClassVar

from hybrid_router.backends.declared import Declared
from hybrid_router.config.cloud_schema import AnthropicBackend
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendError
from hybrid_router.core.event import Batch
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step


class Anthropic(Declared):
    """Runs calls on Anthropic's Messages API."""

    speaks: ClassVar[frozenset[Operation]] = frozenset({Operation.CHAT})

    def __init__(self, name: str, config: AnthropicBackend, token: Secret) -> None:
        super().__init__(name, config)
        self._config = config
        self._token = token

    async def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        if call.id:
            raise BackendError("not built yet")
        yield []

    async def close(self) -> None:
        """Close every connection."""
