"""Failed replies and what they mean.  The code decides, the status only without one."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_cloud import ACCOUNT, TOKEN, answer, chat, cloud, plain

from hybrid_router.backends.http import redactor, retry_after_s
from hybrid_router.backends.workers_ai.refusal import ModelGone, NoSuch, refusal
from hybrid_router.core import errors
from hybrid_router.core.errors import BackendError, CallRefused, RouterError

NOW = datetime(2026, 11, 21, 22, 30, tzinfo=UTC)


def envelope(*codes: int, message: str = "AiError: AiError: words (8700d6e7-0000)") -> bytes:
    """A failed reply's body."""
    return json.dumps(
        {"errors": [{"code": code, "message": message} for code in codes], "success": False, "result": {}}
    ).encode()


def named(status: int, body: bytes, **headers: str) -> RouterError:
    """What a reply means at half past ten in the evening."""
    return refusal(status, {k.replace("_", "-"): v for k, v in headers.items()}, body, now=NOW)


@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        (429, 3021, errors.BackendBusy, "rate limit"),
        (429, 3040, errors.BackendBusy, "no capacity"),
        (429, 3036, errors.QuotaExhausted, "allowance"),
        (429, 4006, errors.QuotaExhausted, "allowance"),
        (429, 2003, errors.BackendBusy, "AI Gateway"),
        (400, 5006, errors.CallRefused, "words"),
        (400, 8001, errors.CallRefused, "words"),
        (400, 8007, errors.CallRefused, "words"),
        (400, 8006, errors.CallRefused, "words"),
        (400, 5004, errors.CallRefused, "words"),
        (422, 5012, errors.CallRefused, "words"),
        (405, 5005, errors.CallRefused, "words"),
        (400, 5021, errors.ContextOverflow, "do not fit"),
        (413, 3006, errors.CallRefused, "too large"),
        (422, 2017, errors.ContentRefused, "content rules"),
        (424, 2016, errors.ContentRefused, "content rules"),
        (400, 5007, NoSuch, "no such model"),
        (404, 3042, NoSuch, "no such model"),
        (410, 5028, ModelGone, "retired"),
        (403, 5018, errors.BackendMisconfigured, "may not use"),
        (403, 3041, errors.BackendMisconfigured, "may not use"),
        (403, 5035, errors.BackendMisconfigured, "Workers Paid"),
        (403, 5016, errors.BackendMisconfigured, "terms"),
        (403, 3023, errors.AccountRefused, "blocked"),
        (401, 10000, errors.AccountRefused, "token"),
        (403, 10000, errors.AccountRefused, "token"),
        (400, 9106, errors.AccountRefused, "token"),
        (404, 7003, errors.AccountRefused, "account id"),
        (404, 7000, errors.AccountRefused, "account id"),
        (402, 2021, errors.BackendMisconfigured, "credit"),
        (401, 2009, errors.AccountRefused, "AI Gateway"),
        (400, 2001, errors.AccountRefused, "AI Gateway"),
        (408, 3046, errors.BackendTimeout, "too long"),
        (408, 3007, errors.BackendTimeout, "too long"),
        (408, 3008, errors.BackendTimeout, "too long"),
        (503, 7013, errors.BackendUnavailable, "not available"),
        (400, 8005, BackendError, "failed"),
    ],
)
def test_each_code_has_its_own_meaning(status: int, code: int, kind: type[RouterError], words: str) -> None:
    """Whatever status comes with it, even 200, the code means the same."""
    for told in (named(status, envelope(code)), named(200, envelope(code)), named(500, envelope(code))):
        assert type(told) is kind
        assert words in told.message
        assert str(code) in told.detail


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, errors.AccountRefused),
        (307, errors.AccountRefused),
        (400, BackendError),
        (401, errors.AccountRefused),
        (403, errors.BackendMisconfigured),
        (404, errors.BackendMisconfigured),
        (405, errors.AccountRefused),
        (408, errors.BackendTimeout),
        (410, ModelGone),
        (413, errors.CallRefused),
        (418, BackendError),
        (429, errors.BackendBusy),
        (500, BackendError),
        (502, errors.BackendUnavailable),
        (503, errors.BackendUnavailable),
        (504, errors.BackendUnavailable),
        (522, errors.BackendUnavailable),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b"{}", b'{"errors":[]}', b"\xff\x00"])
