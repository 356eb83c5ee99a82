"""What is counted, as Prometheus' own parser reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics,
)
from prometheus_client.parser import text_string_to_metric_families

from hybrid_router.api.answers import Ended, Refused
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Usage
from hybrid_router.dispatch.record import Attempt
from hybrid_router.observe.metrics import ATTEMPT_S, FIRST_TOKEN_S, Labels, Metrics

ROOT = Path(__file__).parents[2]
CANARY = "canary-3f7d"


def call(alias: str = "small") -> Call:
    """A chat of somebody's, with things in it that no metric may tell."""
    return Call(
        id="chatcmpl-1",
        operation=Operation.CHAT,
        alias=alias,
        principal=f"{CANARY}-key",
        prompts=(f"{CANARY} prompt",),
        headers={"x-canary": CANARY},
    )


def attempt(seconds: float = 2.0, first_s: float | None = 0.2, **changes: object) -> Attempt:
    """An attempt that answered, by default."""
    fields = {"outcome": "answered", "mode": "fresh", **changes}
    return Attempt(
        backend="local",
        model="smollm2",
        started_s=100.0,
        first_event_s=None if first_s is None else 100.0 + first_s,
        ended_s=100.0 + seconds,
        **fields,  # type: ignore[arg-type]
    )


def families(metrics: Metrics) -> dict[str, Metric]:
    """Everything, parsed."""
    body, media_type = metrics.text()
    assert media_type.startswith("text/plain")
    return {family.name: family for family in text_string_to_metric_families(body.decode())}


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """One number; None if it is not told."""
    found = [
        sample.value
        for family in families(metrics).values()
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    ]
    assert len(found) <= 1, found
    return found[0] if found else None


@pytest.fixture
def metrics() -> Metrics:
    """Metrics of a router with one alias."""
    made = Metrics()
    made.know(["small"])
    return made


def test_a_call_is_counted_as_its_client_saw_it(metrics: Metrics) -> None:
    """By alias, operation, status and error."""
    for _ in range(2):
        metrics.call(call(), None, Ended(request_id="req_1", status=200, error=None))
    metrics.call(call(), None, Ended(request_id="req_1", status=503, error="no_backend_available"))
    metrics.call(call(), None, Ended(request_id="req_1", status=499, error="client_gone"))

    name, seen = "hybrid_router_calls_total", {"alias": "small", "operation": "chat"}
    assert value(metrics, name, **seen, status="200", error="none") == 2
    assert value(metrics, name, **seen, status="503", error="no_backend_available") == 1
    assert value(metrics, name, **seen, status="499", error="client_gone") == 1


def test_an_attempt_is_counted_and_timed(metrics: Metrics) -> None:
    """By backend and model; how it ended, and how it went on from a broken answer."""
    metrics.attempt(call(), None, attempt())
    metrics.attempt(call(), None, attempt(outcome="failed", first_s=None, mode="replay"))

    name, where = "hybrid_router_attempts_total", {"backend": "local", "model": "smollm2"}
    assert value(metrics, name, **where, outcome="answered", mode="fresh") == 1
    assert value(metrics, name, **where, outcome="failed", mode="replay") == 1
    assert value(metrics, "hybrid_router_first_token_seconds_count", **where) == 1
    assert value(metrics, "hybrid_router_first_token_seconds_sum", **where) == pytest.approx(0.2)
    assert value(metrics, "hybrid_router_attempt_seconds_count", **where) == 2
    assert value(metrics, "hybrid_router_attempt_seconds_sum", **where) == pytest.approx(4.0)


