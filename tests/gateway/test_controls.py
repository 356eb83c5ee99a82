"""What callers may ask of a gateway."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.errors import CallRefused
from hybrid_router.gateway import retries, steps
from hybrid_router.gateway.controls import Controls, Cost, first_of, from_headers

WISHES = st.builds(
    Controls,
    cache_ttl_s=st.none() | st.sampled_from([0.0, 60.0, 3600.0]),
    skip_cache=st.none() | st.booleans(),
    cache_key=st.none() | st.sampled_from("ab"),
    collect_log=st.none() | st.booleans(),
    request_timeout_s=st.none() | st.sampled_from([0.5, 2.0]),
    max_attempts=st.none() | st.integers(1, 5),
    retry_delay_s=st.none() | st.sampled_from([0.0, 0.1]),
    backoff=st.none() | st.sampled_from(["constant", "linear", "exponential"]),
)


@given(WISHES, WISHES, WISHES)
def test_the_step_wins_over_the_request_and_that_over_the_gateway(
    step: Controls, request: Controls, gateway: Controls
) -> None:
    """Wish by wish: what a level does not say, the next one decides; a false or a 0 is said."""
    held = first_of(step, request, gateway)

    for name in Controls.__struct_fields__:
        said = [getattr(level, name) for level in (step, request, gateway)]
        assert getattr(held, name) == next((one for one in said if one is not None), None)


def test_headers_are_read() -> None:
    """Every control header, names in any case, milliseconds as seconds."""
    held = from_headers({
        "CF-AIG-Cache-TTL": "3600", "cf-aig-skip-cache": "true", "cf-aig-cache-key": "k",
        "cf-aig-collect-log": "false", "cf-aig-metadata": '{"a": 1, "b": true}', "cf-aig-event-id": "e",
        "cf-aig-request-timeout": "1500", "cf-aig-max-attempts": "3", "cf-aig-retry-delay": "200",
        "cf-aig-backoff": "linear", "cf-aig-custom-cost": '{"per_token_in": 0.5, "per_token_out": 1}',
        "user-agent": "x",
    })  # fmt: skip

    assert held == Controls(
        cache_ttl_s=3600.0, skip_cache=True, cache_key="k", collect_log=False, metadata={"a": 1, "b": True},
        event_id="e", request_timeout_s=1.5, max_attempts=3, retry_delay_s=0.2, backoff="linear",
        cost=Cost(per_token_in=0.5, per_token_out=1),
    )  # fmt: skip
    assert held.cost is not None
    assert held.cost.usd(2, 3) == 4.0


def test_the_old_names_of_cache_headers_count_where_the_new_are_absent() -> None:
    """`cf-cache-ttl` and `cf-skip-cache`."""
    assert from_headers({"cf-cache-ttl": "90"}).cache_ttl_s == 90.0
    assert from_headers({"cf-cache-ttl": "90", "cf-aig-cache-ttl": "0"}).cache_ttl_s == 0.0


@pytest.mark.parametrize(("told", "held"), [("0", 0.0), ("5", 60.0), ("99999999", 2_592_000.0)])
def test_a_ttl_is_off_or_between_a_minute_and_a_month(told: str, held: float) -> None:
    """Cloudflare's bounds; what lies beyond is moved to the nearest."""
    assert from_headers({"cf-aig-cache-ttl": told}).ttl_s == held


def test_a_key_alone_keeps_for_five_minutes() -> None:
    """Without any TTL; a TTL of 0 says no."""
    assert Controls().ttl_s == 0.0
    assert Controls(cache_key="k").ttl_s == 300.0
    assert Controls(cache_key="k", cache_ttl_s=0.0).ttl_s == 0.0


def test_metadata_has_five_entries_at_most() -> None:
    """Those that come first; reserved names count for nothing."""
    told = {"cf.user": "no", **{str(i): i for i in range(9)}}

    assert from_headers({"cf-aig-metadata": json.dumps(told)}).metadata == {str(i): i for i in range(5)}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cf-aig-cache-ttl", "soon"), ("cf-aig-cache-ttl", "-1"), ("cf-aig-cache-ttl", "nan"),
        ("cf-aig-skip-cache", "1"), ("cf-aig-max-attempts", "6"), ("cf-aig-max-attempts", "0"),
        ("cf-aig-retry-delay", "60001"), ("cf-aig-backoff", "random"), ("cf-aig-metadata", "[]"),
        ("cf-aig-metadata", '{"a": {}}'), ("cf-aig-custom-cost", "{"), ("cf-aig-cache-key", ""),
    ],
)  # fmt: skip
def test_a_wish_that_is_none_is_named(name: str, value: str) -> None:
    """The error says which header; it is not guessed what was meant."""
    with pytest.raises(CallRefused) as refused:
        from_headers({name: value})

    assert refused.value.param == name


