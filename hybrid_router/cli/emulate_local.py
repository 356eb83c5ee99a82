"""Real answers for the emulator: a model file, or the local models of a router.yaml for each operation."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import click
from msgspec import structs

from hybrid_router.app.backends import Backends, close, open_backends, open_worker
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.config.local_schema import LlamaModel
from hybrid_router.config.schema import Config, Loaded
from hybrid_router.core.backend import Backend
from hybrid_router.core.call import Operation
from hybrid_router.emulator.settings import Source
from hybrid_router.engines.extras import BY_ENGINE
from hybrid_router.observe.logs import LogSettings, configure
from hybrid_router.workers.life import Dead

_A_CLOUD = "a cloud: the emulator is one"


@asynccontextmanager
async def local_sources(path: Path) -> AsyncGenerator[Mapping[Operation, Source]]:
    """Who answers which operation, until the block ends.  A model is loaded when the first call wants it.

    Raises:
        click.ClickException: the file cannot be used, or has no model that works.
    """
    loaded = _without_clouds(path)
    with configure(LogSettings(level="warning", calls=False)) as logs:
        opened = await open_backends(loaded, logs)
        try:
            found = sources(loaded.config, opened)
            if not found:
                raise click.ClickException(_nobody(path, opened))
            yield found
        finally:
            await close(opened.parts.values())


async def local_backend(weights: Path) -> Backend:
    """The backend that answers from a GGUF file, its one model named after the file's stem.

    Called inside the running loop; the caller closes the backend.

    Raises:
        click.ClickException: the file cannot be loaded; says why.
    """
    if (lacking := BY_ENGINE["llama"].missing) is not None:
        raise click.ClickException(lacking)
    chosen = LlamaModel()
    worker = open_worker(weights, chosen)
    state = await worker.settled()
    if isinstance(state, Dead):
        await worker.close()
        raise click.ClickException(state.reason)
    return Local({weights.stem: LocalModel(worker, chosen.queue)})


def sources(config: Config, opened: Backends) -> dict[Operation, Source]:
    """For each operation the first model, in the order of the file, that does it and can be used."""
    found: dict[Operation, Source] = {}
    for name, backend in config.backends.items():
        if not isinstance(backend, LocalBackend):
            continue
        runs = opened.by_name[name]
        for model in backend.models:
            if not runs.not_installed(model) and f"{name}/{model}" not in opened.unusable:
                for operation in runs.operations(model):
                    found.setdefault(operation, Source(runs, model))
    return found


def _without_clouds(path: Path) -> Loaded:
    try:
        loaded = load(path, os.environ)
    except ConfigErrors as error:
        raise click.ClickException(str(error)) from error
    clouds = [name for name, each in loaded.config.backends.items() if not isinstance(each, LocalBackend)]
    return structs.replace(loaded, off=loaded.off | dict.fromkeys(clouds, _A_CLOUD))


def _nobody(path: Path, opened: Backends) -> str:
    """Why nobody answers."""
    why = "; ".join(f"{step}: {reason}" for step, reason in opened.unusable.items())
    return f"{path} has no local model that can answer" + (f": {why}" if why else "")