def test_what_a_model_did_is_counted(metrics: Metrics) -> None:
    """Tokens computed, found and written, and the engine's own times: each answer adds its own."""
    measured = Usage(
        prompt_tokens=100, completion_tokens=20, cached_tokens=60, queue_s=0.5, prefill_s=2.0, decode_s=4.0
    )
    for _ in range(2):
        metrics.attempt(call(), None, attempt(usage=measured))
    metrics.attempt(call(), None, attempt(usage=Usage(prompt_tokens=7, completion_tokens=3)))
    metrics.attempt(call(), None, attempt(outcome="broken", usage=None))

    where = {"backend": "local", "model": "smollm2"}
    assert value(metrics, "hybrid_router_prompt_tokens_total", **where, source="computed") == 2 * 40 + 7
    assert value(metrics, "hybrid_router_prompt_tokens_total", **where, source="cached") == 2 * 60
    assert value(metrics, "hybrid_router_completion_tokens_total", **where) == 2 * 20 + 3
    for name, seconds in (("queue", 0.5), ("prefill", 2.0), ("decode", 4.0)):
        assert value(metrics, f"hybrid_router_{name}_seconds_count", **where) == 2
        assert value(metrics, f"hybrid_router_{name}_seconds_sum", **where) == pytest.approx(2 * seconds)


def test_guesses_are_counted_by_their_worth(metrics: Metrics) -> None:
    """Those that were right and those that were not; a model that guesses nothing has no such number."""
    metrics.attempt(call(), None, attempt(usage=Usage(7, 3)))
    assert value(metrics, "hybrid_router_drafted_tokens_total") is None
    metrics.attempt(call(), None, attempt(usage=Usage(7, 9, drafted_tokens=8, accepted_tokens=5)))

    name, where = "hybrid_router_drafted_tokens_total", {"backend": "local", "model": "smollm2"}
    assert value(metrics, name, **where, result="accepted") == 5
    assert value(metrics, name, **where, result="rejected") == 3


def test_sound_is_counted_by_its_length(metrics: Metrics) -> None:
    """In seconds, what was heard and what was made; a model without sound has no such number."""
    metrics.attempt(call(), None, attempt(usage=Usage(7, 3)))
    assert value(metrics, "hybrid_router_sound_seconds_total") is None
    for _ in range(2):
        metrics.attempt(call(), None, attempt(usage=Usage(0, 9, sound_s=12.25)))

    where = {"backend": "local", "model": "smollm2"}
    assert value(metrics, "hybrid_router_sound_seconds_total", **where) == 24.5


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.0101, 0.2, 60.0, 61.0])
def test_a_time_is_in_every_bucket_that_reaches_it(metrics: Metrics, seconds: float) -> None:
    """A bound holds its own time and all below; the last bucket holds everything."""
    noted = attempt(first_s=None)
    noted.started_s, noted.first_event_s = 0.0, seconds
    metrics.attempt(call(), None, noted)

    name = "hybrid_router_first_token_seconds_bucket"
    for bound in FIRST_TOKEN_S:
        assert value(metrics, name, le=str(bound)) == (seconds <= bound)
    assert value(metrics, name, le="+Inf") == 1


def test_buckets_reach_as_far_as_calls_may() -> None:
    """Bounds rise, and the last is no shorter than the timeouts by default."""
    assert list(FIRST_TOKEN_S) == sorted(FIRST_TOKEN_S)
    assert list(ATTEMPT_S) == sorted(ATTEMPT_S)
    assert (FIRST_TOKEN_S[-1], ATTEMPT_S[-1]) == (60.0, 600.0)


def test_what_clients_and_backends_say_is_no_label(metrics: Metrics) -> None:
    """I9: an alias that nobody configured is `unknown`, a code that is not ours `other`; no prompt or key."""
    metrics.call(call(f"{CANARY}\n"), None, Ended(request_id=CANARY, status=404, error="model_not_found"))
    metrics.call(call(), None, Ended(request_id=CANARY, status=502, error=CANARY))
    metrics.attempt(call(), None, attempt(error=CANARY, detail=CANARY))
    metrics.refused(Refused(request=CANARY, status=401, error="invalid_api_key", path=CANARY, host=CANARY))

    body, _ = metrics.text()
    assert CANARY not in body.decode()
    assert value(metrics, "hybrid_router_calls_total", alias="unknown", error="model_not_found") == 1
    assert value(metrics, "hybrid_router_calls_total", error="other") == 1
    assert value(metrics, "hybrid_router_refused_total", status="401", error="invalid_api_key") == 1


