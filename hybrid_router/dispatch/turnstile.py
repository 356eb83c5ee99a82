"""The real gate: one call's attempts go through it one by one.  See `dispatch.gate.Gate`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Mapping

from msgspec.structs import replace

from hybrid_router.core.backend import EVEN, Backend
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendError, BackendTimeout, Benched, NoBackend, QueueFull, RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step
from hybrid_router.dispatch import interpreting, redaction
from hybrid_router.dispatch.affinity import session
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.routing.speed import room_s

OnAttempt = Callable[[Call, Record, Attempt], None]


class Turnstile:
    """Asks and tells whoever knows something, for the attempts of one call."""

    __slots__ = ("_backends", "_inside", "_knowledge", "_on_attempt", "_record", "_retries")

    def __init__(
        self,
        backends: Mapping[str, Backend],
        knowledge: Knowledge,
        record: Record,
        on_attempt: OnAttempt,
    ) -> None:
        self._backends = backends
        self._knowledge = knowledge
        self._record = record
        self._on_attempt = on_attempt
        self._inside: list[Attempt] = []  # those that entered: at most two, by a hedge
        self._retries = False  # holds a place for a retry

    def begin(self) -> None:
        """The call runs."""
        self._knowledge.retries.begin_call()

    def end(self) -> None:
        """The call is over."""
        self._end_retry()
        self._knowledge.retries.end_call()

    def continues(self, call: Call, step: Step) -> bool:
        return self._backends[step.backend].continues(step.model, call)

    def take_retry(self) -> bool:
        # Now, not when its attempt begins: those are over in no time where a backend refuses at once, and
        # any number of retries would fit through one place.
        self._retries = self._retries or self._knowledge.retries.begin_retry()
        return self._retries

    async def enter(self, call: Call, step: Step, row: Attempt) -> None:
        backend, knowledge = self._backends[step.backend], self._knowledge
        self._keep_home(step, backend)
        if call.extra:
            self._record.ignored = tuple(sorted(call.extra.keys() - backend.extra_fields))
        why_not = knowledge.health.enter(step.backend, step.model, time.monotonic())
        if why_not is not None:
            self._end_retry()
            raise Benched(why_not)
        self._record.neurons_left = None
        if not backend.local:
            await self._reserve(call, step, row)
        prompt_tokens = self._record.plan.prompt_tokens
        load, max_tokens = backend.load(step.model), self._max_tokens(call, step)
        knowledge.speeds.began(row, load, prompt_tokens, max_tokens, even=call.operation in EVEN)
        self._inside.append(row)

    def _max_tokens(self, call: Call, step: Step) -> int | None:
        """Tokens that a choice of the answer may have, by its client's wish or the backend's default."""
        if call.sampling.max_tokens is not None or self._record.facts is None:
            return call.sampling.max_tokens
        return self._record.facts.default_max_tokens.get(step.backend)

    def _keep_home(self, step: Step, backend: Backend) -> None:
        """The plan holds no such step; should it ever, the call ends here and not at a cloud."""
        if self._record.plan.local_only and not backend.local:
            raise NoBackend(f"{step.name} is not on this machine, where a rule keeps this call")

    async def _reserve(self, call: Call, step: Step, row: Attempt) -> None:
        plan, knowledge = self._record.plan, self._knowledge
        try:
            await knowledge.meter.reserve(
                call, step, row, plan.prompt_tokens, may_use_reserve=plan.treatment.reserve
            )
        except (BackendError, asyncio.CancelledError):
            knowledge.health.leave(step.backend, step.model, time.monotonic(), None, cancelled=True)
            self._end_retry()
            raise
        facts = self._record.facts
        allowance = None if facts is None else facts.allowances.get(step.backend)
        self._record.neurons_left = None if allowance is None else allowance.neurons

    def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        if interpreting.is_needed(self._backends[step.backend], call, step):
            return interpreting.run(lambda chat: self._asked(chat, step), call, step)
        return self._asked(call, step)

    def _asked(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        backend, record = self._backends[step.backend], self._record
        if backend.local:
            return backend.run(call, step)
        if record.session is None and record.plan.treatment.affinity:
            record.session = session(call, self._knowledge.salt)
        asked = call if record.session is None else replace(call, session=record.session)
        if record.plan.treatment.redact:
            return redaction.run(backend, asked, step, record.plan.treatment.redact)
        return backend.run(asked, step)

    def leave(self, call: Call, step: Step, row: Attempt, error: RouterError | None) -> None:
        if row in self._inside:
            self._inside.remove(row)
            if isinstance(error, QueueFull) and error.retry_after_s is None:
                load = self._backends[step.backend].load(step.model)
                error.retry_after_s = room_s(self._knowledge.speeds.by_step.get(step.name), load)
            self._learn(call, step, row, error)
        self._on_attempt(call, self._record, row)

    def _learn(self, call: Call, step: Step, row: Attempt, error: RouterError | None) -> None:
        knowledge, given_up = self._knowledge, row.outcome == "cancelled" or row.out_of_time
        backend = self._backends[step.backend]
        no_sign = given_up or _waited_in_vain(row, backend)
        knowledge.health.leave(
            step.backend, step.model, time.monotonic(), error, cancelled=no_sign, began_s=row.started_s
        )
        self._end_retry()
        if not backend.local:
            if not given_up:
                knowledge.network.note(step.backend, error)
            row.neurons = knowledge.meter.settle(call, row, error)
        knowledge.speeds.ended(row, local=backend.local, parallel=backend.load(step.model).parallel)
        if row.outcome == "answered" and row.usage is not None:
            knowledge.affinity.note(call, step.name, row.usage)

    def _end_retry(self) -> None:
        """Give the place for a retry back, if there is one: it was tried, or never will be."""
        if self._retries:
            self._retries = False
            self._knowledge.retries.end_retry()


def _waited_in_vain(row: Attempt, backend: Backend) -> bool:
    """Whether an attempt was over before its turn came: a model that is busy with others' long tasks is well.

    One that is stuck is found by its worker's heartbeat.
    """
    if not backend.local or row.first_event_s is not None or row.error != BackendTimeout.code:
        return False
    parallel = backend.load(row.model).parallel  # where the model was loaded meanwhile, this shows only now
    return row.queued or (parallel is not None and row.depth > parallel)
