"""Everything that can run calls, made from a configuration."""

from __future__ import annotations

import asyncio
import importlib.util
import os
from functools import partial
from pathlib import Path

from msgspec import Struct, field

from hybrid_router.app import lines
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config import schema
from hybrid_router.config.schema import Loaded, LocalBackend, WorkersAIBackend
from hybrid_router.core.backend import Backend
from hybrid_router.engines.task import Settings
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.weights import weights
from hybrid_router.observe.logs import Logs
from hybrid_router.workers.child import OnLine
from hybrid_router.workers.worker import OnState, Worker, ignore

NO_ENGINE = "llama-cpp-python is not installed: install hybrid-router with its `llama` extra"


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


async def open_backends(opened: Backends, loaded: Loaded, logs: Logs) -> None:
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
            on_state=partial(lines.state_line, logs, f"{name}/{model}"),
            on_line=partial(lines.child_line, logs, f"{name}/{model}"),
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