def test_without_a_code_the_status_decides(status: int, kind: type[RouterError], body: bytes) -> None:
    """A proxy's page says little: only what is surely the client's fault is laid at its door."""
    told = named(status, body)

    assert type(told) is kind
    assert re.fullmatch(rf"status {status}(: .+)?", told.detail), "what is not known is left out"


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, errors.AccountRefused),
        (403, errors.BackendMisconfigured),
        (429, errors.BackendBusy),
        (503, errors.BackendUnavailable),
        (500, BackendError),
        (302, errors.AccountRefused),
        (522, errors.BackendUnavailable),
        (418, BackendError),
        (200, BackendError),
    ],
)
@pytest.mark.parametrize("code", [8005, 1])
def test_a_code_that_says_nothing_leaves_it_to_the_status(
    status: int, kind: type[RouterError], code: int
) -> None:
    """8005 is an internal error, 1 is nothing that we know: a 401 with either is still about our token."""
    told = named(status, envelope(code, message="words"))

    assert type(told) is kind
    assert told.detail == f"status {status}, code {code}: words"


@pytest.mark.parametrize(
    "words",
    [
        "This model's maximum context length is 4096 tokens. However, you requested 5000",
        "The estimated number of input and maximum output tokens exceeded this model context window limit",
    ],
)
@pytest.mark.parametrize("code", [5006, 8001, 8007])
def test_a_prompt_that_does_not_fit_is_named_so(code: int, words: str) -> None:
    """Another step may have a longer context, so this is not just a refused call."""
    told = named(400, envelope(code, message=words))

    assert type(told) is errors.ContextOverflow
    assert told.code == "context_length_exceeded"


def test_the_error_that_says_most_is_taken() -> None:
    """7003 comes with 7000 beside it; unknown codes do not hide known ones."""
    assert "account id" in named(404, envelope(7003, 7000)).message
    assert type(named(429, envelope(1, 3036))) is errors.QuotaExhausted


@pytest.mark.parametrize(
    "body",
    [
        b'{"success":false,"result":[],"messages":[],"error":[{"code":2009,"message":"Unauthorized"}],"name":"AiGatewayError"}',
        b'{"success":false,"error":[{"code":"2009","message":"Unauthorized"}]}',
        b'{"error":{"internalCode":2009,"message":"Unauthorized"}}',
        b'{"error":"2009: Unauthorized"}',
        b'{"message":"AiError: 2009: Unauthorized"}',
    ],
)
def test_every_shape_of_an_error_is_read(body: bytes) -> None:
    """Envelope, gateway, OpenAI and binding write their errors differently."""
    assert "AI Gateway" in named(401, body).message


def test_the_days_allowance_is_renewed_at_midnight_utc() -> None:
    """Retrying before that is pointless, whatever Retry-After says."""
    assert named(429, envelope(4006), retry_after="1").retry_after_s == 5400
    assert named(429, envelope(3036)).retry_after_s == 5400


def test_a_minutes_rate_is_over_within_a_minute() -> None:
    """Unless upstream knows better; capacity has no such bound."""
    assert named(429, envelope(3021)).retry_after_s == 60
    assert named(429, envelope(3021), Retry_After="7").retry_after_s == 7
    assert named(429, envelope(3040)).retry_after_s is None


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("", None),
        ("0", 0),
        (" 7 ", 7),
        ("1.5", 1.5),
        ("-5", None),
        ("soon", None),
        ("1e9", None),
        ("٣", None),
        ("999999999", None),
        ("9" * 5000, None),
        ("86400", 86400),
        ("Sat, 21 Nov 2026 22:31:00 GMT", 60),
        ("Sat, 21 Nov 2026 22:31:00 -0000", 60),
        ("Sat, 21 Nov 2026 22:29:00 GMT", 0),
        ("Sat, 21 Nov 2099 22:29:00 GMT", None),
        ("Sat, 99 Nov 2026 22:29:00 GMT", None),
    ],
)
def test_retry_after_is_read_in_every_form(value: str | None, expected: float | None) -> None:
    """Seconds, dates, and nonsense that nobody should wait for."""
    assert retry_after_s(value, NOW) == expected


