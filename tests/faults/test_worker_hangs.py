"""F03: the worker is stopped where it stands, before the first token and in the middle of a stream."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import Emulator, Router, alive, soon, stopped_at_end
from wire_client import COMPLETIONS, Answer, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

COUNTED = "1, 2, 3, 4, 5, 6, 7,"
SERIES = "".join(f" {number}," for number in range(8, 108))
WAITS = "timeouts: { connect: 5s, load: 20s, first_token: 30s, between_tokens: 20s, total: 60s }"
SHORT = "timeouts: { connect: 1s, load: 2s, first_token: 3s, between_tokens: 2s, total: 60s }"


@pytest.fixture(scope="module")
def hasty(manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A service that waits a second or two for its worker, and goes on with the cloud."""
    config = policy(manifest, emulator.base_url, treatment="on_break: continue, retries: 0")
    assert config.count(WAITS) == 1
    started = Router(config.replace(WAITS, SHORT), tmp_path_factory.mktemp("hasty"))
    with stopped_at_end(started):
        yield started


@contextmanager
def standing_still(pid: int) -> Iterator[None]:
    """Stop a process, and let it go on at the end."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


def body(alias: str, *, stream: bool = True) -> dict[str, object]:
    """The beginning of a series, which every backend here goes on with."""
    return completion_body(alias, COUNTED, stream=stream, max_tokens=60)


async def own(router: Router) -> Answer:
    """What the worker says by itself."""
    answer = await ask(router, body("local-only"), COMPLETIONS)
    assert (answer.error, answer.done) == (None, True)
    return answer


def told(attempts: list[dict[str, object]]) -> list[tuple[object, ...]]:
    """Backend, outcome and error of each attempt."""
    return [(line["backend"], line["outcome"], line.get("error")) for line in attempts]


async def test_stopped_in_the_middle_the_cloud_goes_on(hasty: Router, emulator: Emulator) -> None:
    """At `between_tokens`, without a seam; a neighbour on the cloud notices nothing; nothing comes late."""
    emulator.calm()
    uncut = await own(hasty)
    before = await hasty.quiet()
    worker = hasty.worker()
    async with raw_call(hasty, body("local-first"), COMPLETIONS) as call:
        await call.pieces(5)
        with standing_still(worker):
            neighbour = await ask(hasty, chat_body("cloud-only", "count to 150", stream=True))
            answer = await call.rest()
    again = await own(hasty)  # of the same process, which heard meanwhile what nobody wants any more

    assert answer.done
    assert answer.text().startswith(" 8, 9,")
    assert SERIES.startswith(answer.text())
    assert neighbour.text() == " ".join(str(number) for number in range(1, 151))
    assert (again.text(), hasty.worker()) == (uncut.text(), worker)
    attempts = await assert_invariants(hasty, before, [answer, neighbour, again])
    assert sorted(told(attempts), key=str) == [
        ("cloudflare", "answered", None),
        ("cloudflare", "answered", None),
        ("local", "answered", None),
        ("local", "broken", "backend_timeout"),
    ]


@pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
async def test_stopped_before_the_first_token_the_cloud_answers(
    hasty: Router, emulator: Emulator, stream: bool
) -> None:
    """At `first_token`, whole; going on, the worker has nothing to say to a call that is over."""
    emulator.calm()
    uncut = await own(hasty)
    before = await hasty.quiet()
    worker = hasty.worker()
    with standing_still(worker):
        answer = await ask(hasty, body("local-first", stream=stream), COMPLETIONS)
    again = await own(hasty)

    assert answer.served_by == ("cloudflare", "2")
    assert SERIES.startswith(answer.text())
    assert (again.text(), hasty.worker()) == (uncut.text(), worker)
    attempts = await assert_invariants(hasty, before, [answer, again])
    assert told(attempts)[:2] == [("local", "failed", "backend_timeout"), ("cloudflare", "answered", None)]


@pytest.mark.slow  # the heartbeat's waits pass; tests/workers holds the same against short ones
async def test_one_that_stays_stopped_is_killed_and_replaced(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """Without any call the heartbeat finds it; the log says why, and the next worker answers."""
    with stopped_at_end(router := Router(policy(manifest, emulator.base_url), tmp_path)):
        uncut = await own(router)
        before = await router.quiet()
        worker = router.worker()
        with standing_still(worker):
            await soon(lambda: not alive(worker), "the heartbeat's verdict", within_s=40)
        await soon(lambda: "and was killed" in router.log_text, "it is told")
        again = await own(router)

        assert again.text() == uncut.text()
        assert router.worker() != worker
        assert "worker did not answer for 15 s and was killed" in router.log_text
        await assert_invariants(router, before, [again])
