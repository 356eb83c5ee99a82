"""The benchmarks' machinery: that it measures what it says, not how fast anything is."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.llama_client import Said
from bench.llama_forms import schema
from bench.llama_joiners import by_id, by_index, by_name
from bench.llama_same import Parting, parting, shifted

ROOT = Path(__file__).parents[1]
SUBJECTS = {"router", "engine alone", "Llama"}


def bench(tmp_path: Path, *arguments: str, module: str = "bench") -> dict[str, Any]:
    """Run a part of the benchmarks; give its figures."""
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", module, *arguments, "--rounds", "1", "--json", str(figures)]
    # Threads that spin would take the core from whatever else is tested, and collapse: no figure counts here.
    environ = {**os.environ, "GOMP_SPINCOUNT": "1000"}
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    ) as started:
        try:
            told, mistakes = started.communicate(timeout=110)
        except BaseException:
            os.killpg(started.pid, signal.SIGKILL)  # it has children
            raise

    assert started.returncode == 0, mistakes
    assert "2." in told
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
    """The bare script, the engine and the router give tokens; thirty-two streams in eight slots all end."""
    (section,) = bench(tmp_path, "llama", "--tokens", "4")["llamas"]["sections"]

    rows = {row["measure"]: row for row in section["rows"]}
    assert all(set(rows[f"{n}, tokens/s"]["values"]) == SUBJECTS for n in ("1 stream", "8 streams"))
    assert all(
        value > 0 for n in ("1 stream", "8 streams") for value in rows[f"{n}, tokens/s"]["values"].values()
    )
    assert rows["32 streams, failed"]["values"] == {"router": 0}


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_the_local_engine_is_measured_without_llama_server(tmp_path: Path) -> None:
    """Sections that can be are; the others say why not.  A cancelled call frees its slot within one step."""
    only = ("--only", "cancel", "--only", "leak", "--only", "same", "--calls", "20")
    cancel, leak, same = bench(tmp_path, *only, module="bench.llama_command")["llamas"]["sections"]

    assert cancel["rows"][0]["values"]["router"] == 1
    assert {row["measure"]: row["values"]["router"] for row in leak["rows"]}["of them failed"] == 0
    assert same["rows"] == []
    assert "no llama-server" in same["notes"][0]


@given(st.lists(st.tuples(st.sampled_from(["add", "now"]), st.lists(st.text(max_size=5), max_size=4))))
def test_joiners_agree_on_what_openai_sends(calls: list[tuple[str, list[str]]]) -> None:
    """Calls one after the other, id and name once: joined by index, id or name they are the same."""
    fragments = [
        {"index": index, **({"id": f"call_{index}"} if first else {}), "function": function}
        for index, (name, pieces) in enumerate(calls)
        for first, function in [(True, {"name": name}), *((False, {"arguments": one}) for one in pieces)]
    ]
    chunks = [{"choices": [{"delta": {"tool_calls": [one]}}]} for one in fragments]

    expected = [(name, "".join(pieces)) for name, pieces in calls]
    assert by_index(chunks) == by_id(chunks) == by_name(chunks) == expected


def test_joiners_disagree_on_mixed_calls() -> None:
    """Fragments of two calls in turns: who joins by index reads them, the others do not."""
    first, second = ({"index": i, "id": f"call_{i}", "function": {"name": "add"}} for i in range(2))
    late = {"index": 0, "function": {"arguments": "{}"}}
    chunks = [{"choices": [{"delta": {"tool_calls": [one]}}]} for one in (first, second, late)]

    assert by_index(chunks) == [("add", "{}"), ("add", "")]
    assert by_id(chunks) == by_name(chunks) == [("add", ""), ("add", "{}")]


def test_a_parting_is_found_with_its_gap() -> None:
    """Where a text leaves llama-server's, and how near the two likeliest tokens were there."""
    expected = said([(b"a ", 0.0, -3.0), (b"red", -0.5, -0.75), (b" fox", -0.1, -2.0)])

    assert parting(expected, said([(b"a ", 0.0, -3.0), (b"red", -0.5, -0.75), (b" fox", -0.1, -2.0)])) is None
    other = said([(b"a ", 0.0, -3.0), (b"old", -0.5, -0.6)])
    assert parting(expected, other) == Parting(place=1, theirs="red", gap=0.25)
    unscored = said([(b"a red", 0.0, 0.0), (b" cat", 0.0, 0.0)], scored=False)
    assert parting(expected, unscored) == Parting(place=1, theirs="red", gap=0.25)  # the nearer tie of two


def test_gaps_are_compared_as_long_as_texts_agree() -> None:
    """How much a batch changes them, though it changes no word: behind a parting nothing can be compared."""
    expected = said([(b"a ", 0.0, -3.0), (b"red", -0.5, -0.75), (b" fox", -0.1, -2.0)])
    other = said([(b"a ", -0.25, -3.0), (b"red", -0.5, -1.25), (b" cat", 0.0, -9.0)])

    assert shifted(expected, expected) == 0
    assert shifted(expected, other) == 0.5


def said(tokens: list[tuple[bytes, float, float]], *, scored: bool = True) -> Said:
    """A stream of these tokens, each with the two best logarithms of its place."""
    chunks = []
    for token, best, next_best in tokens:
        choice: dict[str, Any] = {"delta": {"content": token.decode()}}
        top = [{"bytes": list(token), "logprob": best}, {"bytes": [63], "logprob": next_best}]
        if scored:
            choice["logprobs"] = {"content": [{"bytes": list(token), "top_logprobs": top}]}
        chunks.append({"choices": [choice]})
    return Said(sent_s=0.0, chunks=chunks)


def test_random_schemas_are_schemas() -> None:
    """The generator's schemas are valid themselves, strict, and the same for the same seed."""
    made, again = ([schema(pick) for _ in range(200)] for pick in map(random.Random, (1, 1)))

    for one in made:
        jsonschema.Draft202012Validator.check_schema(one)
        assert one["required"] == list(one["properties"])
        assert one["additionalProperties"] is False
    assert made == again
    assert len({str(one) for one in made}) > 150


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
