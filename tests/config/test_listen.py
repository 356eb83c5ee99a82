"""Listening addresses: how they are written and who can reach them."""

from __future__ import annotations

import pytest

from hybrid_router.config.listen import is_loopback, parse_listen


@pytest.mark.parametrize(
    ("text", "host", "port", "loopback"),
    [
        ("127.0.0.1:8080", "127.0.0.1", 8080, True),
        ("127.9.9.9:0", "127.9.9.9", 0, True),
        ("localhost:65535", "localhost", 65535, True),
        ("LOCALHOST:1", "LOCALHOST", 1, True),
        ("[::1]:8080", "::1", 8080, True),
        ("[0:0:0:0:0:0:0:1]:8080", "::1", 8080, True),
        ("0.0.0.0:80", "0.0.0.0", 80, False),
        ("[::]:80", "::", 80, False),
        ("192.168.1.2:80", "192.168.1.2", 80, False),
        ("router.example.com:80", "router.example.com", 80, False),
        ("localhost.example.com:80", "localhost.example.com", 80, False),
    ],
)
def test_an_address_is_read_and_judged(text: str, host: str, port: int, loopback: bool) -> None:
    """Host and port come apart; only what this machine alone can reach is loopback."""
    assert parse_listen(text) == (host, port)
    assert is_loopback(host) is loopback


@pytest.mark.parametrize(
    "text",
    [
        *("", "8080", ":8080", "localhost", "127.0.0.1:65536", "::1:80", "[::1]", "[x]:80", "[1.2.3.4]:80"),
        *("1.2.3:80", "127.1:80", "256.0.0.1:80", "a b:80", "127.0.0.1:8080\n", "http://localhost:80"),
        "127.0.0.1:٣",
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    """Short forms, missing ports and what only looks like an address are errors, not guesses."""
    with pytest.raises(ValueError, match=r".+"):
        parse_listen(text)
