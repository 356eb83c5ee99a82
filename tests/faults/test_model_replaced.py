"""F05: model files that are cut short, written over or exchanged under a child that has them open."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from router_process import soon

from hybrid_router.app.backends import Backends, close, open_backends
from hybrid_router.config.load import loads
from hybrid_router.config.schema import Loaded
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.errors import BackendError, StreamBroken
from hybrid_router.core.event import Batch, Finish, Usage
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.workers.life import Dead, Resident
from hybrid_router.workers.worker import Worker

pytestmark = pytest.mark.model
WAITS = Timeouts(connect_s=1, load_s=15, first_token_s=15, between_tokens_s=15, total_s=60)
STEP = Step(backend="local", model="m", timeouts=WAITS, because="")
ASKED = Call(
    id="c",
    operation=Operation.CHAT,
    alias="a",
    messages=(Message(role="user", content="Say hello."),),
    sampling=Sampling(temperature=0, max_tokens=4),
)


@pytest.fixture
def loaded(tmp_path: Path, model_path: Path) -> Loaded:
    """The starter model as a copy of its own, which its owner may spoil."""
    shutil.copyfile(model_path, tmp_path / "m.gguf")
    with model_path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    size_bytes = model_path.stat().st_size
    (tmp_path / "manifest.yaml").write_text(
        f"models: {{ m: {{ file: m.gguf, sha256: {digest}, size_bytes: {size_bytes} }} }}\n"
    )
    return loads(
        "manifest: manifest.yaml\n"
        "backends: { local: { type: local, models: { m: { context: 512, parallel: 2, threads: 1 } } } }\n"
        "aliases: { it: { try: local/m } }\n",
        str(tmp_path / "router.yaml"),
    )


@pytest.fixture
def logs() -> Iterator[Logs]:
    """A log that nobody reads."""
    with Logs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as opened:
        yield opened


@pytest.fixture
async def opened(loaded: Loaded, logs: Logs) -> AsyncIterator[Backends]:
    """The model, resident."""
    backends = await open_backends(loaded, logs)
    assert isinstance(await worker_of(backends).settled(), Resident)
    yield backends
    await close(backends.parts.values())


def worker_of(backends: Backends) -> Worker:
    return backends.workers["local/m"]


async def answer(backends: Backends) -> Batch:
    """The answer to a small call."""
    return [event async for batch in backends.by_name["local"].run(ASKED, STEP) for event in batch]


async def gave_up(worker: Worker) -> str:
    """Why no child is started any more."""
    await soon(lambda: isinstance(worker.state, Dead) and worker.state.until_s is None, "it gave up")
    assert isinstance(worker.state, Dead)
    return worker.state.reason


async def test_a_file_that_is_cut_short_is_named_and_not_opened_again(
    opened: Backends, tmp_path: Path
) -> None:
    """The call ends in an error that says what befell the file; no crash loop, the next call hears why."""
    os.truncate(tmp_path / "m.gguf", 1 << 20)

    with pytest.raises(
        (BackendError, StreamBroken), match=r"SIGBUS: .*m\.gguf was cut short while it was in use"
    ):
        await answer(opened)

    reason = await gave_up(worker_of(opened))
    assert "the file of model 'm' is not the one that models/manifest.yaml names" in reason
    assert "hybrid-router reload" in reason
    with pytest.raises(BackendError, match="is not the one that"):
        await answer(opened)


async def test_another_file_in_its_place_is_never_opened(opened: Backends, tmp_path: Path) -> None:
    """A crash alone costs no model.  Who has the old file open serves on with it; the next child would open
    the new one, and is not started."""
    killed = (await worker_of(opened).child()).pid
    os.kill(killed, signal.SIGKILL)
    await soon(lambda: not isinstance(worker_of(opened).state, Resident), "it is gone")
    assert (await worker_of(opened).child()).pid != killed
    other = tmp_path / "download"
    other.write_bytes(b"GGUF another model")
    other.replace(tmp_path / "m.gguf")

    assert [type(event) for event in (await answer(opened))[-2:]] == [Finish, Usage]

    os.kill((await worker_of(opened).child()).pid, signal.SIGKILL)
    assert "is not the one that models/manifest.yaml names" in await gave_up(worker_of(opened))


async def test_a_file_that_is_gone_is_missed_at_the_next_start(
    opened: Backends, loaded: Loaded, logs: Logs, tmp_path: Path
) -> None:
    """It is named as missing; put back and reloaded, the model serves again."""
    (tmp_path / "m.gguf").rename(tmp_path / "away")
    os.kill((await worker_of(opened).child()).pid, signal.SIGKILL)
    assert "the file of model 'm' is missing" in await gave_up(worker_of(opened))

    (tmp_path / "away").rename(tmp_path / "m.gguf")
    again = await open_backends(loaded, logs, opened)

    assert [type(event) for event in (await answer(again))[-2:]] == [Finish, Usage]
    await close(again.without([opened]))
