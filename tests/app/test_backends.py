"""Backends that are made anew, and those that are taken over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hybrid_router.app.backends import close, open_backends
from hybrid_router.config.load import loads
from hybrid_router.config.schema import Loaded
from hybrid_router.models.stamps import STAMPS_FILE
from hybrid_router.observe.logs import Logs, LogSettings

SIZE_BYTES = 8 * 2**20


@pytest.fixture
def logs() -> Iterator[Logs]:
    """A log that nobody reads."""
    with Logs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as opened:
        yield opened


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """A local model that is not loaded before it is called, in a folder where no stamp can be written."""
    content = os.urandom(1024) * (SIZE_BYTES // 1024)
    (tmp_path / "m.gguf").write_bytes(content)
    (tmp_path / STAMPS_FILE).mkdir()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "manifest.yaml").write_text(
        f"models: {{ m: {{ file: m.gguf, sha256: {digest}, size_bytes: {SIZE_BYTES} }} }}\n"
    )
    return loads(
        "manifest: manifest.yaml\n"
        "backends: { local: { type: local, models: { m: { preload: false } } } }\n"
        "aliases: { it: { try: local/m } }\n",
        str(tmp_path / "router.yaml"),
    )


def read_bytes() -> int:
    """How much this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def test_a_file_is_read_once(loaded: Loaded, logs: Logs) -> None:
    """A model that did not change costs a reload no reading, even where its stamp cannot be kept."""
    before = read_bytes()
    first = await open_backends(loaded, logs)
    assert first.by_name["local"].down("m") is None
    assert read_bytes() - before >= SIZE_BYTES
    before = read_bytes()
    again = await open_backends(loaded, logs, first)
    third = await open_backends(loaded, logs, again)

    assert read_bytes() - before < SIZE_BYTES
    assert third.by_name["local"] is first.by_name["local"]
    assert third.without([first]) == []
    await close(first.parts.values())


async def test_a_file_that_was_touched_is_read_again(loaded: Loaded, logs: Logs, tmp_path: Path) -> None:
    """What is no longer what the manifest names is not served, and its worker is not taken over."""
    first = await open_backends(loaded, logs)
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.write(b"other")
    again = await open_backends(loaded, logs, first)

    assert "is not the one" in (again.by_name["local"].down("m") or "")
    assert again.unusable.keys() == {"local/m"}
    assert again.workers == {}
    assert len(first.without([again])) == 1
    await close(first.parts.values())
