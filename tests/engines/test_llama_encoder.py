"""The thread that encodes: one at a time, the most urgent first, and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from hybrid_router.engines.llama.media.block import Block, Chunk
from hybrid_router.engines.llama.media.encoder import Encoder, Key
from hybrid_router.engines.llama.media.projector import EncodingFailed, Vectors

BYTES = 40


class Desk:
    """An encoder that notes what it was given; blocks of the key `bad` fail."""

    def __init__(self, kept_bytes: int) -> None:
        self.done: list[bytes] = []
        self.encoder = Encoder(self._encode, kept_bytes)

    def _encode(self, block: Block) -> Vectors:
        self.done.append(block.key)
        if block.key == b"bad":
            raise EncodingFailed("it is bad")
        return np.zeros((1, BYTES // 4), np.float32)

    def want(self, *keys: bytes) -> None:
        self.encoder.want([(named(key), Block(key, 0, 1, 1, Chunk(None))) for key in keys])

    def settle(self, *keys: bytes) -> None:
        """Have all of these encoded."""
        for _ in keys:
            self.want(*keys)
            self.encoder.wait(10)


def named(key: bytes) -> Key:
    return "whose", key


@pytest.fixture
def desk() -> Iterator[Desk]:
    made = Desk(kept_bytes=2 * BYTES)
    yield made
    assert made.encoder.close(10)


def test_the_most_urgent_is_first_and_each_is_made_once(desk: Desk) -> None:
    """In the order wanted."""
    desk.settle(b"a", b"b")
    desk.settle(b"a", b"b")

    assert desk.done == [b"a", b"b"]
    assert desk.encoder.vectors(named(b"a")) is not None
    assert desk.encoder.vectors(named(b"c")) is None


def test_what_is_wanted_stays_and_the_rest_is_bounded(desk: Desk) -> None:
    """Even if that is more than may be kept: else two would drive each other out for ever."""
    wanted = (b"a", b"b", b"c", b"d")
    desk.settle(*wanted)
    assert all(desk.encoder.vectors(named(key)) is not None for key in wanted)

    desk.want()

    assert [desk.encoder.vectors(named(key)) is not None for key in wanted] == [False, False, True, True]


def test_another_principals_picture_is_encoded_anew(desk: Desk) -> None:
    """How long it takes tells nobody what others sent."""
    desk.settle(b"a")

    assert desk.encoder.vectors(("somebody else's", b"a")) is None


def test_a_failure_is_told_once_and_may_be_tried_again(desk: Desk) -> None:
    """The next who wants it finds no old verdict."""
    desk.settle(b"bad")
    with pytest.raises(EncodingFailed, match="it is bad"):
        desk.encoder.vectors(named(b"bad"))
    desk.settle(b"bad")

    assert desk.done == [b"bad", b"bad"]
