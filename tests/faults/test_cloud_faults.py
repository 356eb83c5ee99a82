"""Everything a cloud can do wrong, through the real router: F11 to F23 for streamed and plain calls.

Before the first token the next step answers, whole; after it a stream ends in-band and a plain call still
goes to the next step.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import TOKEN, Emulator, Router, stopped_at_end
from wire_client import PROMPT_CANARY, Answer, ask, chat_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

SAID = f"{PROMPT_CANARY}: count to 3"
CLOUD_TEXT = "1 2 3"
# `data:` lines of the stream: the role, three tokens, the finish, two with usage, `[DONE]`.
CHAT_LINES, CHAT_ROLE_LINES = 8, 1
# The native form: three tokens, one with usage, `[DONE]`.
NATIVE_LINES = 5
TOKENS = 3
Fault = dict[str, Any]
StartRouter = Callable[..., Router]

BEFORE_FIRST: dict[str, Fault] = {
    "rate limit of the minute": {"code": 3021},
    "daily allowance as documented": {"code": 3036},
    "daily allowance as seen": {"code": 4006},
    "no capacity": {"code": 3040},
    "no capacity, with advice": {"code": 3040, "retry_after": "7"},
    "internal error": {"code": 8005},
    "bad gateway": {"status": 502},
    "origin unreachable": {"status": 522},
    "page of a proxy": {"html": True},
    "page of a proxy with status": {"html": True, "status": 503},
    "token not accepted": {"code": 10000},
    "token quoted in the error": {"status": 500, "message": f"Bearer {TOKEN} is not welcome"},
    "prompt quoted in the error": {"status": 500, "message": f"cannot answer {SAID!r}"},
    "silence before headers": {"hang": "before_headers"},
    "silence after headers": {"hang": "after_headers"},
    "comments for ever": {"pings": True},
    "late headers": {"delay_headers_s": 30},
    "late first byte": {"delay_first_s": 30},
    "reset before the first event": {"cut_after": 0},
    "close before the first event": {"close_after": 0},
    "silence before the first event": {"stall_after": 0},
    "malformed first line": {"malformed_after": 0},
    "error as the first event": {"error_after": 0, "code": 3040},
}
SILENT = {"hang", "pings", "delay_headers_s", "delay_first_s", "stall_after"}
AFTER_FIRST: dict[str, Fault] = {
    "reset": {"cut_after": 2},
    "close without an end": {"close_after": 2},
    "silence": {"stall_after": 2},
    "malformed line": {"malformed_after": 2},
    "error as an event": {"error_after": 2, "code": 3040},
}
HARMLESS: dict[str, Fault] = {
    "plain JSON though a stream was asked for": {"plain": True},
    "numbers instead of text": {"numeric": True},
    "[DONE] twice": {"doubled_done": True},
    "one byte a write": {"bytewise": True},
    "a delay that the policy allows": {"delay_first_s": 0.05},
}


@pytest.fixture(scope="module")
def router(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service that gives the cloud 500 ms to say something."""
    config = policy(manifest, emulator.base_url, first_token="500ms", between_tokens="500ms")
    started = Router(config, tmp_path_factory.mktemp("faults"))
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def local_text() -> dict[str, str]:
    """What the model says to it, once it was asked."""
    return {}


async def models_own(router: Router, local_text: dict[str, str]) -> str:
    """The local step's whole text."""
    if not local_text:
        local_text["text"] = (await ask(router, chat_body("local-only", SAID, max_tokens=4))).text()
    return local_text["text"]