def test_an_alias_that_was_there_once_keeps_its_name(metrics: Metrics) -> None:
    """Calls that end after a reload took their alias away are still its calls."""
    metrics.know(["large"])
    metrics.call(call("small"), None, Ended(request_id="req_1", status=200, error=None))

    assert value(metrics, "hybrid_router_calls_total", alias="small") == 1


def test_reloads_are_counted_and_the_last_is_told(metrics: Metrics) -> None:
    """The gauge is 1 from the start, 0 after a bad file, 1 again after a good one."""
    last, taken_up = (
        "hybrid_router_reload_last_success",
        "hybrid_router_reload_last_success_timestamp_seconds",
    )
    started = value(metrics, taken_up)
    assert value(metrics, last) == 1
    metrics.reloaded(ok=False)
    assert value(metrics, last) == 0
    assert value(metrics, taken_up) == started
    metrics.reloaded(ok=True)
    assert value(metrics, last) == 1
    assert (value(metrics, taken_up) or 0) > (started or 0)
    assert value(metrics, "hybrid_router_reloads_total", result="ok") == 1
    assert value(metrics, "hybrid_router_reloads_total", result="failed") == 1


def test_others_numbers_are_read_when_they_are_asked_for(metrics: Metrics) -> None:
    """A watched number is never copied: each reading has its value of then."""
    left: dict[Labels, float] = {("cloud",): 10_000.0}
    metrics.watch("hybrid_router_neurons_left", "Left today.", ("backend",), lambda: left)
    metrics.watch("hybrid_router_things_total", "Things.", (), lambda: {(): 3}, kind="counter")
    assert value(metrics, "hybrid_router_neurons_left", backend="cloud") == 10_000
    left["cloud",] = 17.0
    left["other",] = 1.0

    assert value(metrics, "hybrid_router_neurons_left", backend="cloud") == 17
    assert value(metrics, "hybrid_router_neurons_left", backend="other") == 1
    assert families(metrics)["hybrid_router_things"].type == "counter"


def test_a_name_is_watched_once(metrics: Metrics) -> None:
    """Two numbers of one name would be a mistake in every reading."""
    metrics.watch("hybrid_router_things", "Things.", (), dict)
    with pytest.raises(ValueError, match="hybrid_router_things"):
        metrics.watch("hybrid_router_things", "Others.", (), dict)


def test_open_metrics_is_spoken_to_who_asks_for_it(metrics: Metrics) -> None:
    """And their parser, which is strict, reads it."""
    metrics.call(call(), None, Ended(request_id="req_1", status=200, error=None))
    metrics.attempt(call(), None, attempt())
    body, media_type = metrics.text("application/openmetrics-text; version=1.0.0")

    assert media_type.startswith("application/openmetrics-text")
    names = {family.name for family in open_metrics(body.decode())}  # type: ignore[no-untyped-call]
    assert {"hybrid_router_calls", "hybrid_router_first_token_seconds"} <= names


def test_two_routers_in_a_process_count_apart() -> None:
    """Nothing is kept in the module, or in Prometheus' own registry."""
    one, other = Metrics(), Metrics()
    one.reloaded(ok=True)

    assert value(other, "hybrid_router_reloads_total", result="ok") == 0


def test_every_metric_is_documented() -> None:
    """Each name in the source has its row in docs/operations.md, and each row is told somewhere."""
    source = "".join(path.read_text() for path in (ROOT / "hybrid_router").rglob("*.py"))
    told = set(re.findall(r'"(hybrid_router_[a-z_]+)"', source))
    rows = re.findall(r"^\| `(hybrid_router_[a-z_]+)` \|", (ROOT / "docs/operations.md").read_text(), re.M)

    assert {"hybrid_router_calls_total", "hybrid_router_in_flight"} <= told
    assert sorted(rows) == sorted(told)
