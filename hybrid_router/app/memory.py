"""What outlives a configuration, and partly the process: the store, and what is learned from calls."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from hybrid_router.api.answers import Ended
from hybrid_router.catalogue.workers_ai import Catalogue
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import store_path
from hybrid_router.core.call import Call
from hybrid_router.core.notes import Notes
from hybrid_router.dispatch.archive import Archive
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.meter import Meter
from hybrid_router.dispatch.metered import metered
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.speeds import Speeds
from hybrid_router.observe.logs import Logs
from hybrid_router.routing.rates import rates
from hybrid_router.store.database import Store, open_store
from hybrid_router.store.decisions import OnLost

SAVE_EVERY_S = 60.0
_PORTS = {"http": 80, "https": 443}
_SALT_KIND, _SALT_KEY, _SALT_BYTES = "salt", "session", 32


class Memory:
    """All of it.

    Attributes:
        knowledge: what attempts teach.
        archive: decision records; None without a store.
        lost_count: records that could not be written.
    """

    def __init__(self, knowledge: Knowledge, archive: Archive | None) -> None:
        self.knowledge = knowledge
        self.archive = archive
        self.lost_count = 0
        self._loaded: Loaded | None = None

    def follow(self, loaded: Loaded, known: Catalogue) -> None:
        """Remember for this configuration from now on.  `known`: Workers AI's models, for their prices.

        Whoever changes a backend has mended something: it is asked again, whatever it said before.
        """
        config, before = loaded.config, self._loaded
        self._loaded = loaded
        self.knowledge.network.follow(_addresses(loaded))
        self.knowledge.meter.configure(metered(loaded), rates(config, known))
        if self.archive is not None:
            self.archive.follow(config)
        for name in config.backends:
            if before is None or _is_changed(name, before, loaded):
                self.knowledge.health.forget(name)

    def keep(self, call: Call, record: Record | None, ended: Ended) -> None:
        """A call has ended.  Fits `OnCall`."""
        if self.archive is not None and record is not None:
            self.archive.keep(
                call, record, status=ended.status, error=ended.error, duration_s=ended.duration_s
            )


def _is_changed(name: str, before: Loaded, now: Loaded) -> bool:
    """Whether a backend, or a secret of its own, is another one now."""
    secrets_before, secrets_now = (
        {key: secret.reveal() for key, secret in loaded.secrets.items() if key.startswith(f"{name}.")}
        for loaded in (before, now)
    )
    return before.config.backends.get(name) != now.config.backends[name] or secrets_before != secrets_now


def _addresses(loaded: Loaded) -> dict[str, tuple[str, int]]:
    """Host and port that each cloud is called at."""
    found = {}
    for name, backend in loaded.config.backends.items():
        if isinstance(backend, LocalBackend):
            continue
        base_url = backend.base_url
        if isinstance(backend, WorkersAIBackend):
            gateway = backend.gateway
            if gateway is not None and gateway.through == "host":
                base_url = gateway.base_url
        address = urlsplit(base_url)
        found[name] = address.hostname or "", address.port or _PORTS[address.scheme]
    return found


@asynccontextmanager
async def remembered(loaded: Loaded, logs: Logs, environ: Mapping[str, str]) -> AsyncIterator[Memory]:
    """Open what is remembered, and write it down at the end.

    Without a store the router serves all the same, forgets with its process, and says so.
    """
    memory: Memory | None = None

    def lost(count: int, why: str) -> None:
        logs.logger.warning("decision records lost", count=count, reason=why)
        if memory is not None:
            memory.lost_count += count

    store = await _opened(loaded, logs, environ, lost)
    notes = None if store is None else store.notes
    knowledge = await _knowledge(notes, logs)
    archive = None if store is None else Archive(store.decisions, loaded.config)
    saving = asyncio.create_task(_save_now_and_then(knowledge, logs))
    try:
        memory = Memory(knowledge, archive)
        yield memory
    finally:
        saving.cancel()
        await asyncio.wait((saving,))
        await knowledge.network.close()
        await _save(knowledge, logs)
        await knowledge.meter.close()
        if store is not None:
            await store.close()


async def _opened(loaded: Loaded, logs: Logs, environ: Mapping[str, str], lost: OnLost) -> Store | None:
    path = store_path(loaded, environ)
    try:
        return await open_store(path, keep_days=loaded.config.store.keep_days, on_lost=lost)
    except OSError as error:
        logs.logger.warning("no store", path=str(path), reason=str(error))
        return None


async def _knowledge(notes: Notes | None, logs: Logs) -> Knowledge:
    """What earlier processes wrote down."""

    def trouble(why: str) -> None:
        logs.logger.warning("neurons not noted", reason=why)

    meter, speeds = Meter(notes, on_trouble=trouble), Speeds(notes, time.time)
    knowledge = Knowledge(meter=meter, speeds=speeds)
    await meter.open()
    try:
        await speeds.load()
        if notes is not None:
            knowledge.salt = await _salt(notes)
    except OSError as error:
        logs.logger.warning("speeds not read", reason=str(error))
    return knowledge


async def _salt(notes: Notes) -> bytes:
    """The same in every process, so that a conversation keeps its name across restarts."""
    known = (await notes.load(_SALT_KIND)).get(_SALT_KEY)
    if known is not None and len(known) == _SALT_BYTES:
        return known
    salt = secrets.token_bytes(_SALT_BYTES)
    await notes.save(_SALT_KIND, {_SALT_KEY: salt})
    return salt


async def _save_now_and_then(knowledge: Knowledge, logs: Logs) -> None:
    while True:
        await asyncio.sleep(SAVE_EVERY_S)
        await _save(knowledge, logs)


async def _save(knowledge: Knowledge, logs: Logs) -> None:
    try:
        await knowledge.speeds.save()
    except OSError as error:
        logs.logger.warning("speeds not saved", reason=str(error))
