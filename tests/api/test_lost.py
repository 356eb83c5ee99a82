"""What clients are told that ask at an address where there is nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from scripted_answers import ScriptedAnswers, exchange, listening, request_bytes

from hybrid_router.api.lost import advice
from hybrid_router.api.routes import ROUTES

KNOWN = {route.path for route in ROUTES}
HOST = "box:8080"


@pytest.fixture
async def port() -> AsyncGenerator[int]:
    """The port of a router that is never asked to answer."""
    async with listening(ScriptedAnswers()) as listener:
        yield listener.port


@pytest.mark.parametrize("path", [path for path in sorted(KNOWN) if path.startswith("/v1/")])
def test_a_missing_base_is_told(path: str) -> None:
    """Each address without its /v1 (and /v1 twice) says which was meant and how the base URL should
    end, be it http or https."""
    short = path.removeprefix("/v1")
    if short not in KNOWN:
        assert advice(short, HOST, KNOWN) == f"did you mean {path}? let the base URL end with {HOST}/v1"
    assert advice(f"/v1{path}", HOST, KNOWN) == (
        f"did you mean {path}? let the base URL end with {HOST}, without /v1"
    )
    assert advice(f"{path}/", HOST, KNOWN) == f"did you mean {path}, without the slash at its end?"


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/completion", "use POST /v1/completions"),
        ("/infill", "with `suffix`"),
        ("/props", "router.yaml"),
        ("/slots", "GET /metrics"),
        ("/tokenize", "`usage`"),
        ("/api/chat", "use POST /v1/chat/completions"),
        ("/v1/responses", "use POST /v1/chat/completions"),
    ],
)
def test_another_servers_address_has_a_way_on(path: str, said: str) -> None:
    """It is not offered, and what is instead is named, if it exists."""
    told = advice(path, HOST, KNOWN)

    assert told.startswith(f"{path} is not offered here: ")
    assert said in told
    assert path not in KNOWN
    assert [word for word in told.split() if word.startswith("/v1") and word not in KNOWN] in ([], [path])


@pytest.mark.parametrize("account", ["abc", "0" * 31, "0" * 33, "z" * 32])
def test_an_account_id_that_is_none_is_told_its_form(account: str) -> None:
    """Where the rest of the address is a gateway's; one that is right has another mistake."""
    assert "ACCOUNT has 32 hexadecimal digits" in advice(
        f"/v1/{account}/site/openai/chat/completions", HOST, KNOWN
    )
    assert "32" not in advice(f"/v1/{'0' * 32}/site/openai", HOST, KNOWN)


@pytest.mark.parametrize("path", ["/", "//", "/v1", "/v1/v1", "/nowhere", "/v1/nope", "/v1/chat", ""])
def test_elsewhere_there_is_nothing(path: str) -> None:
    """Whatever is like nothing that we know: where to read what there is."""
    assert "docs/api.md" in advice(path, HOST, KNOWN - {"/"})


async def test_the_reply_is_an_error_object(port: int) -> None:
    """404 with its code, and the host as the client wrote it."""
    raw = request_bytes("POST", "/chat/completions", b"{}", host=f"localhost:{port}")
    reply = await exchange(port, raw)

    assert (reply.status, reply.error["code"]) == (404, "not_found")
    assert reply.error["message"].endswith(f"let the base URL end with localhost:{port}/v1")