def test_a_ttl_that_is_none_is_told_the_bounds_that_count() -> None:
    """A minute and a month, and how to say off."""
    with pytest.raises(CallRefused) as refused:
        from_headers({"cf-aig-cache-ttl": "soon"})

    assert refused.value.message == "cf-aig-cache-ttl: expected seconds: 0 for off, or 60 to 2592000"


@pytest.mark.parametrize(
    ("backoff", "waits"),
    [
        (None, [0.5, 0.5, 0.5]),
        ("constant", [0.5, 0.5, 0.5]),
        ("linear", [0.5, 1.0, 1.5]),
        ("exponential", [0.5, 1.0, 2.0]),
    ],
)
def test_pauses_grow_as_asked(backoff: Any, waits: list[float]) -> None:
    """The same, d·n, or d·2^(n-1)."""
    asked = Controls(retry_delay_s=0.5, backoff=backoff)

    assert [retries.wait_s(asked, count) for count in (1, 2, 3)] == waits


@given(st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_only_the_last_of_several_tries_waits_without_limit(tries: int, number: int, last_step: bool) -> None:
    """A single try keeps its limit, and so does every step that another comes after."""
    limit = retries.within_s(Controls(request_timeout_s=1.0, max_attempts=tries), number, last_step=last_step)

    assert (limit is None) == (last_step and tries > 1 and number == tries)


def test_keys_of_providers_are_dropped_from_steps() -> None:
    """What is not sent on is not even held; the step's own wishes are."""
    body = json.dumps([{
        "provider": "openai", "endpoint": "/chat/completions", "query": {"model": "m"},
        "headers": {"Authorization": "Bearer canary", "cf-aig-authorization": "Bearer canary",
                    "x-api-key": "canary", "cf-aig-cache-ttl": 0, "cf-aig-metadata": {"a": 1}},
        "config": {"requestTimeout": 1500, "maxAttempts": 2, "retryDelay": 200, "backoff": "exponential"},
    }]).encode()  # fmt: skip
    (kept,) = steps.read(body, keeps_headers=False)
    (sent_on,) = steps.read(body, keeps_headers=True)

    assert "canary" not in repr(kept)
    assert kept.controls == Controls(
        cache_ttl_s=0.0, metadata={"a": 1}, request_timeout_s=1.5, max_attempts=2, retry_delay_s=0.2,
        backoff="exponential",
    )  # fmt: skip
    assert (kept.provider, kept.endpoint, kept.query) == ("openai", "chat/completions", {"model": "m"})
    assert sent_on.headers == {"Authorization": "Bearer canary", "x-api-key": "canary"}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"[1]",
        b"[{}]",
        b'{"provider": 1}',
        b"\xff",
        b"[" + b'{"provider":"a","endpoint":"b"},' * 20 + b'{"provider":"a","endpoint":"b"}]',
    ],
)
def test_what_is_no_list_of_steps_is_refused(body: bytes) -> None:
    """None, too many, no provider, or no JSON at all."""
    with pytest.raises(CallRefused):
        steps.read(body, keeps_headers=False)


@pytest.mark.parametrize("endpoint", ["", ', "endpoint": ""', ', "endpoint": " / "'])
def test_a_step_without_endpoint_is_told_so(endpoint: str) -> None:
    """By its number, before anybody is asked."""
    body = f'[{{"provider": "openai", "endpoint": "x"}}, {{"provider": "openai"{endpoint}}}]'

    with pytest.raises(CallRefused, match="the endpoint of step 1 is missing"):
        steps.read(body.encode(), keeps_headers=False)


def test_a_pause_that_would_be_too_late_is_not_made() -> None:
    """Ten minutes for a request with all its steps, the pause before the next try included."""
    assert retries.may_go_on(retries.LONGEST_S - 60.1, 60.0)
    assert not retries.may_go_on(retries.LONGEST_S - 60.0, 60.0)
    assert not retries.may_go_on(retries.LONGEST_S)
