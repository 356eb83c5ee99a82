"""The soak's own machinery, and one of its trials."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from soak_schedule import HURTS, schedule

HERE = Path(__file__).parent
SEEDS = range(1, 201)


def test_a_seed_is_one_trial() -> None:
    """The same one every time, and another one for another seed."""
    assert schedule(7) == schedule(7)
    assert len({schedule(seed).line for seed in SEEDS}) > 50


def test_two_hundred_seeds_do_everything() -> None:
    """Every fault, every way to hurt, every alias, private and not, staying and leaving."""
    plans = [schedule(seed) for seed in SEEDS]
    asks = [ask for plan in plans for asks in plan.clients for ask in asks]
    faults = {name for plan in plans for fault in plan.faults for name in fault}

    assert {hurt.what for plan in plans for hurt in plan.hurts} == set(HURTS)
    assert {"hang", "pings", "stall_after", "cut_after", "close_after", "malformed_after"} <= faults
    assert {code for plan in plans for fault in plan.faults if (code := fault.get("code"))} >= {
        3021,
        3036,
        3040,
    }
    assert len({ask.alias for ask in asks}) == 10
    assert {(ask.private, ask.stream, ask.leave_s is None) for ask in asks} == {
        (private, stream, stays)
        for private in (True, False)
        for stream in (True, False)
        for stays in (True, False)
    }


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(150)
def test_a_trial_is_run_and_measured(tmp_path: Path) -> None:
    """The command runs a seed, prints a line for it, and writes its figures."""
    figures = tmp_path / "figures.json"
    paths = os.pathsep.join(str(HERE.parent / room) for room in ("contract", "e2e"))
    done = subprocess.run(
        [sys.executable, str(HERE / "soak.py"), "--seed", "2", "--json", str(figures)],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        check=False,
        timeout=140,
    )
    told = json.loads(figures.read_text())

    assert done.returncode == 0, done.stdout + done.stderr
    assert "seed 2: held, " in done.stdout
    assert told["failed"] == {}
    assert told["figures"]["private calls seen by the cloud"]["max"] == 0
    assert told["figures"]["calls"]["total"] >= 8