async def asked(
    router: Router, emulator: Emulator, alias: str, fault: Fault, *, stream: bool, said: str = SAID
) -> Answer:
    """One call that meets one fault."""
    emulator.calm()
    router.forgive()
    emulator.fault(**fault)
    return await ask(router, chat_body(alias, said, stream=stream, max_tokens=4))


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("fault", BEFORE_FIRST.values(), ids=BEFORE_FIRST.keys())
async def test_before_the_first_token_the_next_step_answers(
    router: Router, emulator: Emulator, local_text: dict[str, str], fault: Fault, stream: bool
) -> None:
    """Whole, by the model, as the second of two attempts; the cloud is let go of."""
    text = await models_own(router, local_text)
    before = await router.quiet()
    answer = await asked(router, emulator, "cloud-first", fault, stream=stream)

    assert (answer.status, answer.error, answer.text()) == (200, None, text)
    assert answer.served_by == ("local", "2")
    first, second = await assert_invariants(router, before, [answer])
    assert (first["backend"], first["outcome"]) == ("cloudflare", "failed")
    assert (second["backend"], second["outcome"]) == ("local", "answered")
    assert "ttft_s" not in first
    assert (first["error"] == "backend_timeout") == bool(SILENT & fault.keys())
    assert len(emulator.calls()) == 1


@pytest.mark.parametrize("alias", ["cloud-first", "native-first"])
@pytest.mark.parametrize("fault", AFTER_FIRST.values(), ids=AFTER_FIRST.keys())
async def test_after_the_first_token_a_stream_ends_in_band(
    router: Router, emulator: Emulator, alias: str, fault: Fault
) -> None:
    """A prefix of the answer, one error event, no `[DONE]`, no second attempt."""
    before = await router.quiet()
    answer = await asked(router, emulator, alias, fault, stream=True)

    assert answer.error is not None
    assert answer.text()
    assert CLOUD_TEXT.startswith(answer.text())
    assert answer.text() != CLOUD_TEXT
    (attempt,) = await assert_invariants(router, before, [answer])
    assert attempt["outcome"] == "broken"
    assert len(emulator.calls()) == 1


@pytest.mark.parametrize("alias", ["cloud-first", "native-first"])
@pytest.mark.parametrize("fault", AFTER_FIRST.values(), ids=AFTER_FIRST.keys())
async def test_a_plain_call_has_seen_nothing_yet(
    router: Router, emulator: Emulator, local_text: dict[str, str], alias: str, fault: Fault
) -> None:
    """Where a stream would be broken, a plain call gets all of the next step's answer."""
    text = await models_own(router, local_text)
    before = await router.quiet()
    answer = await asked(router, emulator, alias, fault, stream=False)

    assert (answer.status, answer.text()) == (200, text)
    assert answer.served_by == ("local", "2")
    first, second = await assert_invariants(router, before, [answer])
    assert (first["outcome"], second["outcome"]) == ("failed", "answered")  # nothing of it was shown


@pytest.mark.parametrize("alias", ["cloud-first", "native-first"])
@pytest.mark.parametrize("ending", ["cut_after", "close_after"])
async def test_wherever_a_stream_is_cut_its_text_is_exact(
    router: Router, emulator: Emulator, local_text: dict[str, str], alias: str, ending: str
) -> None:
    """Swept over every event: another step's whole answer, a prefix with an error, or all of it."""
    text = await models_own(router, local_text)
    lines, role_lines = (CHAT_LINES, CHAT_ROLE_LINES) if alias == "cloud-first" else (NATIVE_LINES, 0)
    whole_from = role_lines + TOKENS + 1  # chat: the finish; native, which has none: usage, then `[DONE]`
    before = await router.quiet()
    answers = []
    for place in range(lines):
        answer = await asked(router, emulator, alias, {ending: place}, stream=True)
        answers.append(answer)
        if place <= role_lines:
            assert (answer.text(), answer.served_by) == (text, ("local", "2")), place
        elif place < whole_from or alias == "native-first":
            assert answer.error is not None, place
            assert CLOUD_TEXT.startswith(answer.text())
        else:
            assert (answer.text(), answer.error) == (CLOUD_TEXT, None), place
    await assert_invariants(router, before, answers)


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize("alias", ["cloud-first", "native-first"])
@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS.keys())
async def test_oddities_do_no_harm(
    router: Router, emulator: Emulator, alias: str, fault: Fault, stream: bool
) -> None:
    """The cloud's answer arrives whole and exact, from the cloud."""
    before = await router.quiet()
    # A number has no white space around it, so only an answer of one token can come back exact.
    last = 1 if "numeric" in fault else 3
    answer = await asked(router, emulator, alias, fault, stream=stream, said=f"count to {last}")

    assert (answer.text(), answer.error) == (CLOUD_TEXT[: 2 * last - 1], None)
    assert answer.served_by[1] == "1"
    await assert_invariants(router, before, [answer])


