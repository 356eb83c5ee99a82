"""The event stream decoder, against the standard and against hostile streams."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.sse import Decoder, EventTooLong, NamedDecoder

LIMIT_BYTES = 1 << 16

lines = st.one_of(
    st.binary(max_size=12).map(lambda value: b"data:" + value),
    st.text(max_size=6).map(lambda value: b"data: " + value.encode("utf-8", "surrogatepass")),
    st.sampled_from(
        [b"", b"", b": ping", b"event: x", b"id: 7\0", b"retry: 10", b"data", b"data : x", b"datax: y", b"\0"]
    ),
).map(lambda line: line.replace(b"\r", b"").replace(b"\n", b""))
endings = st.sampled_from([b"\n", b"\r", b"\r\n"])
streams = st.builds(
    lambda mark, parts: mark + b"".join(line + ending for line, ending in parts),
    st.sampled_from([b"", b"\xef\xbb\xbf"]),
    st.lists(st.tuples(lines, endings), max_size=20),
)


def decoded(*chunks: bytes, limit_bytes: int = LIMIT_BYTES) -> list[bytes]:
    """Everything one decoder says of `chunks`, the end of the stream included."""
    decoder = Decoder(limit_bytes)
    payloads = [payload for chunk in chunks for payload in decoder.feed(chunk)]
    return payloads + decoder.end()


def by_the_book(stream: bytes) -> list[bytes]:
    """The standard's algorithm, word for word, on a whole stream."""
    lines_ = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
    payloads: list[bytes] = []
    held: list[bytes] = []
    for line in [*lines_, b"", b""]:
        if line == b"":
            payloads += [b"\n".join(held)] if held else []
            held = []
            continue
        field, _, value = line.partition(b":")
        if field == b"data":
            held.append(value.removeprefix(b" "))
    return payloads


@given(streams)
def test_a_whole_stream_is_read_as_the_standard_says(stream: bytes) -> None:
    """Any mixture of line ends, fields and comments gives the standard's payloads."""
    assert decoded(stream) == by_the_book(stream)


@given(streams, st.lists(st.integers(min_value=0, max_value=300), max_size=12))
def test_any_split_decodes_the_same(stream: bytes, cuts: list[int]) -> None:
    """Where the reads fall changes nothing."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    chunks = [stream[a:b] for a, b in itertools.pairwise(places)]

    assert decoded(*chunks) == decoded(stream)


@given(streams)
def test_one_byte_at_a_time_decodes_the_same(stream: bytes) -> None:
    """The smallest reads, empty ones between them, change nothing."""
    chunks = [piece for byte in stream for piece in (bytes([byte]), b"")]

    assert decoded(*chunks) == decoded(stream)


@given(st.lists(st.binary(max_size=20).map(lambda b: b.translate(None, b"\r\n")), max_size=9), st.booleans())
def test_plain_events_of_one_read_come_out_whole(payloads: list[bytes], spaced: bool) -> None:
    """Several whole events in one read, the usual case, are all returned at once."""
    prefix = b"data: " if spaced else b"data:"
    stream = b"".join(prefix + payload + b"\n\n" for payload in payloads)
    expected = payloads if spaced else [payload.removeprefix(b" ") for payload in payloads]

    assert Decoder(LIMIT_BYTES).feed(stream) == expected


@given(st.binary(max_size=400), st.integers(min_value=1, max_value=64))
def test_garbage_never_raises_anything_foreign(stream: bytes, limit_bytes: int) -> None:
    """Whatever arrives, the decoder answers or names the length."""
    try:
        payloads = decoded(stream, limit_bytes=limit_bytes)
    except EventTooLong:
        return
    assert all(len(payload) <= limit_bytes for payload in payloads)


def test_several_data_lines_are_joined_by_a_line_feed() -> None:
    """One event may bring its payload in several lines."""
    assert decoded(b"data: a\r\ndata:b\rdata:  c\n\n") == [b"a\nb\n c"]


def test_a_character_cut_in_two_stays_whole() -> None:
    """Bytes are joined before anyone decodes them."""
    assert decoded(b"data: \xf0\x9f", b"\x98\x80\n\n") == ["😀".encode()]


def test_a_last_event_without_its_blank_line_is_told_at_the_end() -> None:
    """Some servers close right after the last line; it counts as an event then."""
    decoder = Decoder(LIMIT_BYTES)

    assert decoder.feed(b"data: [DONE]") == []
    assert decoder.end() == [b"[DONE]"]
    assert decoder.end() == []


@pytest.mark.parametrize(
    "chunks",
    [
        [b"data: " + b"x" * 100],
        [b"data: " + b"x" * 100 + b"\n\n"],
        [b"data: " + b"x" * 30] * 4,
        [b": " + b"x" * 100 + b"\n"],
        [b"data: xxxxxxxxxx\n"] * 10,
    ],
)
def test_an_over_long_line_or_event_is_named(chunks: list[bytes]) -> None:
    """What does not fit is an error of its own name, however it arrives."""
    with pytest.raises(EventTooLong, match="64 bytes"):
        decoded(*chunks, limit_bytes=64)


def test_an_event_of_just_the_limit_passes() -> None:
    """The limit itself is allowed, for a line as for an event."""
    assert decoded(b"data:" + b"x" * 59 + b"\n\n", limit_bytes=64) == [b"x" * 59]


def test_memory_is_given_back_after_each_event() -> None:
    """The limit is per event: a stream of any length passes."""
    decoder = Decoder(64)

    assert sum(len(decoder.feed(b"data: " + b"x" * 50 + b"\r\n\r\n")) for _ in range(1000)) == 1000


def named(*chunks: bytes) -> list[tuple[str, bytes]]:
    """Everything a decoder of named events says of `chunks`."""
    decoder = NamedDecoder(LIMIT_BYTES)
    return [event for chunk in chunks for event in decoder.feed(chunk)] + decoder.end()


@given(streams, st.lists(st.integers(min_value=0, max_value=300), max_size=12))
def test_names_change_nothing_about_payloads(stream: bytes, cuts: list[int]) -> None:
    """However it is split, each payload is the one that is given without names, and so is its name."""
    places = sorted({0, len(stream), *(min(cut, len(stream)) for cut in cuts)})
    chunks = [stream[start:stop] for start, stop in itertools.pairwise(places)]

    assert [payload for _, payload in named(*chunks)] == by_the_book(stream)
    assert named(*chunks) == named(stream)


def test_a_name_is_its_own_event_s() -> None:
    """The last one counts, one without data is forgotten, and the next event starts without."""
    stream = b"event: a\nevent: output\ndata: 1\n\nevent: lost\n\ndata: 2\n\ndata: 3\nevent:done\n\n"

    assert named(stream) == [("output", b"1"), ("", b"2"), ("done", b"3")]
