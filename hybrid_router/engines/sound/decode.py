"""Recordings from files that anybody may have made: looked at first, then decoded a piece at a time.

ffmpeg's demuxers can be told by a file to open others, or addresses; here it may open nothing (`none` is no
protocol), and only such containers are read as hold their sound themselves.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from numpy.typing import NDArray

from hybrid_router.core.units import duration_text

RATE_HZ = 16_000
PIECE_S = 30.0
MOST_CHANNELS = 8
# Below it a few kilobytes would become hours; nobody records speech so.
_LOWEST_HZ, _HIGHEST_HZ = 4_000, 768_000
_PACKETS_A_LOOK = 20_000
_FULL_SCALE = 32768.0
_CONTAINERS = (
    "3g2,3gp,aa,aac,ac3,act,aiff,amr,amrnb,amrwb,ape,asf,au,avi,caf,dsf,dts,dtshd,eac3,flac,flv,gsm,iff,ircam,"
    "loas,m4a,matroska,mj2,mlp,mov,mp2,mp3,mp4,mpc,mpc8,mpeg,mpegts,mxf,nistsphere,nut,oga,ogg,oma,rm,sox,spdif,"
    "swf,tak,truehd,tta,voc,vqf,w64,wav,wc3movie,webm,wsvqa,wtv,wv,xa"
)

Samples = NDArray[np.float32]


class Unreadable(ValueError):
    """The file is no recording that is read here; the text says why and what to do."""


class Recording:
    """The sound of a file, or of a film.  Leave its context to let go of the library's memory.

    Attributes:
        duration_s: as the container says, or what its packets add up to.
        told: whether that is known already; else `look` finds it out.
        decoded_s: of what was decoded so far.
    """

    def __init__(self, content: mmap.mmap, longest_s: float) -> None:
        """Raises Unreadable: by its head it holds no sound, or too much of it."""
        self._content = content
        self._longest_s = longest_s
        self._container, self._stream = _opened(content)
        self._decoded_count = 0
        self.duration_s = _claimed_s(self._container, self._stream)
        self.told = self.duration_s > 0
        try:
            _check(self._stream)
            self._check_length(self.duration_s)
        except Unreadable:
            self.close()
            raise

    def __enter__(self) -> Recording:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free what the library holds; twice is fine."""
        self._container.close()

    @property
    def decoded_s(self) -> float:
        return self._decoded_count / RATE_HZ

    def look(self) -> Iterator[None]:
        """Find out how long a file is that does not say, by its packets: nothing is decoded.

        Yields now and then, to let others in between.

        Raises:
            Unreadable: it is too long, or damaged.
        """
        start_s: float | None = None
        with _named():
            for number, packet in enumerate(self._container.demux(self._stream), 1):
                if packet.pts is not None and packet.time_base is not None:
                    at_s = float(packet.pts * packet.time_base)
                    start_s = at_s if start_s is None else start_s
                    end_s = at_s + float((packet.duration or 0) * packet.time_base)
                    self.duration_s = max(self.duration_s, end_s - start_s)
                    self._check_length(self.duration_s)
                if not number % _PACKETS_A_LOOK:
                    yield
        self.told = True
        self._container.close()
        self._container, self._stream = _opened(self._content)

    def pieces(self) -> Iterator[Samples]:
        """The sound as one channel of `RATE_HZ`, about `PIECE_S` at a time, the last one shorter.

        Raises:
            Unreadable: it is longer than it said, and too long; or none of it can be decoded.
        """
        held: list[NDArray[np.int16]] = []
        held_count = 0
        for part in self._decoded():
            held.append(part)
            held_count += len(part)
            self._decoded_count += len(part)
            self._check_length(self.decoded_s)
            if held_count >= PIECE_S * RATE_HZ:
                yield _as_floats(held)
                held, held_count = [], 0
        if not self._decoded_count:
            raise Unreadable("none of its sound can be decoded: the file is damaged or cut off")
        if held:
            yield _as_floats(held)

    def _decoded(self) -> Iterator[NDArray[np.int16]]:
        """Every frame, mixed down; packets that are damaged are passed over, as players do."""
        resampler = AudioResampler(format="s16", layout="mono", rate=RATE_HZ)
        with _named():
            for frame in self._frames():
                frame.pts = None  # its own clock may jump; what is there is taken one after the other
                for mixed in resampler.resample(frame):
                    yield _flat(mixed)
            if self._decoded_count:
                for mixed in resampler.resample(None):
                    yield _flat(mixed)

    def _frames(self) -> Iterator[AudioFrame]:
        floats = self._stream.codec_context.name.startswith("pcm_f")
        for packet in self._container.demux(self._stream):
            try:
                frames = packet.decode()
            except av.error.InvalidDataError:
                continue
            for frame in frames:
                if floats and not np.isfinite(frame.to_ndarray()).all():
                    raise Unreadable("it holds samples that are no numbers (NaN or infinite)")
                yield frame

    def _check_length(self, duration_s: float) -> None:
        if duration_s > self._longest_s:
            raise Unreadable(
                f"it is longer than {duration_text(self._longest_s)}: send it in parts "
                "(`longest` of the model in router.yaml)"
            )


