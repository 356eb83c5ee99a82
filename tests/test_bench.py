"""The benchmarks' machinery: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

ROOT = Path(__file__).parents[1]


def bench(tmp_path: Path, *arguments: str) -> dict[str, Any]:
    """Run a part of the benchmarks; give its figures."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", *arguments, "--rounds", "1", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)

    assert done.returncode == 0, done.stderr
    assert "2." in done.stdout
    found: dict[str, Any] = msgspec.json.decode(figures.read_bytes())
    return found


@pytest.mark.timeout(120)
def test_every_gateway_answers_every_load(tmp_path: Path) -> None:
    """Each gateway passes the same text on under each load, and its CPU time is seen."""
    found = bench(tmp_path, "gateway", "--seconds", "0.02", "--connections", "2")["gateways"]

    rows = {(row["load"], row["gateway"]): row for row in found["rows"]}
    assert {gateway for _, gateway in rows} >= {"direct", "router", "bare aiohttp"}
    assert len({load for load, _ in rows}) == 3
    assert all(row["calls_count"] >= 2 for row in rows.values())
    assert all(row["cpu_ms"] > 0 for (_, gateway), row in rows.items() if gateway != "direct")
    assert all(row["cpu_ratio"] == 1 for (_, gateway), row in rows.items() if gateway == "bare aiohttp")


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_llama_subject_generates(tmp_path: Path) -> None:
    """The bare script, the engine and the router all give the tokens that were asked for."""
    found = bench(tmp_path, "llama", "--tokens", "4")["llamas"]

    assert found["skipped"] is None
    subjects = [(row["subject"], row["streams_count"]) for row in found["rows"]]
    assert len(subjects) == len(set(subjects)) == 6
    assert all(row["tokens_per_s"] > 0 and 0 < row["first_s"] <= row["last_s"] for row in found["rows"])
