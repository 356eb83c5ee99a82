"""What the log says of a worker's states."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from hybrid_router.app.lines import state_line
from hybrid_router.engines.task import Opened
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.workers.life import Resident


def line_of(unguarded: tuple[str, ...], folder: Path) -> dict[str, Any]:
    """The line of a model that has become resident."""
    path = folder / "log"
    opened = Opened(description="odd", parallel=2, unguarded=unguarded)
    with Logs(LogSettings(format="json"), os.open(path, os.O_WRONLY | os.O_CREAT)) as logs:
        state_line(logs, "local/m", Resident(opened, 0.0))
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.mark.parametrize(
    ("unguarded", "said"), [((), "whole"), (("no network filter", "no files"), "no network filter; no files")]
)
def test_a_start_tells_what_its_sandbox_lacks(unguarded: tuple[str, ...], said: str, tmp_path: Path) -> None:
    """Whoever reads the line of a start knows what holds on this machine."""
    line = line_of(unguarded, tmp_path)

    assert (line["event"], line["model"], line["sandbox"]) == ("model resident", "local/m", said)
    assert "unguarded" not in line
