"""Frames between the router and a child."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.call import Message, Operation, Sampling, TextPart
from hybrid_router.core.event import Finish, Reasoning, Text, ToolFragment, Usage
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Opened, Output, Refused, Task
from hybrid_router.workers import protocol
from hybrid_router.workers.protocol import (
    Answers,
    Begin,
    Cancel,
    Down,
    Failed,
    Open,
    Ping,
    Pong,
    ProtocolError,
    Ready,
    Unframer,
    Up,
)

TASK = Task(
    id=7,
    operation=Operation.CHAT,
    messages=(
        Message(role="system", content="be"),
        Message(role="user", content=[TextPart("a"), TextPart("b")]),
        Message(role="assistant"),
    ),
    prompts=("text", (1, 2, 3)),
    sampling=Sampling(stop=("x",), logit_bias={5: -1.5}, seed=3),
    n=2,
)
DOWN: list[Down] = [
    Open(LlamaSettings(path="/m", context=None, parallel=2, threads=1, prefill_chunk=16)),
    Begin(TASK),
    Cancel(7),
    Ping(1),
]
UP: list[Up] = [
    Ready(Opened(description="d", context=9, parallel=2, has_template=True, vocabulary_count=3)),
    Failed("no"),
    Answers(
        [
            Output(
                id=7, events=[Text("é", 1), Reasoning("r"), ToolFragment(0, "{}", "id", "f"), Finish("stop")]
            ),
            Output(id=8, events=[Usage(1, 2)], last=True),
            Refused(id=9, code="c", message="m", by_call=True),
        ]
    ),
    Pong(1, 2),
]


@pytest.mark.parametrize("frame", DOWN, ids=lambda frame: type(frame).__name__)
def test_what_the_router_sends_arrives_as_it_was(frame: Down) -> None:
    """Every kind, every field."""
    (body,) = Unframer().feed(protocol.framed(frame))

    assert protocol.down(body) == frame


@pytest.mark.parametrize("frame", UP, ids=lambda frame: type(frame).__name__)
def test_what_a_child_sends_arrives_as_it_was(frame: Up) -> None:
    """Every kind, every field."""
    (body,) = Unframer().feed(protocol.framed(frame))

    assert protocol.up(body) == frame


@given(st.lists(st.sampled_from(UP), max_size=6), st.integers(1, 50))
def test_any_split_gives_the_same_frames(frames: list[Up], size: int) -> None:
    """Reads end where they like."""
    sent = b"".join(protocol.framed(frame) for frame in frames)
    unframer, bodies = Unframer(), []
    for at in range(0, len(sent), size):
        bodies += unframer.feed(sent[at : at + size])

    assert [protocol.up(body) for body in bodies] == frames


def test_an_absurd_length_is_refused_before_it_is_waited_for() -> None:
    """A child gone mad cannot make the router buffer."""
    with pytest.raises(ProtocolError, match="over the limit"):
        Unframer().feed(b"\xff\xff\xff\xff")


@given(st.binary(max_size=60))
def test_a_forged_body_is_named_not_raised_raw(body: bytes) -> None:
    """Whatever the bytes: one of our frames, or a ProtocolError."""
    for read in (protocol.up, protocol.down):
        try:
            frame = read(body)
        except ProtocolError:
            continue
        assert type(frame).__module__ == "hybrid_router.workers.protocol"


def test_a_frame_of_the_wrong_direction_is_refused() -> None:
    """A child cannot send commands, nor be sent answers."""
    (body,) = Unframer().feed(protocol.framed(Ping(1)))

    with pytest.raises(ProtocolError):
        protocol.up(body)
