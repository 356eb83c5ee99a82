"""A stream that breaks at any token goes on elsewhere: F02, F13, F15, F16, F21, F22 with continuation.

Where both backends say the same, the client's text is the uncut one, byte for byte.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import Emulator, Router, soon, stopped_at_end
from wire_client import COMPLETIONS, PROMPT_CANARY, Answer, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]

CLOUD_TEXT = "1 2 3 4 5"
SAID = f"{PROMPT_CANARY}: count to 5"
# `data:` lines: chat has the role, five tokens, the finish, two with usage, the end; native less.
LINES = {"cloud-then-native": 10, "native-then-cloud": 7}
FAULTS = ["cut_after", "close_after", "stall_after", "malformed_after", "error_after"]
# The model is sure of what follows, so that rounding in another batch changes nothing.
COUNTING = f"{PROMPT_CANARY} 1, 2, 3, 4, 5, 6, 7,"
COUNTED_TOKENS = 8
ENDLESS = "on_break: continue, retries: 0"


@pytest.fixture(scope="module")
def continuing(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """A service that goes on, before the scripted cloud in both of its forms."""
    config = policy(
        manifest, emulator.base_url, first_token="500ms", between_tokens="500ms", treatment=ENDLESS
    )
    started = Router(config, tmp_path_factory.mktemp("continuing"))
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def twin(tmp_path_factory: pytest.TempPathFactory, model_path: Path) -> Iterator[Emulator]:
    """A cloud that answers from the same model file as the local step."""
    started = Emulator(tmp_path_factory.mktemp("twin"), "--model", str(model_path), "--token-delay", "0.005")
    with stopped_at_end(started):
        yield started


@contextlib.contextmanager
def beside(twin: Emulator, manifest: Path, folder: Path) -> Iterator[Router]:
    """A service whose local and cloud steps say the same."""
    config = policy(
        manifest,
        twin.base_url,
        first_token="1500ms",
        between_tokens="500ms",
        treatment="on_break: continue, retries: 2",
    )
    with stopped_at_end(started := Router(config, folder)):
        yield started


@pytest.fixture(scope="module")
def twinned(manifest: Path, twin: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """One whose worker nobody hurts."""
    with beside(twin, manifest, tmp_path_factory.mktemp("twinned")) as router:
        yield router


@pytest.fixture
def mortal(manifest: Path, twin: Emulator, tmp_path: Path) -> Iterator[Router]:
    """One of the test's own, to kill workers of: those that die often are waited for longer."""
    twin.calm()
    with beside(twin, manifest, tmp_path) as router:
        yield router


def whole(answer: Answer, text: str, place: int) -> None:
    """The uncut text, with all that a whole answer has."""
    assert (answer.text(), answer.error, answer.done) == (text, None, True), place
    assert (len(answer.finish_reasons), len(answer.roles)) == (1, int(answer.path.startswith("/v1/chat")))


@pytest.mark.parametrize("alias", LINES)
@pytest.mark.parametrize("fault", FAULTS)
async def test_from_one_form_of_the_cloud_to_the_other(
    continuing: Router, emulator: Emulator, alias: str, fault: str
) -> None:
    """At every event of the stream, in both directions: the client cannot tell."""
    before = await continuing.quiet()
    answers = []
    for place in range(LINES[alias]):
        emulator.calm()
        continuing.forgive()
        emulator.fault(**{fault: place})
        answer = await ask(continuing, chat_body(alias, SAID, stream=True))
        whole(answer, CLOUD_TEXT, place)
        answers.append(answer)

    await assert_invariants(continuing, before, answers)


@pytest.mark.parametrize("fault", FAULTS)
async def test_from_the_cloud_to_the_model(twinned: Router, twin: Emulator, fault: str) -> None:
    """At every token: the local model goes on from the cloud's text as if it were its own."""
    body = completion_body("cloud-first", COUNTING, stream=True, max_tokens=COUNTED_TOKENS)
    twin.calm()
    twinned.forgive()
    uncut = await ask(twinned, body, COMPLETIONS)
    for place in range(1, COUNTED_TOKENS):
        twin.calm()
        twinned.forgive()
        twin.fault(**{fault: place})
        answer = await ask(twinned, body, COMPLETIONS)
        whole(answer, uncut.text(), place)


@pytest.mark.parametrize(("alias", "places"), [("local-first", range(1, 6)), ("local-only", (1, 4))])
async def test_from_a_killed_worker(mortal: Router, alias: str, places: Sequence[int]) -> None:
    """At every token: another backend, or the same model's next worker, completes the text.

    A worker that was just killed is waited for less and less gladly, so alone it is killed twice.
    """
    body = completion_body(alias, COUNTING, stream=True, max_tokens=COUNTED_TOKENS)
    uncut = await ask(mortal, body, COMPLETIONS)
    for place in places:
        mortal.forgive()
        worker = await soon(mortal.children, "a worker")
        async with raw_call(mortal, body, COMPLETIONS) as call:
            await call.pieces(place)
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker[0], signal.SIGKILL)
            answer = await call.rest()
        whole(answer, uncut.text(), place)
