"""Models on this machine: calls become tasks of a worker, its outputs become events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.backends.progress import Tidings
from hybrid_router.core.backend import IDLE, Load
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import (
    BackendError,
    BackendTimeout,
    BackendUnavailable,
    Benched,
    BrokenByCall,
    CallRefused,
    ContextOverflow,
    NotAble,
    PrefillRefused,
    QueueFull,
    RouterError,
    StreamBroken,
    UnsupportedParameter,
)
from hybrid_router.core.event import Batch, says_something
from hybrid_router.core.step import Step
from hybrid_router.engines.settings import AnySettings
from hybrid_router.engines.task import PREFILL_REFUSED, WORKER_BUSY, Refused, Task
from hybrid_router.workers.answer import PendingAnswer, TaskFailed, WorkerGone
from hybrid_router.workers.child import Child
from hybrid_router.workers.life import Resident
from hybrid_router.workers.protocol import HatchFull, ProtocolError
from hybrid_router.workers.worker import Worker, WorkerDown, WorkerFull

_CHOSEN = frozenset({Feature.ADAPTERS})  # what the configuration alone decides


class LocalModel(Struct, frozen=True):
    """A worker, and how many calls may wait for a place in it."""

    worker: Worker
    queue_count: int


class Missing(Struct, frozen=True):
    """A model that cannot be run.

    Attributes:
        why: in one sentence with what to do.
        operations: what it would be asked.
        extra: its engine is not installed.
    """

    why: str
    operations: frozenset[Operation]
    extra: bool = False


class Local:
    """The `local` backend.  See `core.backend.Backend`."""

    local = True
    extra_fields: frozenset[str] = frozenset()

    def __init__(
        self,
        models: Mapping[str, LocalModel],
        missing: Mapping[str, Missing] = MappingProxyType({}),
    ) -> None:
        """`models` can be run; `missing` says of the others why they cannot."""
        self._models = models
        self._missing = missing

    def operations(self, model: str) -> frozenset[Operation]:
        """What router.yaml says the model is for."""
        known = self._models.get(model)
        return self._missing[model].operations if known is None else known.worker.settings.operations

    def features(self, model: str) -> frozenset[Feature]:
        """What the model says once it is resident; before, what its settings let one hope for."""
        known = self._models.get(model)
        if known is None:
            return frozenset(Feature)
        settings, state = known.worker.settings, known.worker.state
        if isinstance(state, Resident):
            return state.opened.can | (settings.hoped_for & _CHOSEN)
        return settings.hoped_for

    def down(self, model: str) -> str | None:
        if model in self._missing:
            return self._missing[model].why
        worker = self._models[model].worker
        why = worker.why_down()
        return None if why is None else _without_folders(why, worker.settings)

    def not_installed(self, model: str) -> bool:
        return model in self._missing and self._missing[model].extra

    def continues(self, model: str, call: Call) -> bool:
        """From any text, as raw tokens behind the prompt, of an answer with one choice."""
        return call.choices_count == 1

    def context(self, model: str) -> int | None:
        """Known once the model is resident."""
        state = self._models[model].worker.state if model in self._models else None
        return state.opened.context if isinstance(state, Resident) else None

    def load(self, model: str) -> Load:
        if model not in self._models:
            return IDLE
        return self._models[model].worker.load()

    def want(self, model: str) -> None:
        """Load a model when its turn comes.  See `core.backend.Loader`."""
        if model in self._models:
            self._models[model].worker.want()

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        model = self._models[step.model]
        child = await _child(model, step)
        task_id, answer = _begin(child, call, step)
        clock = asyncio.get_running_loop().time
        tidings = Tidings(call, step, clock())
        try:
            async for batch in _events(answer, step):
                tidings.note(batch, clock())
                yield batch
        finally:
            child.cancel(task_id)

    async def close(self) -> None:
        await asyncio.gather(*(model.worker.close() for model in self._models.values()))


async def _child(model: LocalModel, step: Step) -> Child:
    """The child that will answer, waiting no longer than `load_s`.  When a place will be free where none is
    now is for those to say who have measured calls."""
    try:
        async with asyncio.timeout(step.timeouts.load_s):
            return await model.worker.child(model.queue_count)
    except WorkerFull as error:
        raise QueueFull(f"{step.name} has {error.count} calls already; raise `queue` or try later") from error
    except TimeoutError as error:
        raise BackendTimeout(f"{step.name} is still loading after {step.timeouts.load_s:g} s") from error
    except WorkerDown as error:
        said = f"{step.name}: {_without_folders(str(error), model.worker.settings)}"
        if error.wait_s is None:  # trying again would give the same
            raise Benched(said) from error
        raise BackendUnavailable(said, retry_after_s=error.wait_s) from error


def _without_folders(why: str, settings: AnySettings) -> str:
    """As clients are told it: where files are is the log's."""
    place = Path(settings.path)
    for named_place in (place, place.parent):  # an engine may be given a file, and speak of its folder
        why = why.replace(f"{named_place}: ", "")
        if len(named_place.parent.parts) > 1:
            why = why.replace(f"{named_place.parent}/", "")
    return why


