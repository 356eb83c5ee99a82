"""No secret survives, wherever it stands and however it is spelled."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hybrid_router.core.secret import Secret
from hybrid_router.observe.redact import MARK, Redactor

CANARY = "cfut_Zq81-canary_7Lw0xYp3Rk9sTt"

tokens = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=8, max_size=60)
around = st.text(max_size=60)


def spelled(value: str, spelling: int) -> str:
    """`value` as it may stand in a quoted body."""
    return [
        lambda: value,
        lambda: json.dumps(value)[1:-1],
        lambda: json.dumps(json.dumps(value))[1:-1],
        lambda: "".join(f"\\u{ord(one):04x}" for one in value),
        lambda: "".join(f"\\u{ord(one):04X}" for one in value),
        lambda: quote(value, safe=""),
        lambda: value.replace("/", "\\/"),
    ][spelling]()


@given(tokens, around, around, st.integers(0, 6))
@example("a\\b/c\"d'e\nf", "\\", '"', 1)
@example("12345678", "1234567", "", 0)
def test_a_known_secret_never_survives(value: str, before: str, after: str, spelling: int) -> None:
    """In any position, behind any JSON or URL escape, the value is gone."""
    assume(value not in MARK)
    written = spelled(value, spelling)

    cleaned = Redactor([Secret(value)])(before + written + after)

    assert value not in cleaned
    assert written not in cleaned


@given(tokens, around, st.integers(8, 60))
def test_a_cut_secret_leaves_nothing_recognisable(value: str, before: str, kept: int) -> None:
    """A body cut in the middle of a token does not show the token's head."""
    assume(value[:8] not in MARK)

    cleaned = Redactor([Secret(value)])(before + value[:kept])

    assert value[:8] not in cleaned


@given(tokens, around, around)
def test_the_quick_look_misses_nothing(value: str, before: str, after: str) -> None:
    """A line that holds a secret is always suspected, after its JSON encoding."""
    redactor = Redactor([Secret(value)])
    line = json.dumps({"detail": before + value + after}, ensure_ascii=False)

    assert redactor.suspects(line.encode("utf-8", "backslashreplace"))


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer {}",
        "authorization:{}",
        "AUTHORIZATION : token {}\r\nHost: x",
        "Proxy-Authorization: Digest username={}",
        "cf-aig-authorization: Bearer {}",
        '{{"Authorization": "Bearer {}"}}',
        '"{{\\"authorization\\": \\"Bearer {}\\"}}"',
        "<CIMultiDictProxy('Authorization': 'Bearer {}', 'Host': 'x')>",
        "((b'Authorization', b'Bearer {}'), (b'Host', b'x'))",
        "b'POST / HTTP/1.1\\r\\nAuthorization: Bearer {}\\r\\n'",
        "bearer {}",
        "said\\nBearer {}",
        "Bearer%20{}",
        "Basic {}",
        "x-api-key: {}",
        "?api_key={}&x=1",
        "api-key={}",
        "Cookie: session={}",
        "password={}",
    ],
)
@settings(max_examples=20)
@given(value=st.from_regex(r"[A-Za-z0-9_\-]{16,48}", fullmatch=True))
def test_what_a_header_or_field_says_is_secret_goes(text: str, value: str) -> None:
    """Unknown values go too when their place says what they are."""
    cleaned = Redactor()(text.format(value))

    assert value not in cleaned
    assert MARK in cleaned


@pytest.mark.parametrize("prefix", ["cfut_", "cfat_", "sk-", "sk-proj-", "hr_", "hf_", "ghp_", "gsk_"])
@pytest.mark.parametrize("before", ["", " ", "key=", '"', "\\n", "%20", "\\u0020", "("])
def test_keys_are_known_by_their_prefix(before: str, prefix: str) -> None:
    """A bare key is recognised without its header, also right behind an escape."""
    value = prefix + "Abcdefghijklmnop0123456789"

    assert value not in Redactor()(f"no such key {before}{value} here")


@pytest.mark.parametrize(
    "text",
    [
        "max_tokens: 5 is over the limit of 4 tokens",
        "the task-oriented-dialogue-model is not known",
        "local/smollm2-135m-instruct-q4 gave no token within 5 s",
        "@cf/meta/llama-3.1-8b-instruct-fp8 has no capacity",
        "dec_5f3a0c1d2e3f4a5b6c7d8e9f00112233",
        "grüße 漢字 🙂",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    """Model names, ids and error sentences stay readable."""
    redactor = Redactor([Secret(CANARY), Secret("abc"), Secret("")])

    assert redactor(text) == text
    assert not redactor.suspects(text.encode())


ROW = (
    '{{"time":"2025-01-31T12:03:04.567+00:00","level":"info","event":"attempt","attempt":1,'
    '"call":"chatcmpl-5f3a0c1d2e3f4a5b6c7d8e9f00112233","stream":true,"duration_s":1.512345,"alias":"{}"}}'
)


@pytest.mark.parametrize(
    ("alias", "passes"),
    [
        ("local/smollm2-135m-instruct-q4", True),
        ("a\\nb", True),
        ("kleines-größtes", False),
        ("\x7f", False),
        ("\u202e", False),
        ("18446744073709551616", False),
        (CANARY, False),
        ("Bearer abc", False),
    ],
)
def test_a_usual_row_needs_no_care(alias: str, passes: bool) -> None:
    """The rows of most calls are written as they are encoded, and no other."""
    assert Redactor([Secret(CANARY)]).passes(ROW.format(alias).encode()) is passes


def test_lone_surrogates_are_spelled_out() -> None:
    """Text that has no UTF-8 form is cleaned all the same."""
    assert Redactor([Secret(CANARY)])(f"\ud800 {CANARY}") == f"\\ud800 {MARK}"


def test_a_long_secret_goes_whole() -> None:
    """A key file of many kilobytes is hidden to its last character."""
    value = "-----BEGIN KEY-----\n" + "0123456789abcdef" * 400 + "LAST"

    cleaned = Redactor([Secret(value)])(f"<{value}>")

    assert cleaned == f"<{MARK}>"


def test_a_megabyte_of_backslashes_is_no_trap() -> None:
    """Hostile text costs time in proportion to its length: the test's time limit is the proof."""
    text = "\\" * 1_000_000

    assert Redactor([Secret(CANARY)])(text) == text
