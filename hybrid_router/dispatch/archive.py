"""Keeping decision records: what the store, the policy in force and the ends of calls have to do together."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import msgspec

from hybrid_router.config.schema import Config
from hybrid_router.core.call import Call
from hybrid_router.core.errors import RouterError
from hybrid_router.dispatch.decision import Ending, row
from hybrid_router.dispatch.features import sought
from hybrid_router.dispatch.record import Record
from hybrid_router.store.decisions import Decisions

_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Archive:
    """Writes a record of every call that was decided, and finds it again.  One for the whole process."""

    def __init__(self, decisions: Decisions, config: Config) -> None:
        self._decisions = decisions
        self.follow(config)

    def follow(self, config: Config) -> None:
        """Keep what this configuration's rules look at from now on, and as long as it says."""
        self._looks_for = sought(config)
        self._prompts = config.store.prompts
        self._decisions.keep_days = config.store.keep_days

    def keep(self, call: Call, record: Record, *, status: int, error: str | None, duration_s: float) -> None:
        """Have a call's record written, once it has ended.  Never waits, never raises.

        Args:
            status, error, duration_s: see `api.answers.Ended`.
        """
        ending = Ending(
            at_s=time.time() - duration_s,
            started_s=asyncio.get_running_loop().time() - duration_s,
            duration_s=duration_s,
            status=status,
            error=error,
        )
        self._decisions.add(row(call, record, ending, self._looks_for, prompts=self._prompts))

    async def find(self, decision_id: str, principal: str) -> bytes | None:
        """A principal's record as JSON, without the call's text; None: there is none.

        Raises:
            RouterError: the store could not be read.
        """
        try:
            document = await self._decisions.find(decision_id, principal)
        except OSError as error:
            raise RouterError("the store could not be read", detail=str(error)) from error
        return None if document is None else without_text(document)


def without_text(document: bytes) -> bytes:
    """A record as it is shown: text is kept for `replay` alone."""
    fields: dict[str, Any] = _FIELDS.decode(document)
    fields.pop("text", None)
    return msgspec.json.encode(fields)
