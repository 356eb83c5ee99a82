"""What is told of requests that were turned away before they were calls."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from scripted_answers import CHAT, ScriptedAnswers, Told, exchange, listening, post, request_bytes

from hybrid_router.api.answers import Refused
from hybrid_router.api.refused import printable
from hybrid_router.config.schema import Key, Server
from hybrid_router.core.errors import BackendError

OPEN = Server(listen="127.0.0.1:0", body_limit=1024)
KEYED = Server(listen="127.0.0.1:0", keys=(Key(name="alice", sha256="0" * 64),))
CHAT_PATH = "/v1/chat/completions"
SECRET = "hr-canary-0123456789"


async def told_of(raw: bytes, server: Server = OPEN) -> dict[str, Any]:
    """What is told of one request, but for what every one has; it must be told once."""
    heard: list[Refused] = []
    async with listening(ScriptedAnswers(), server, on_refusal=heard.append) as listener:
        reply = await exchange(listener.port, raw)
    (refused,) = heard
    told: dict[str, Any] = msgspec.to_builtins(refused)
    assert told.pop("request") == reply.headers["x-request-id"]
    assert told.pop("client") == "127.0.0.1"
    assert (told["status"], told["error"]) == (reply.status, reply.error["code"])
    return {name: value for name, value in told.items() if value is not None}


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (
            request_bytes("POST", CHAT_PATH, b"{"),
            {"status": 400, "error": "invalid_request_error", "method": "POST", "path": CHAT_PATH},
        ),
        (
            request_bytes("POST", CHAT_PATH, b"{}", content_type="text/plain"),
            {"status": 415, "error": "unsupported_media_type", "method": "POST", "path": CHAT_PATH},
        ),
        (
            request_bytes("POST", CHAT_PATH, b" " * 1025),
            {"status": 413, "error": "request_too_large", "method": "POST", "path": CHAT_PATH},
        ),
        (
            request_bytes("GET", "/v1/models/no/such"),
            {"status": 404, "error": "model_not_found", "method": "GET", "path": "/v1/models/{name}"},
        ),
        (
            request_bytes("GET", f"/v1/nowhere?key={SECRET}"),
            {"status": 404, "error": "not_found", "method": "GET", "path": "/v1/nowhere"},
        ),
        (
            request_bytes("GET", f"http://me:{SECRET}@localhost/nowhere"),
            {"status": 404, "error": "not_found", "method": "GET", "path": "/nowhere"},
        ),
        (
            request_bytes("DELETE", CHAT_PATH),
            {"status": 405, "error": "method_not_allowed", "method": "DELETE", "path": CHAT_PATH},
        ),
        (
            request_bytes("GET", "/health", host="host.docker.internal:8080"),
            {
                "status": 421,
                "error": "host_not_allowed",
                "method": "GET",
                "path": "/health",
                "host": "host.docker.internal:8080",
            },
        ),
        (
            request_bytes("GET", "/health", host=f"me:{SECRET}@localhost"),
            {"status": 421, "error": "host_not_allowed", "method": "GET", "path": "/health"},
        ),
        (
            request_bytes("GET", "http://attacker.test/health"),
            {
                "status": 421,
                "error": "host_not_allowed",
                "method": "GET",
                "path": "/health",
                "host": "attacker.test",
            },
        ),
        (
            request_bytes("GET", "/v1/models", headers={"Origin": "https://evil.example"}),
            {
                "status": 403,
                "error": "permission_denied",
                "method": "GET",
                "path": "/v1/models",
                "origin": "https://evil.example",
            },
        ),
        (
            request_bytes("GET", "/v1/models", headers={"Sec-Fetch-Site": "cross-site"}),
            {"status": 403, "error": "permission_denied", "method": "GET", "path": "/v1/models"},
        ),
        (b"\x16\x03\x01\x02\r\n\r\n", {"status": 400, "error": "invalid_request_error"}),
    ],
    ids=lambda value: f"{value['status']}" if isinstance(value, dict) else "",
)
async def test_every_refusal_is_told_once(raw: bytes, told: dict[str, Any]) -> None:
    """Whatever is turned away: what it was, why, and the name that would have to be allowed."""
    assert await told_of(raw) == told


async def test_a_wrong_key_is_told_without_the_key() -> None:
    """Somebody who guesses keys is seen; what was guessed is not, it may be a slip of the real one."""
    headers = [("Authorization", f"Bearer {SECRET}"), ("x-api-key", SECRET), ("Cookie", SECRET)]
    for path in (CHAT_PATH, "/ready", f"/v1/nowhere?api_key={SECRET}"):
        told = await told_of(request_bytes("GET", path, headers=headers), KEYED)

        assert (told["status"], told["error"]) == (401, "invalid_api_key")
        assert SECRET not in str(told)


async def test_long_names_are_cut() -> None:
    """Nobody can fill a log line, or forge one, with a host or a path."""
    host = await told_of(request_bytes("GET", "/health", host="x" * 5000))
    path = await told_of(request_bytes("GET", "/" + "y" * 5000))

    assert host["host"] == "x" * 100 + "…"
    assert path["path"] == "/" + "y" * 99 + "…"
    assert printable("a\nb\x1b\u202ec") == "a?b??c"


async def test_a_call_is_no_refusal() -> None:
    """What `on_call` hears of is not told a second time, whether it was answered or failed."""
    heard: list[Refused] = []
    calls, answers = Told(), ScriptedAnswers()
    async with listening(answers, OPEN, calls, heard.append) as listener:
        assert (await post(listener.port, CHAT_PATH, CHAT)).status == 200
        answers.refusal = BackendError("no")
        assert (await post(listener.port, CHAT_PATH, CHAT)).status == 502
        assert (await post(listener.port, CHAT_PATH, {**CHAT, "model": "other"})).status == 502
        answers.refusal, answers.script = None, [BackendError("broken")]
        assert (await post(listener.port, CHAT_PATH, CHAT)).status == 502
        assert (await post(listener.port, CHAT_PATH, {**CHAT, "stream": True})).status == 502

    assert len(calls.ended) == 5
    assert heard == []
