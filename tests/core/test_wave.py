"""How long a WAVE file plays, by its head."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.wave import length_s


def wave(sound_bytes: int, *, told: int | None = None, before: bytes = b"", rate: int = 32_000) -> bytes:
    """A file's head; `told` is the length that it tells."""
    written = sound_bytes if told is None else told
    form = b"fmt " + struct.pack("<IHHIIHH", 16, 1, 1, rate // 2, rate, 2, 16)
    return (
        b"RIFF"
        + struct.pack("<I", 36 + sound_bytes)
        + b"WAVE"
        + form
        + before
        + b"data"
        + struct.pack("<I", written)
    )


LIST = b"LIST" + struct.pack("<I", 3) + b"abc\0"


@pytest.mark.parametrize("before", [b"", LIST], ids=["plain", "with a list of an odd length before it"])
@pytest.mark.parametrize("told", [None, 0xFFFFFFFF], ids=["told", "written into a pipe"])
def test_the_head_tells_the_length(before: bytes, told: int | None) -> None:
    """Bytes of sound through bytes a second; more than the file holds is not believed."""
    head = wave(64_000, told=told, before=before)

    assert length_s(head, len(head) + 64_000) == 2.0


def test_sound_that_begins_later_counts_as_all_that_is_left() -> None:
    """A head full of something else makes the answer too long, never too short."""
    head = wave(0, before=b"LIST" + struct.pack("<I", 10_000))[:-8]

    assert length_s(head, 10_000 + 64_000) == pytest.approx((74_000 - 10_044) / 32_000)


@pytest.mark.parametrize("head", [b"", b"ID3\x04", wave(10, rate=0), b"RIFF\0\0\0\0WAVE"])
def test_what_is_no_wave_file_has_no_length(head: bytes) -> None:
    """Other files, and one without a format or with an impossible one."""
    assert length_s(head, 1000) is None


@given(st.binary(max_size=200), st.integers(0, 10**9))
def test_no_bytes_break_it(rest: bytes, size_bytes: int) -> None:
    """Whatever follows the name, a length is none or not below 0."""
    found = length_s(b"RIFF\0\0\0\0WAVE" + rest, size_bytes)

    assert found is None or found >= 0
