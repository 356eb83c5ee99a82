"""Everything that can run calls, made from a configuration, or taken over from the one before."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Mapping
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec
from msgspec import Struct, field, structs

from hybrid_router.app import lines
from hybrid_router.app.checks import Checks
from hybrid_router.app.model_files import File, ModelFiles, gathered, operations, settings, terms
from hybrid_router.app.rooms import opened_house
from hybrid_router.backends.clouds import cloud
from hybrid_router.backends.declared import Declared
from hybrid_router.backends.local import Local, LocalModel, Missing
from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.minutes import Minutes, limits
from hybrid_router.catalogue.directory import Directory
from hybrid_router.config.backend_schema import LocalBackend, Waits
from hybrid_router.config.cloud_schema import BackendConfig, CloudBackend
from hybrid_router.config.local_schema import LocalModel as LocalModelConfig
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import state_folder
from hybrid_router.core.backend import Backend
from hybrid_router.engines.extras import BY_ENGINE
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.stamps import Stamp
from hybrid_router.observe.logs import Logs
from hybrid_router.workers.child import OnLine
from hybrid_router.workers.house import House
from hybrid_router.workers.life import Absent, Dead
from hybrid_router.workers.worker import OnState, Worker, ignore

Identity: TypeAlias = tuple[object, ...]


class Part(Protocol):
    """Something that lives until it is closed: a worker, or the connections to a cloud."""

    async def close(self) -> None: ...


class Backends(Struct, kw_only=True):
    """All that can run calls, and what cannot.

    Attributes:
        by_name: who runs calls.
        workers: `backend/model` → the worker that keeps it.
        off: backend → why it is off.
        unusable: `backend/model` → why its file cannot be used.
        house: where the workers live; the same for every configuration of a process.
        minutes: what clouds' accounts were asked in the last minute; likewise.
        directory: what is known of Workers AI's models; likewise, and read anew for each configuration.
        parts: what has to be closed, by all that it was made from: what is made from the same is the same.
        locals: local backend → what it was made from.
        verified: model files as they were when they were found to be the manifest's.
    """

    by_name: dict[str, Backend] = field(default_factory=dict)
    workers: dict[str, Worker] = field(default_factory=dict)
    off: dict[str, str] = field(default_factory=dict)
    unusable: dict[str, str] = field(default_factory=dict)
    house: House = field(default_factory=House)
    minutes: Minutes = field(default_factory=Minutes)
    directory: Directory = field(default_factory=Directory)
    parts: dict[Identity, Part] = field(default_factory=dict)
    locals: dict[str, tuple[object, ...]] = field(default_factory=dict)
    verified: set[Stamp] = field(default_factory=set)

    def without(self, others: Iterable[Backends]) -> list[Part]:
        """The parts that none of the others has too."""
        shared = {id(part) for other in others for part in other.parts.values()}
        return [part for part in self.parts.values() if id(part) not in shared]

    def fresh_workers(self, before: Backends) -> dict[str, Worker]:
        """The workers that were started for this configuration."""
        old = {id(worker) for worker in before.workers.values()}
        return {name: worker for name, worker in self.workers.items() if id(worker) not in old}


async def close(parts: Iterable[Part]) -> None:
    """Close parts, all at once."""
    await asyncio.gather(*(part.close() for part in parts))


async def open_backends(
    loaded: Loaded,
    logs: Logs,
    before: Backends | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Backends:
    """Make every backend that is not off, and start the workers.

    What is made from the same as something in `before` is taken over as it is: its model stays loaded, its
    connections stay open.  If this fails, what it opened itself is closed again.  `environ` says where the
    state folder is.
    """
    folder = state_folder(loaded, environ)
    if before is None:
        before = Backends(house=await asyncio.to_thread(opened_house, loaded.config.residency))
    directory, minutes = before.directory, before.minutes
    directory.renew(folder)
    minutes.follow(limits(directory.catalogue))
    opened = Backends(off=dict(loaded.off), house=before.house, minutes=minutes, directory=directory)
    opening = _Opening(loaded, logs, before, opened, folder)
    try:
        for name, config in loaded.config.backends.items():
            if name not in opened.off:
                await opening.open(name, config)
    except BaseException:
        await close(opened.without([before]))
        raise
    return opened


class _Opening:
    """Makes the backends of one configuration, one after the other."""

    def __init__(self, loaded: Loaded, logs: Logs, before: Backends, opened: Backends, folder: Path) -> None:
        self._folder = folder
        self._loaded = loaded
        self._logs = logs
        self._before = before
        self._opened = opened
        self._listed = (Path(loaded.path).parent / loaded.config.manifest).absolute()

    async def open(self, name: str, config: BackendConfig) -> None:
        """Make one backend, or say why it is off."""
        opened = self._opened
        if isinstance(config, LocalBackend):
            opened.by_name[name] = await self._local(name, config)
        else:
            opened.by_name[name] = self._cloud(name, config)

    def _cloud(self, name: str, config: CloudBackend) -> WorkersAI | Declared:
        prefix = f"{name}."
        secrets = {
            key.removeprefix(prefix): secret
            for key, secret in self._loaded.secrets.items()
            if key.startswith(prefix)
        }
        # Waits are the policy's: other ones need no other connections.
        written = msgspec.json.encode(structs.replace(config, timeouts=Waits()))
        directory = self._opened.directory
        identity = (name, written, directory.edition, *sorted(secrets.items(), key=itemgetter(0)))
        known = self._before.parts.get(identity)
        made = (
            known
            if isinstance(known, WorkersAI | Declared)
            else cloud(name, config, secrets, directory.models, self._opened.minutes)
        )
        self._opened.parts[identity] = made
        return made

    async def _local(self, name: str, config: LocalBackend) -> Local:
        """Verify the weights, have a worker for each model that has them."""
        models: dict[str, LocalModel] = {}
        missing: dict[str, Missing] = {}
        for model, chosen in config.models.items():
            step, asked = f"{name}/{model}", operations(chosen)
            if (lacking := BY_ENGINE[chosen.engine].missing) is not None:
                missing[model] = Missing(lacking, asked, extra=True)
                self._opened.unusable[step] = lacking
                self._logs.logger.warning("engine not installed", model=step, message=lacking)
                continue
            checks = Checks(self._listed, self._before.verified)
            try:
                files = await asyncio.to_thread(gathered, model, chosen, checks.verified)
            except ModelFileError as error:
                missing[model] = Missing(error.message, asked)
                self._opened.unusable[step] = error.message
                self._logs.logger.warning(
                    "model file unusable", model=step, message=error.message, detail=error.detail
                )
                continue
            checks.keep(files.stamps)
            self._opened.verified |= checks.stamps
            worker = self._worker(step, files, chosen, checks)
            models[model] = LocalModel(worker, chosen.queue)
        made_from = self._opened.locals[name] = (models, missing)
        known = self._before.by_name.get(name)
        if isinstance(known, Local) and self._before.locals.get(name) == made_from:
            return known
        return Local(models, missing)

    def _worker(self, name: str, files: ModelFiles, chosen: LocalModelConfig, checks: Checks) -> Worker:
        opening = settings(files, chosen, self._folder)
        identity = (name, opening, files.identity)
        known = self._before.parts.get(identity)
        if isinstance(known, Worker) and _is_of_use(known, chosen):
            worker = known
            worker.follow(terms(chosen))
        else:
            worker = Worker(
                opening,
                on_state=partial(lines.state_line, self._logs, name),
                on_line=partial(lines.child_line, self._logs, name),
                house=self._opened.house,
                terms=terms(chosen),
                name=name,
                unfit=checks.unfit,
            )
            worker.start(load=chosen.preload)
        self._opened.parts[identity] = self._opened.workers[name] = worker
        return worker


def _is_of_use(worker: Worker, chosen: LocalModelConfig) -> bool:
    """Not if it gave up: a new one may fare better.  Not if nobody asked it to load what is to be loaded."""
    if isinstance(worker.state, Dead):
        return worker.state.until_s is not None
    return not (chosen.preload and isinstance(worker.state, Absent))


def open_worker(
    path: Path, chosen: LocalModelConfig, *, on_state: OnState = ignore, on_line: OnLine = ignore
) -> Worker:
    """Start the worker of one model."""
    opening = settings(ModelFiles(weights=File(path)), chosen, None)
    worker = Worker(opening, on_state=on_state, on_line=on_line)
    worker.start(load=chosen.preload)
    return worker