def _opened(content: mmap.mmap) -> tuple[av.container.InputContainer, AudioStream]:
    """The container and its first stream of sound."""
    content.seek(0)
    with _named():
        container = av.open(
            content,
            mode="r",
            metadata_errors="ignore",
            options={
                "protocol_whitelist": "none",
                "format_whitelist": _CONTAINERS,
                "codec_whitelist": _sound_codecs(),  # or films' pictures would be decoded, to look at them
            },
        )
    if not container.streams.audio:
        container.close()
        raise Unreadable("it holds no sound")
    return container, container.streams.audio[0]


def _sound_codecs() -> str:
    """All decoders of sound that the library has; takes two milliseconds."""
    names = []
    for name in av.codecs_available:
        try:
            if av.Codec(name, "r").type == "audio":
                names.append(name)
        except ValueError:  # it only encodes
            continue
    return ",".join(names)


def _claimed_s(container: av.container.InputContainer, stream: AudioStream) -> float:
    """How long the container says it is; 0: it does not."""
    claims = [0.0]
    if container.duration:
        claims.append(container.duration / av.time_base)
    if stream.duration and stream.time_base:
        claims.append(float(stream.duration * stream.time_base))
    return max(claims)


def _check(stream: AudioStream) -> None:
    """Refuse by what the header says."""
    if stream.codec_context is None:
        raise Unreadable("its sound is packed in a way that cannot be decoded here; send wav, flac or mp3")
    if not _LOWEST_HZ <= stream.rate <= _HIGHEST_HZ:
        raise Unreadable(
            f"it has {stream.rate} samples a second; send {_LOWEST_HZ} to {_HIGHEST_HZ}, 16000 is best"
        )
    if not 1 <= stream.channels <= MOST_CHANNELS:
        raise Unreadable(f"it has {stream.channels} channels; mix it down to {MOST_CHANNELS} at most")


def _flat(frame: AudioFrame) -> NDArray[np.int16]:
    """The samples of one channel of 16 bits."""
    return np.asarray(frame.to_ndarray(), np.int16).reshape(-1)


def _as_floats(parts: list[NDArray[np.int16]]) -> Samples:
    joined = np.concatenate(parts).astype(np.float32)
    joined /= _FULL_SCALE
    return joined


@contextmanager
def _named() -> Iterator[None]:
    """Name what is wrong with a file that ffmpeg cannot read."""
    try:
        yield
    except Unreadable:
        raise
    except (av.error.InvalidDataError, av.error.ArgumentError):
        raise Unreadable("it is no sound file that can be read: wrong type, damaged or cut off") from None
    except (av.error.FFmpegError, ValueError, EOFError, IndexError, OverflowError) as error:
        raise Unreadable(f"it cannot be decoded ({type(error).__name__})") from None
