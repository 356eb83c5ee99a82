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


@pytest.mark.timeout(120)
def test_predictions_are_good_and_better_than_means(tmp_path: Path) -> None:
    """On the kept traces half of all first tokens and totals are foretold to a fifth, and choosing pays.

    Nothing is timed here: the same traces give the same figures on any machine.  Where calls keep the model
    busy, how long an answer takes depends on those that come later: there only first tokens are held to it.
    """
    found = bench(tmp_path, "prediction")["predictions"]

    errors = {row["step"]: row for row in found["errors"]}
    busy = errors.pop("local/smollm2, busy")
    assert set(errors) == {"local/smollm2, calm", "cloud/prompt", "cloud/swift"}
    assert all(row["first_token_error"] <= 0.2 for row in (busy, *errors.values()))
    assert all(row["total_error"] <= 0.2 for row in errors.values())
    taken = {(row["among"], row["way"]): row["total_s"] for row in found["regrets"]}
    for among in {row["among"] for row in found["regrets"]}:
        assert taken[among, "by prediction"] < taken[among, "by mean latency"]


@pytest.mark.timeout(120)
def test_hedges_are_worth_their_calls(tmp_path: Path) -> None:
    """With one slow first token in twenty: p99 at least 60 % lower for at most 8 % more calls.  Simulated."""
    found = bench(tmp_path, "hedging")["hedging"]

    assert found["hedged_p99_s"] <= 0.4 * found["plain_p99_s"]
    assert 0 < found["more_calls"] <= 0.08


@pytest.mark.timeout(120)
def test_planning_is_measured_in_every_size(tmp_path: Path) -> None:
    """Fifty rules, fifty aliases, every size of prompt, ASCII and not: each plan found its steps."""
    found = bench(tmp_path, "planning")["planning"]

    assert (found["rules_count"], found["aliases_count"]) == (50, 50)
    assert len({(row["prompt_bytes"], row["text"]) for row in found["rows"]}) == 6
    assert all(row["calls_count"] >= 50 and 0 < row["p50_s"] <= row["p99_s"] for row in found["rows"])


@pytest.mark.timeout(120)
def test_fallbacks_are_measured_in_every_case(tmp_path: Path) -> None:
    """A step that is silent, one whose breaker is open, one that is not there."""
    found = bench(tmp_path, "fallback")["fallbacks"]

    assert [len(row["added_ms"]) for row in found] == [10, 100, 100]
    assert all(row["added_ms"] == sorted(row["added_ms"]) for row in found)
    assert found[0]["added_ms"][0] > 0  # the timer was kept


@pytest.mark.timeout(120)
def test_storms_are_measured_and_not_fed(tmp_path: Path) -> None:
    """Whatever share fails: all calls are answered, retries keep to the budget, the breaker closes."""
    found = bench(tmp_path, "faults", "--seconds", "1")["storms"]

    assert [row["share"] for row in found] == [1.0, 0.5, 0.3, 0.2]
    assert all(row["sent_count"] <= 1.2 * row["tried_count"] + 3 for row in found)
    assert all(0 < row["tried_count"] <= row["calls_count"] for row in found)
    assert all(row["unanswered_count"] == 0 for row in found)
    assert found[0]["tried_count"] < found[0]["calls_count"]  # an open breaker kept the others away
