"""What the log says of work that takes long."""

from __future__ import annotations

import logging

import pytest

from hybrid_router.backends.progress import EVERY_S, Tidings
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Batch, Progress, Segment
from hybrid_router.core.step import Step, Timeouts

CALL = Call(id="transcript-1", operation=Operation.TRANSCRIBE, alias="ears")
STEP = Step(
    backend="local",
    model="tiny",
    because="test",
    timeouts=Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1),
)


def test_long_work_is_told_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """How far it is, of which call, and nothing that was said; what is quick is not told at all."""
    tidings = Tidings(CALL, STEP, 100.0)

    said: list[tuple[float, Batch]] = [
        (1.0, [Progress(0.1)]),
        (EVERY_S + 1, [Segment("a secret", 0, 1)]),
        (EVERY_S + 2, [Progress(0.2), Segment("a secret", 0, 1), Progress(0.25)]),
        (EVERY_S + 3, [Progress(0.3)]),
        (2 * EVERY_S + 3, [Progress(0.999)]),
    ]

    with caplog.at_level(logging.INFO):
        for after_s, batch in said:
            tidings.note(batch, 100.0 + after_s)

    assert caplog.messages == [
        "local/tiny is at 25 % of transcript-1",
        "local/tiny is at 99 % of transcript-1",
    ]