@pytest.fixture
async def trap() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that nobody should ask: its address, and what it was sent."""
    heard: list[bytes] = []

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.read(65536))
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/client/v4", heard


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_a_redirect_is_not_followed(
    router: Router, emulator: Emulator, trap: tuple[str, list[bytes]], stream: bool
) -> None:
    """The token and the prompt go nowhere else; the next step answers."""
    address, heard = trap
    before = await router.quiet()
    answer = await asked(router, emulator, "cloud-first", {"redirect": address}, stream=stream)

    assert answer.served_by == ("local", "2")
    assert heard == []
    await assert_invariants(router, before, [answer])


async def test_a_closed_port_is_passed_over_once(start_router: StartRouter, emulator: Emulator) -> None:
    """Nobody listens at the first cloud: the model answers, and the next calls do not even try it."""
    router = start_router()
    emulator.calm()
    before = await router.quiet()
    answers = [
        await ask(router, chat_body(alias, SAID, stream=stream, max_tokens=4))
        for alias in ("closed-then-local", "closed-then-cloud")
        for stream in (True, False)
    ]

    assert [answer.served_by for answer in answers] == [
        ("local", "2"),
        ("local", "1"),
        ("cloudflare", "1"),
        ("cloudflare", "1"),
    ]
    attempts = await assert_invariants(router, before, answers)
    assert [attempt.get("error") for attempt in attempts] == ["backend_unavailable", *[None] * 4]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
@pytest.mark.parametrize(
    ("fault", "status", "code", "retry_after"),
    [
        ({"code": 3040, "retry_after": "7"}, 429, "rate_limit_exceeded", "7"),
        ({"code": 3040, "retry_after": "-7"}, 429, "rate_limit_exceeded", None),
        ({"code": 3040, "retry_after": "99999999"}, 429, "rate_limit_exceeded", None),
        ({"code": 3040, "retry_after": "Fri, 13 Feb 1970 00:00:00 GMT"}, 429, "rate_limit_exceeded", "1"),
        ({"code": 3040}, 429, "rate_limit_exceeded", None),
        ({"code": 3021}, 429, "rate_limit_exceeded", "60"),
        ({"code": 8005}, 502, "backend_error", None),
        ({"html": True, "status": 522}, 503, "backend_unavailable", None),
        ({"code": 10000}, 502, "backend_misconfigured", None),
        ({"status": 401}, 502, "backend_misconfigured", None),
        ({"status": 302}, 502, "backend_misconfigured", None),
    ],
)
async def test_the_last_step_s_failure_is_told(  # noqa: PLR0917 - a table
    router: Router,
    emulator: Emulator,
    fault: Fault,
    status: int,
    code: str,
    retry_after: str | None,
    stream: bool,
) -> None:
    """With no step left, the client hears a status, a code, and the cloud's advice when it makes sense."""
    before = await router.quiet()
    answer = await asked(router, emulator, "cloud-only", fault, stream=stream)

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (status, code)
    assert answer.headers.get("retry-after") == retry_after
    await assert_invariants(router, before, [answer])


@pytest.mark.parametrize("spent", [3036, 4006])
async def test_a_spent_day_is_told_until_midnight(router: Router, emulator: Emulator, spent: int) -> None:
    """The client is told not to try again, and when the allowance is renewed."""
    before = await router.quiet()
    answer = await asked(router, emulator, "cloud-only", {"code": spent}, stream=False)

    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (429, "insufficient_quota")
    assert answer.headers["x-should-retry"] == "false"
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    await assert_invariants(router, before, [answer])