def _begin(child: Child, call: Call, step: Step) -> tuple[int, PendingAnswer]:
    try:
        return child.begin(lambda task_id: task_of(task_id, call, step))
    except WorkerGone as error:
        raise BackendUnavailable(f"{step.name}: {error}") from error
    except HatchFull as error:
        raise QueueFull(f"{step.name}: {error}; try later") from error
    except ProtocolError as error:
        raise CallRefused(f"the call is too large for {step.name}", detail=str(error)) from error


def task_of(task_id: int, call: Call, step: Step) -> Task:
    """What the engine is asked."""
    return Task(
        id=task_id,
        operation=call.operation,
        messages=call.messages,
        prompts=call.prompts,
        sampling=call.sampling,
        n=call.n,
        written=call.written,
        principal=call.principal,
        private=step.private,
        tools=call.tools,
        tool_choice=call.tool_choice,
        parallel_tool_calls=call.parallel_tool_calls,
        response_format=call.response_format,
        top_logprobs=call.top_logprobs,
        echo=call.echo,
        suffix=call.suffix,
        query=call.query,
        truncate=call.truncate,
        reasoning_effort=call.reasoning_effort,
        reasoning_tokens=call.reasoning_tokens,
        template_values=call.template_values,
        adapters=call.adapters,
        goes_on=call.goes_on,
        ask=call.ask,
        uploads=call.uploads,
    )


async def _events(answer: PendingAnswer, step: Step) -> AsyncGenerator[Batch]:
    """The answer's batches, with the worker's failures named for the caller."""
    started = False
    try:
        async for batch in answer.batches():
            started = started or says_something(batch)
            yield batch
    except WorkerGone as error:
        if started:
            raise StreamBroken(f"{step.name}: {error}") from error
        raise BackendUnavailable(f"{step.name}: {error}") from error
    except TaskFailed as error:
        raise named(error.refused, step, started=started) from error


def named(refused: Refused, step: Step, *, started: bool) -> RouterError:
    """The error a refusal means."""
    refusal = _refusal(refused, step)
    if not started:
        return refusal
    if refused.by_call:
        return BrokenByCall(refusal)
    return StreamBroken(f"{step.name}: {refused.message}", code=refused.code)


def _refusal(refused: Refused, step: Step) -> RouterError:
    """The error of an answer that has not begun."""
    if refused.code == PREFILL_REFUSED:
        return PrefillRefused(f"{step.name}: {refused.message}")
    if refused.code == WORKER_BUSY:
        return QueueFull(f"{step.name}: {refused.message}; try later")
    if refused.code == ContextOverflow.code:
        return ContextOverflow(refused.message, param=refused.param)
    if refused.code == UnsupportedParameter.code:
        return NotAble(f"{step.name}: {refused.message}", param=refused.param)
    if refused.by_call:
        return CallRefused(refused.message, code=refused.code, param=refused.param)
    return BackendError(f"{step.name}: {refused.message}", code=refused.code)
