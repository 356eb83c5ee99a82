"""What the log says of a worker's states."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid_router.app.lines import state_line
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
    line = line_of(Resident(opened, 0.0), tmp_path)

    assert (line["event"], line["model"], line["sandbox"]) == ("model resident", "local/m", said)
    assert "unguarded" not in line


def test_an_eviction_says_why_and_for_whom(tmp_path: Path) -> None:
    """And how much it gives back, of each kind of memory that it had."""
    idle = line_of(Absent(Eviction(reason="idle", freed=Space(5, 7))), tmp_path)
    (tmp_path / "log").unlink()
    moved = line_of(Absent(Eviction(reason="room", beneficiary="local/n", freed=Space(5))), tmp_path)

    assert idle["event"] == moved["event"] == "model evicted"
    assert (idle["reason"], idle["ram_bytes"], idle["vram_bytes"], "for" in idle) == ("idle", 5, 7, False)
    assert (moved["reason"], moved["for"], moved["ram_bytes"]) == ("room", "local/n", 5)
    assert "vram_bytes" not in moved