@given(st.text())
def test_retry_after_never_raises(value: str) -> None:
    """Whatever a server sends."""
    wait_s = retry_after_s(value, NOW)

    assert wait_s is None or 0 <= wait_s <= 86_400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.sampled_from([3036, "5006", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["errors", "error", "code", "message", "internalCode"]), inner)
    ),
    max_leaves=8,
)


@given(
    st.integers(min_value=100, max_value=999),
    st.one_of(st.binary(), json_values.map(lambda v: json.dumps(v).encode())),
)
def test_any_reply_is_named(status: int, body: bytes) -> None:
    """Nothing a server sends raises anything foreign; what is said of it is bounded."""
    told = named(status, body)

    assert isinstance(told, BackendError | CallRefused)
    assert len(told.message) < 700
    assert len(told.detail) <= 1000


def test_upstreams_words_are_cleaned_before_anyone_reads_them() -> None:
    """No account, token, address or control character; the request's id goes too."""
    said = (
        f"bad {ACCOUNT} {TOKEN} at https://api.example/x and /client/v4/accounts/1\n\x1b[31m (8700d6e7-0000)"
    )
    told = refusal(400, {}, envelope(5006, message=said), now=NOW, redact=redactor(TOKEN, ACCOUNT))

    for text in (told.message, told.detail):
        assert ACCOUNT not in text
        assert TOKEN not in text
        assert "/client/v4" not in text
        assert "https:" not in text
        assert "8700d6e7" not in text
        assert text.isprintable()


async def test_a_refused_call_costs_one_request_and_keeps_the_connection() -> None:
    """There is no retry inside the backend, and the next call need not shake hands again."""
    async with cloud(
        plain({"errors": [{"code": 3040, "message": "m"}]}, "429 Busy", "Retry-After: 3\r\n")
    ) as (b, up):
        for _ in range(2):
            with pytest.raises(errors.BackendBusy) as caught:
                await answer(b, chat())

    assert caught.value.retry_after_s == 3
    assert (up.accepted_count, len(up.requests)) == (1, 2)


async def test_a_redirect_is_not_followed() -> None:
    """The token goes nowhere but where router.yaml says."""
    async with cloud(plain({})) as (_, trap):
        address = f"Location: http://127.0.0.1:{trap.port}/elsewhere\r\n"
        async with cloud(plain({}, "307 Temporary Redirect", address)) as (backend, upstream):
            with pytest.raises(errors.BackendMisconfigured, match="redirect"):
                await answer(backend, chat())

    assert len(upstream.requests) == 1
    assert trap.accepted_count == 0


async def test_an_endless_error_body_is_not_read_to_its_end() -> None:
    """The status still says what it can."""
    async with cloud(plain(b"x" * 10_000_000, "503 Service Unavailable")) as (backend, _):
        with pytest.raises(errors.BackendUnavailable):
            await answer(backend, chat())


OLD, NEW = "@cf/meta/llama-2-7b-chat-int8", "@cf/meta/llama-3.2-3b-instruct"


@pytest.mark.parametrize(("status", "code"), [("410 Gone", 5028), ("400 Bad Request", 5007)])
async def test_a_retired_model_is_refused_with_its_successor(status: str, code: int) -> None:
    """Whichever way Cloudflare says that it is gone, the message says what to write in its place."""
    body = {"success": False, "result": {}, "errors": [{"code": code, "message": f"AiError: {OLD}"}]}
    async with cloud(plain(body, status)) as (backend, _):
        with pytest.raises(errors.BackendMisconfigured) as retired:
            await answer(backend, chat(), OLD)
        with pytest.raises(errors.BackendMisconfigured) as current:
            await answer(backend, chat(), NEW)
        with pytest.raises(errors.BackendMisconfigured) as unknown:
            await answer(backend, chat(), "@cf/somebody/elses")

    assert retired.value.message == (
        f"Workers AI has retired {OLD} on 2026-05-30: name {NEW} in its place in router.yaml"
    )
    assert str(code) in retired.value.detail
    assert NEW not in current.value.message
    assert "in router.yaml" in unknown.value.message
