"""I10: what is kept of a call is what its client saw, also where two backends wrote parts of one answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from invariants import assert_invariants
from router_policy import CLOUD_MODEL, policy
from router_process import Emulator, Router, soon, stopped_at_end
from wire_client import COMPLETIONS, PROMPT_CANARY, Answer, ask, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

# Both backends go on with a series, and the cloud's tokens are its own: the seam may lie anywhere.
PROMPT = f"{PROMPT_CANARY}\n1, 2, 3, 4, 5, 6, 7,"
SERIES = "".join(f" {number}," for number in range(8, 108))
TOKENS = 40
LOCAL, CLOUD = "local/smollm2", f"cloudflare/{CLOUD_MODEL}"


@pytest.fixture
def router(manifest: Path, emulator: Emulator, tmp_path: Path) -> Iterator[Router]:
    """A service that goes on elsewhere."""
    emulator.calm()
    config = policy(manifest, emulator.base_url, treatment="on_break: continue, retries: 0")
    with stopped_at_end(started := Router(config, tmp_path)):
        yield started


def body(alias: str) -> dict[str, object]:
    return completion_body(alias, PROMPT, stream=True, max_tokens=TOKENS)


async def decision(router: Router, answer: Answer) -> dict[str, Any]:
    """The record that an answer's header names."""
    address = f"{router.url}/router/decisions/{answer.headers['x-router-decision']}"
    async with aiohttp.ClientSession() as http, http.get(address) as reply:
        assert reply.status == 200
        text = await reply.text()
        assert PROMPT_CANARY not in text
        found: dict[str, Any] = await reply.json()
        return found


def assert_told(record: dict[str, Any], lines: list[dict[str, Any]], answer: Answer) -> list[str]:
    """The record, the log and the client agree; gives the parts that the record says each backend wrote."""
    text, attempts = answer.text(), record["attempts"]
    assert (record["id"], record["status"]) == (answer.headers["x-router-decision"], answer.status)
    assert record["error"] == (answer.error["code"] if answer.error else None)
    assert [(each["step"], each["outcome"], each.get("error")) for each in attempts] == [
        (f"{line['backend']}/{line['model']}", line["outcome"], line.get("error")) for line in lines
    ]
    assert [(each.get("mode", "fresh")) for each in attempts] == [line.get("mode", "fresh") for line in lines]
    ends = [0, *(each["end_char"] for each in attempts)]
    assert [each["begin_char"] for each in attempts] == ends[:-1]
    assert ends[-1] == len(text)
    told, counted = answer.usage, attempts[-1].get("usage")
    if told is not None:
        names = ("prompt_tokens", "completion_tokens")
        assert [counted[name] for name in names] == [told[name] for name in names]
    return [text[each["begin_char"] : each["end_char"]] for each in attempts]


async def test_a_killed_worker_and_the_cloud_after_it(router: Router) -> None:
    """The parts join to the client's text; the worker's is the beginning of what it says by itself."""
    uncut = await ask(router, body("local-only"), COMPLETIONS)
    before = await router.quiet()
    (worker,) = await soon(router.children, "a worker")
    async with raw_call(router, body("local-first"), COMPLETIONS) as call:
        await call.pieces(9)
        with suppress(ProcessLookupError):
            os.kill(worker, signal.SIGKILL)
        answer = await call.rest()
    record = await decision(router, answer)
    lines = await assert_invariants(router, before, [answer])

    by_worker, by_cloud = assert_told(record, lines, answer)
    assert record["outcome"] == "answered"
    assert [each["step"] for each in record["attempts"]] == [LOCAL, CLOUD]
    assert len(by_worker) >= 9
    assert uncut.text().startswith(by_worker)
    assert by_cloud
    assert SERIES.startswith(by_worker + by_cloud)


@pytest.mark.parametrize("place", [1, 6])
async def test_a_cloud_that_is_cut_and_the_worker_after_it(
    router: Router, emulator: Emulator, place: int
) -> None:
    """The cloud's part is as long as what it had sent when it was cut; the model wrote the rest."""
    before = await router.quiet()
    emulator.fault(cut_after=place)
    answer = await ask(router, body("cloud-first"), COMPLETIONS)
    record = await decision(router, answer)
    lines = await assert_invariants(router, before, [answer])

    by_cloud, by_worker = assert_told(record, lines, answer)
    assert record["outcome"] == "answered"
    assert [each["step"] for each in record["attempts"]] == [CLOUD, LOCAL]
    assert by_cloud
    assert SERIES.startswith(by_cloud)
    assert by_worker
    (seen,) = emulator.calls()
    assert seen["outcome"] != "answered"


async def test_an_answer_that_nobody_completes(router: Router, emulator: Emulator) -> None:
    """With nothing left to go on with, the record ends where the client's text does, and names the error."""
    before = await router.quiet()
    emulator.fault(count=5, cut_after=4)
    answer = await ask(router, body("cloud-then-native"), COMPLETIONS)
    record = await decision(router, answer)
    lines = await assert_invariants(router, before, [answer])

    parts = assert_told(record, lines, answer)
    assert (record["outcome"], record["error"]) == ("broken", "stream_broken")
    assert "".join(parts) == answer.text()
    assert SERIES.startswith(answer.text())
