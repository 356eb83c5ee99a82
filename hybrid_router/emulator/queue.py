"""Batches that are answered later: put in with `queueRequest`, asked for by their id."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from typing import Any

from msgspec import Struct, field

from hybrid_router.api.workers_ai.refusal import Refusal

MOST_BYTES = 10_000_000
_KEPT_COUNT = 100


class Job(Struct, kw_only=True, eq=False):
    """One batch, and what of it is done, which one poll at a time goes on with."""

    id: str
    model: str
    requests: list[dict[str, Any]]
    polls_left: int
    responses: list[dict[str, Any]] = field(default_factory=list)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class Queue:
    """The batches of one account, the newest hundred."""

    def __init__(self, polls: int) -> None:
        self._polls = polls
        self._jobs: deque[Job] = deque(maxlen=_KEPT_COUNT)

    def add(self, model: str, requests: Any) -> Job:
        """Take a batch in.

        Raises:
            Refusal: 5006, it is no list of inputs.
        """
        if not isinstance(requests, list) or not requests:
            raise Refusal(5006, "Bad input: Error: required properties at '/' are 'requests'")
        for place, request in enumerate(requests):
            if not isinstance(request, dict):
                raise Refusal(
                    5006, f"Bad input: Error: Type mismatch of '/requests/{place}', 'object' expected"
                )
        job = Job(id=str(uuid.uuid4()), model=model, requests=requests, polls_left=self._polls)
        self._jobs.append(job)
        return job

    def find(self, job_id: Any, model: str) -> Job:
        """The batch of that id.

        Raises:
            Refusal: 5006, there is none for this model (any more).
        """
        for job in self._jobs:
            if job.id == job_id and job.model == model:
                return job
        raise Refusal(5006, f"Bad input: Error: no batch with request_id '{job_id}'")


def waiting(job: Job, status: str) -> dict[str, Any]:
    """What is told of a batch that is on its way."""
    return {"status": status, "request_id": job.id, "model": job.model}
