"""The composition root: configuration → backends → service → listener.  The only place that knows all."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from msgspec import Struct, field, structs

from hybrid_router import __version__
from hybrid_router.api.answers import Ended, Refused
from hybrid_router.api.runner import Listener
from hybrid_router.api.server import create_application
from hybrid_router.api.sockets import bound, release
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config import schema
from hybrid_router.config.schema import Loaded, LocalBackend, WorkersAIBackend
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Call, Operation
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.service import Service
from hybrid_router.engines.task import Settings
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.weights import weights
from hybrid_router.observe.bridge import PerSecond
from hybrid_router.observe.lag import LagWatch
from hybrid_router.observe.logs import Logs
from hybrid_router.routing.policy import compile_policy
from hybrid_router.workers.child import OnLine
from hybrid_router.workers.life import Dead, Loading, Resident, State
from hybrid_router.workers.worker import OnState, Worker, ignore

_PATHS = {Operation.CHAT: "/v1/chat/completions", Operation.COMPLETE: "/v1/completions"}
_REFUSED_PER_SECOND = 10  # of each error; so a flood can neither fill the log nor hide another error in it
_ALARMING = frozenset({401, 403, 421})  # somebody knocks who may not come in, or was not let in by mistake
NO_ENGINE = "llama-cpp-python is not installed: install hybrid-router with its `llama` extra"


class Running(Struct, kw_only=True):
    """A router that answers.

    Attributes:
        url: where.
        service: what answers.
        workers: `backend/model` → the worker that keeps it.
        off: backend → why it is off.
    """

    url: str
    service: Service
    workers: dict[str, Worker]
    off: dict[str, str]

    async def settled(self) -> None:
        """Wait until every preloaded model is resident, or dead."""
        await asyncio.gather(*(worker.settled() for worker in self.workers.values()))


class Backends(Struct, kw_only=True):
    """All that can run calls, and what cannot."""

    by_name: dict[str, Backend] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)

    async def close(self) -> None:
        """Close everything that was opened, even if opening the rest failed."""
        # One after the other: a backend closes its workers too, and two at once would cancel one another.
        await asyncio.gather(*(worker.close() for worker in self.workers.values()))
        await asyncio.gather(*(backend.close() for backend in self.by_name.values()))


@asynccontextmanager
async def running(loaded: Loaded, logs: Logs) -> AsyncIterator[Running]:
    """Serve a configuration until the context is left; then drain and let go of everything.

    Enters when requests are answered; who connected before that has waited.  Models may still be loading
    (`Running.settled`).

    Raises:
        OSError: the address is taken, or not ours.
    """
    async with AsyncExitStack() as stack:
        sockets = await bound(loaded.config.server.listen)  # first: no model loads for a taken address
        stack.callback(release, sockets)
        backends = Backends(off=dict(loaded.off))
        stack.push_async_callback(backends.close)
        await _open(backends, loaded, logs)
        service = Service(compile_policy(loaded.config), backends.by_name, backends.off, logs.attempt_line)
        application = create_application(
            service,
            loaded.config.server,
            __version__,
            on_call=partial(_call_line, logs),
            on_refusal=partial(_refused_line, logs, PerSecond(_REFUSED_PER_SECOND)),
        )
        listener = await stack.enter_async_context(Listener(application, sockets))
        watch = asyncio.create_task(LagWatch(logs.stall_line).run())
        stack.callback(watch.cancel)
        yield Running(url=listener.url, service=service, workers=backends.workers, off=backends.off)


async def _open(opened: Backends, loaded: Loaded, logs: Logs) -> None:
    """Make every backend that is not off, and start the workers."""
    for name, config in loaded.config.backends.items():
        if name in opened.off:
            continue
        if isinstance(config, WorkersAIBackend):
            opened.by_name[name] = _workers_ai(name, config, loaded)
        elif importlib.util.find_spec("llama_cpp") is None:
            opened.off[name] = NO_ENGINE
        else:
            opened.by_name[name] = await _local(name, config, loaded, logs, opened.workers)


def _workers_ai(name: str, config: WorkersAIBackend, loaded: Loaded) -> WorkersAI:
    account = loaded.secrets.get(f"{name}.account_id") or config.account_id
    if isinstance(account, schema.SecretSource):
        raise TypeError(f"{name} has no account and is not off")
    return WorkersAI(name, config, account, loaded.secrets[f"{name}.token"], catalogue.load().by_id())


async def _local(
    name: str, config: LocalBackend, loaded: Loaded, logs: Logs, workers: dict[str, Worker]
) -> Local:
    """Verify the weights, start a worker for each model that has them."""
    models, missing = {}, {}
    manifest = Path(loaded.path).parent / loaded.config.manifest
    for model, chosen in config.models.items():
        try:
            path = await asyncio.to_thread(weights, manifest, chosen.weights or model)
        except ModelFileError as error:
            missing[model] = error.message
            logs.logger.warning(
                "model file unusable", model=f"{name}/{model}", message=error.message, detail=error.detail
            )
            continue
        worker = open_worker(
            path,
            chosen,
            on_state=partial(_state_line, logs, f"{name}/{model}"),
            on_line=partial(_child_line, logs, f"{name}/{model}"),
        )
        workers[f"{name}/{model}"] = worker
        models[model] = LocalModel(worker, chosen.parallel + chosen.queue)
    return Local(models, missing)


def open_worker(
    path: Path, chosen: schema.LocalModel, *, on_state: OnState = ignore, on_line: OnLine = ignore
) -> Worker:
    """Start the worker of one model."""
    settings = Settings(
        path=str(path.absolute()),
        context=chosen.context,
        parallel=chosen.parallel,
        threads=chosen.threads or len(os.sched_getaffinity(0)),
        prefill_chunk=chosen.prefill_chunk,
        gpu_layers=chosen.gpu_layers,
        busy_wait=chosen.busy_wait,
    )
    worker = Worker(settings, on_state=on_state, on_line=on_line)
    worker.start(load=chosen.preload)
    return worker


def _child_line(logs: Logs, name: str, line: str) -> None:
    logs.logger.debug("worker says", model=name, line=line)


def _state_line(logs: Logs, name: str, state: State) -> None:
    match state:
        case Loading():
            logs.logger.info("model loading", model=name)
        case Resident(opened):
            logs.logger.info("model resident", model=name, **structs.asdict(opened))
        case Dead(reason, until_s):
            logs.logger.error("worker died", model=name, reason=reason, restarts=until_s is not None)


def _call_line(logs: Logs, call: Call, record: Record | None, ended: Ended) -> None:
    logs.call_line(
        request_id=ended.request_id,
        method="POST",
        path=_PATHS[call.operation],
        status=ended.status,
        duration_s=ended.duration_s,
        principal=call.principal,
        alias=call.alias,
        decision=None if record is None else record.id,
        error=ended.error,
    )


def _refused_line(logs: Logs, per_second: PerSecond, refused: Refused) -> None:
    held_back_count = per_second.admit(refused.error)
    if held_back_count is None:
        return
    fields = {name: value for name, value in structs.asdict(refused).items() if value is not None}
    if held_back_count:
        fields["held_back_count"] = held_back_count
    write = logs.logger.warning if refused.status in _ALARMING else logs.logger.info
    write("refused", **fields)
