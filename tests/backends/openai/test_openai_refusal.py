"""What error replies mean, for every kind of server that was seen."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from hybrid_router.backends.openai.refusal import BILLING_WAIT_S, refusal
from hybrid_router.core.errors import (
    AccountRefused,
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BackendUnavailable,
    CallRefused,
    ContentRefused,
    ContextOverflow,
    QuotaExhausted,
    RouterError,
    RouterLoop,
)

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def named(status: int, body: Any = None, headers: dict[str, str] | None = None) -> RouterError:
    """What a reply means."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return refusal("box", status, headers or {}, raw, now=NOW, redact=str)


def error(message: str = "no", kind: str = "x", code: Any = None) -> dict[str, Any]:
    """OpenAI's form."""
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        (401, error(code="invalid_api_key"), AccountRefused),
        (403, error(), AccountRefused),
        (402, {"error": "credits"}, QuotaExhausted),
        (404, error(code="model_not_found"), BackendMisconfigured),
        (404, {"error": 'model "x" not found, try pulling it first'}, BackendMisconfigured),  # Ollama
        (405, b"", AccountRefused),
        (429, error(code="insufficient_quota"), QuotaExhausted),
        (429, error(kind="insufficient_quota"), QuotaExhausted),
        (429, error(kind="requests", code="rate_limit_exceeded"), BackendBusy),
        (400, error(code="context_length_exceeded"), ContextOverflow),
        (400, error(kind="exceed_context_size_error", code=400), ContextOverflow),  # llama-server
        (400, {"message": "This model's maximum context length is 5 tokens"}, ContextOverflow),  # vLLM
        (400, error(code="content_policy_violation"), ContentRefused),
        (400, error(), CallRefused),
        (422, {"detail": [{"msg": "field required"}]}, CallRefused),  # FastAPI
        (413, b"<html>", CallRefused),
        (408, b"", BackendTimeout),
        (500, error(), BackendError),
        (503, error("Loading model", "unavailable_error", 503), BackendUnavailable),  # llama-server
        (502, b"<html>bad gateway</html>", BackendUnavailable),
        (504, b"", BackendTimeout),
        (522, b"", BackendUnavailable),
        (302, b"", AccountRefused),
        (200, error(code=429), BackendBusy),
        (200, error(), BackendError),
        (200, {"error": ["a", "b"]}, BackendError),
        (403, error(code="refused_by_policy"), BackendError),  # another router
        (502, error(code="router_loop"), RouterLoop),
        (200, error(code="insufficient_quota"), QuotaExhausted),
    ],
)
def test_each_reply_has_one_meaning(status: int, body: Any, kind: type[RouterError]) -> None:
    """The code first, then the status, whatever shape the body has."""
    assert type(named(status, body)) is kind


def test_money_that_is_gone_does_not_come_back_at_midnight() -> None:
    """It is asked for again after minutes, or when the server says."""
    gone = error(code="insufficient_quota")
    assert named(429, gone).retry_after_s == BILLING_WAIT_S
    assert named(429, gone, {"Retry-After": "30"}).retry_after_s == 30


def test_a_model_that_is_being_loaded_says_how_long() -> None:
    """Where the server does."""
    told = named(503, {"error": "Model org/name is currently loading", "estimated_time": 20.5})
    assert (type(told), told.retry_after_s) == (BackendUnavailable, 20.5)


def test_the_client_reads_what_is_wrong_with_its_call() -> None:
    """And of nobody else's fault only what to do; the server's own words are for the log."""
    assert named(400, error("temperature is odd")).message.endswith("temperature is odd")
    failed = named(500, error("secret innards"))
    assert "innards" not in failed.message
    assert "innards" in failed.detail


@pytest.mark.parametrize("body", [b"", b"[1]", b"{", b'{"error": 5}', b'{"error": {"code": {}}}', b"\xff"])
def test_an_odd_body_leaves_the_status_to_decide(body: bytes) -> None:
    """And nothing fails over it."""
    assert type(named(429, body)) is BackendBusy
