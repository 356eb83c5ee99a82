"""F03 and F05 for a model that is a folder: its child hangs, and its files are others at the next start."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from manifest_entries import folder_entry
from router_process import soon
from tiny_translator import WORDS, tiny_translator

from hybrid_router.app.backends import Backends, close, open_backends
from hybrid_router.backends.local import Local, LocalModel
from hybrid_router.config.load import loads
from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendError, BackendUnavailable, StreamBroken
from hybrid_router.core.event import Batch, Text
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.engines.settings import TranslatorSettings
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.workers.life import Dead, Resident, State
from hybrid_router.workers.worker import Heartbeat, Worker

pytestmark = pytest.mark.timeout(180)  # torch is imported here, and CTranslate2 in each child
WAITS = Timeouts(connect_s=1, load_s=60, first_token_s=60, between_tokens_s=60, total_s=120)
STEP = Step(backend="local", model="polyglot", timeouts=WAITS, because="")
ASKED = Call(
    id="c",
    operation=Operation.TRANSLATE,
    alias="a",
    prompts=(" ".join(WORDS[:8]) + ".",),
    ask=Translation(target="de", source="en"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder, which its owner may spoil, and the manifest beside it."""
    tiny_translator(tmp_path / "made").rename(tmp_path / "polyglot")
    entry = folder_entry(tmp_path / "polyglot", "translate")
    (tmp_path / "manifest.yaml").write_text(json.dumps({"models": {"polyglot": entry}}))  # JSON is YAML
    return tmp_path / "polyglot"


async def answer(backend: Local) -> Batch:
    """The answer to a small call."""
    return [event async for batch in backend.run(ASKED, STEP) for event in batch]


async def test_a_translator_that_hangs_is_killed_and_replaced(folder: Path) -> None:
    """Its caller hears of it, the next one is answered by another child."""
    states: list[State] = []
    worker = Worker(
        TranslatorSettings(path=str(folder), threads=1),
        on_state=states.append,
        heartbeat=Heartbeat(every_s=0.05, limit_s=2.0),
    )
    worker.start(load=True)
    backend = Local({"polyglot": LocalModel(worker, 1)})
    try:
        hung = (await worker.child()).pid
        os.kill(hung, signal.SIGSTOP)
        with pytest.raises((BackendUnavailable, StreamBroken)):
            await answer(backend)

        assert any(isinstance(event, Text) for event in await answer(backend))
        assert (await worker.child()).pid != hung
        reasons = [state.reason for state in states if isinstance(state, Dead)]
        assert reasons == ["worker did not answer for 2 s and was killed"]
    finally:
        await backend.close()


@pytest.fixture
async def opened(folder: Path) -> AsyncIterator[Backends]:
    """The model by its manifest, resident."""
    loaded = loads(
        "manifest: manifest.yaml\n"
        "backends: { local: { type: local, models: { polyglot: { engine: translate, threads: 1 } } } }\n"
        "aliases: { it: { try: local/polyglot } }\n",
        str(folder.parent / "router.yaml"),
    )
    with Logs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as logs:
        backends = await open_backends(loaded, logs)
        assert isinstance(await worker_of(backends).settled(), Resident)
        yield backends
        await close(backends.parts.values())


def worker_of(backends: Backends) -> Worker:
    return backends.workers["local/polyglot"]


@pytest.mark.parametrize("becomes", ["another", "gone"])
async def test_a_folder_with_another_file_is_never_opened(
    opened: Backends, folder: Path, becomes: str
) -> None:
    """Any of its files counts, not the weights alone.  Who has the folder open serves on with what it read;
    the next child is not started, and calls hear why."""
    vocabulary = folder / "shared_vocabulary.json"
    if becomes == "another":
        (folder / "fresh").write_bytes(vocabulary.read_bytes() + b"\n")
        (folder / "fresh").replace(vocabulary)
    else:
        vocabulary.unlink()
    backend, worker = opened.by_name["local"], worker_of(opened)
    assert isinstance(backend, Local)
    assert any(isinstance(event, Text) for event in await answer(backend))

    os.kill((await worker.child()).pid, signal.SIGKILL)
    await soon(lambda: isinstance(worker.state, Dead) and worker.state.until_s is None, "it gave up")

    assert isinstance(worker.state, Dead)
    assert "'shared_vocabulary.json' of model 'polyglot' is" in worker.state.reason
    assert "hybrid-router reload" in worker.state.reason
    with pytest.raises(BackendError, match=r"shared_vocabulary\.json"):
        await answer(backend)
