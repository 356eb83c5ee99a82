"""Recordings from files: every container, and what is wrong with those that nobody should decode."""

from __future__ import annotations

import io
import resource
from collections.abc import Callable

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from hostile_media import absurd_wavs
from recordings import CODECS, RATE_HZ, Samples, encoded, silence, wav

from hybrid_router.core.upload import upload_of
from hybrid_router.engines.sound import decode
from hybrid_router.engines.sound.decode import Recording, Unreadable

HOUR_S = 3600.0


def tone(duration_s: float) -> Samples:
    at_s = np.arange(int(duration_s * RATE_HZ)) / RATE_HZ
    return (0.5 * np.sin(2 * np.pi * 440 * at_s)).astype(np.float32)


def recording(content: bytes, longest_s: float = HOUR_S) -> Recording:
    upload = upload_of(content)
    try:
        return Recording(upload.mapped(), longest_s)
    finally:
        upload.close()


def heard(content: bytes, longest_s: float = HOUR_S) -> Samples:
    with recording(content, longest_s) as opened:
        return np.concatenate(list(opened.pieces()))


def film(*, sound: bool) -> bytes:
    """A second of pictures, maybe with a second of sound."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        pictures = out.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        if sound:
            with av.open(io.BytesIO(encoded(tone(1), "flac")), "r") as source:
                copied = out.add_stream_from_template(source.streams.audio[0])
                for packet in source.demux(audio=0):
                    if packet.dts is not None:
                        packet.stream = copied
                        out.mux(packet)
        for _ in range(10):
            out.mux(pictures.encode(VideoFrame(64, 64, "yuv420p")))
        out.mux(pictures.encode(None))
    return file.getvalue()


@pytest.mark.parametrize("container", CODECS)
def test_any_container_is_heard(container: str) -> None:
    """One channel of 16,000 samples a second, with what was recorded in it, however it is packed."""
    samples = heard(encoded(tone(3), container))

    loudest = int(np.abs(np.fft.rfft(samples)).argmax()) * decode.RATE_HZ / len(samples)
    assert samples.dtype == np.float32
    assert len(samples) / decode.RATE_HZ == pytest.approx(3, abs=0.15)
    assert loudest == pytest.approx(440, abs=2)


def test_a_films_sound_is_heard() -> None:
    """Its pictures are not looked at."""
    assert len(heard(film(sound=True))) / decode.RATE_HZ == pytest.approx(1, abs=0.1)


def test_long_sound_comes_in_pieces() -> None:
    """Never more than a little over `PIECE_S` at a time is held."""
    with recording(encoded(silence(100), "flac")) as opened:
        lengths_s = [len(piece) / decode.RATE_HZ for piece in opened.pieces()]

    assert sum(lengths_s) == pytest.approx(100, abs=0.1)
    assert max(lengths_s) < decode.PIECE_S + 1
    assert opened.decoded_s == pytest.approx(100, abs=0.1)


def test_a_cut_off_file_is_heard_up_to_its_end() -> None:
    """As players do: what is there, is there."""
    whole = encoded(tone(4), "mp3")

    assert 1 < len(heard(whole[: len(whole) // 2])) / decode.RATE_HZ < 3


def a_playlist() -> bytes:
    return b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (lambda: b"\0" * 4096, "wrong type"),
        (lambda: b"a text of no particular interest\n" * 50, "wrong type"),
        (a_playlist, "wrong type"),
        (lambda: b"ffconcat version 1.0\nfile /etc/hostname\n", "wrong type"),
        (lambda: encoded(tone(1), "mp4")[:200], "wrong type"),
        (lambda: film(sound=False), "no sound"),
        (lambda: wav(b"\0" * 64_000, channels=32), "32 channels"),
        (lambda: wav(b"\0" * 4_000, rate_hz=0), "wrong type"),
        (lambda: wav(b"\0" * 4_000, rate_hz=1), "1 samples a second"),
        (lambda: wav(np.full(4_000, np.nan, "<f4").tobytes(), bits=32, floats=True), "no numbers"),
        (lambda: wav(b""), "sound"),
        (lambda: absurd_wavs()["codec"], "send wav, flac or mp3"),
    ],
    ids=[
        "zeros",
        "text",
        "m3u8",
        "concat",
        "head",
        "film",
        "channels",
        "0Hz",
        "1Hz",
        "nan",
        "no_samples",
        "codec",
    ],
)
def test_what_cannot_be_heard_is_named(made: Callable[[], bytes], why: str) -> None:
    """Instead of a library's error, or another file's content."""
    with pytest.raises(Unreadable, match=why):
        heard(made())


def test_a_day_of_silence_in_a_small_file_costs_nothing() -> None:
    """It says how long it is: nothing of it is decoded."""
    content = encoded(np.zeros(RATE_HZ * 60, np.float32), "flac")
    # The head's count of samples: 36 bits that end 26 bytes into the file.
    day = (24 * 3600 * RATE_HZ).to_bytes(5, "big")
    lying = content[:21] + bytes([content[21] & 0xF0 | day[0]]) + day[1:] + content[26:]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    with pytest.raises(Unreadable, match="longer than 1h"):
        recording(lying)

    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_file_that_says_too_little_is_stopped() -> None:
    """What is decoded is counted."""
    content = encoded(silence(90), "flac")
    second = RATE_HZ.to_bytes(5, "big")
    lying = content[:21] + bytes([content[21] & 0xF0 | second[0]]) + second[1:] + content[26:]

    with recording(lying, 60.0) as opened:
        assert opened.duration_s < 60
        with pytest.raises(Unreadable, match="longer than 60s"):
            list(opened.pieces())


def live(duration_s: float) -> bytes:
    """As browsers record: written as it comes, so that nobody knows how long it is."""

    class Pipe(io.RawIOBase):
        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, piece: bytes) -> int:  # type: ignore[override]
            self.content += piece
            return len(piece)

    pipe = Pipe()
    with (
        av.open(io.BytesIO(encoded(silence(duration_s), "webm")), "r") as source,
        av.open(pipe, "w", format="webm", options={"live": "1"}) as out,
    ):
        copied = out.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(audio=0):
            if packet.dts is not None:
                packet.stream = copied
                out.mux(packet)
    return bytes(pipe.content)


def test_a_file_that_does_not_say_is_measured_first() -> None:
    """By its packets, and then decoded from its beginning."""
    with recording(live(70)) as opened:
        list(opened.look())
        assert opened.duration_s == pytest.approx(70, abs=0.2)
        assert sum(map(len, opened.pieces())) / decode.RATE_HZ == pytest.approx(70, abs=0.2)


def test_a_file_that_does_not_say_may_be_too_long() -> None:
    """Then nothing of it is decoded."""
    with recording(live(70), 60.0) as opened, pytest.raises(Unreadable, match="longer than 60s"):
        list(opened.look())
    assert opened.decoded_s == 0
