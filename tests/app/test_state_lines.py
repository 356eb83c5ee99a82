"""What the log says of a worker's states."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid_router.app.lines import state_line
from hybrid_router.core.call import Feature
from hybrid_router.core.space import Space
from hybrid_router.engines.task import Opened
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.workers.choice import Eviction
from hybrid_router.workers.life import Absent, Resident, State


def line_of(state: State, folder: Path) -> dict[str, Any]:
    """The line of a model that has become something else."""
    path = folder / "log"
    with Logs(LogSettings(format="json"), os.open(path, os.O_WRONLY | os.O_CREAT)) as logs:
        state_line(logs, "local/m", state)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    ("unguarded", "said"), [((), "whole"), (("no network filter", "no files"), "no network filter; no files")]
)
def test_a_start_tells_what_its_sandbox_lacks(unguarded: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Whoever reads the line of a start knows what holds on this machine."""
    opened = Opened(description="odd", parallel=2, unguarded=unguarded)
    line = line_of(Resident(opened, 9.0, 1.23456), tmp_path)

    del line["time"]
    assert line == {
        "level": "info",
        "event": "model resident",
        "model": "local/m",
        "load_s": 1.235,
        "description": "odd",
        "parallel": 2,
        "sandbox": said,
    }


def test_what_a_model_has_is_told(tmp_path: Path) -> None:
    """No layers on a GPU is a fact of a model that has layers to place; nothing else is told by a zero."""
    chats = Opened(
        description="llama", parallel=2, context=512, has_template=True, can=frozenset({Feature.TOOLS}),
        gpu_layers=0,
    )  # fmt: skip
    embeds = Opened(description="bert", parallel=64, context=256, vocabulary_count=30_522, width=384)

    line = line_of(Resident(chats, 0.0), tmp_path)
    assert (line["context"], line["has_template"], line["can"], line["gpu_layers"]) == (512, True, "tools", 0)
    assert "width" not in line
    (tmp_path / "log").unlink()
    line = line_of(Resident(embeds, 0.0), tmp_path)
    assert (line["context"], line["width"]) == (256, 384)
    assert not {"has_template", "can", "gpu_layers"} & line.keys()


def test_an_eviction_says_why_and_for_whom(tmp_path: Path) -> None:
    """And how much it gives back, of each kind of memory that it had."""
    idle = line_of(Absent(Eviction(reason="idle", freed=Space(5, 7))), tmp_path)
    (tmp_path / "log").unlink()
    moved = line_of(Absent(Eviction(reason="room", beneficiary="local/n", freed=Space(5))), tmp_path)

    assert idle["event"] == moved["event"] == "model evicted"
    assert (idle["reason"], idle["ram_bytes"], idle["vram_bytes"], "for" in idle) == ("idle", 5, 7, False)
    assert (moved["reason"], moved["for"], moved["ram_bytes"]) == ("room", "local/n", 5)
    assert "vram_bytes" not in moved
