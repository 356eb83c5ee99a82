"""Images and sounds as files: what is read, and what is refused before it is unpacked."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from hybrid_router.core.call import AudioPart, FilePart, ImagePart
from hybrid_router.engines.llama.media.block import Block, Chunk, made_up, tokens_count, whole
from hybrid_router.engines.llama.media.sounds import checked_sound
from hybrid_router.engines.llama.media.sources import Picture, medium_of
from hybrid_router.engines.task import TaskRefused


def part(content: bytes, **fields: str) -> ImagePart:
    return ImagePart({"url": "data:image/png;base64," + base64.b64encode(content).decode(), **fields})


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def seen(content: bytes, **fields: str) -> Picture:
    medium = medium_of(part(content, **fields), "image 1")
    assert isinstance(medium, Picture)
    assert len(medium.rgb) == 3 * medium.width * medium.height
    return medium


def pixel(picture: Picture, x: int, y: int) -> tuple[int, ...]:
    at = 3 * (y * picture.width + x)
    return tuple(picture.rgb[at : at + 3])


def refusal(content: bytes) -> str:
    with pytest.raises(TaskRefused) as refused:
        seen(content)
    assert refused.value.by_call
    return refused.value.message


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_common_formats_are_read(kind: str) -> None:
    """Their colours arrive."""
    picture = seen(saved(Image.new("RGB", (8, 6), (0, 0, 255)), kind))

    assert (picture.width, picture.height) == (8, 6)
    red, green, blue = pixel(picture, 3, 3)
    assert blue > 240
    assert max(red, green) < 15


def test_an_image_stands_as_it_was_taken() -> None:
    """Cameras write how they were held."""
    lying = Image.new("RGB", (8, 4), "white")
    lying.paste("red", (0, 0, 4, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned a quarter

    picture = seen(saved(lying, exif=exif))

    assert (picture.width, picture.height) == (4, 8)
    assert pixel(picture, 2, 1) == (255, 0, 0)


def test_what_can_be_seen_through_is_white() -> None:
    """In colours, in grey, and in a palette with a clear colour."""
    clear = Image.new("RGBA", (4, 4), (255, 0, 0, 0))
    palette = Image.new("P", (4, 4), 0)

    assert pixel(seen(saved(clear)), 1, 1) == (255, 255, 255)
    assert pixel(seen(saved(Image.new("LA", (4, 4), (0, 0)))), 1, 1) == (255, 255, 255)
    assert pixel(seen(saved(palette, transparency=0)), 1, 1) == (255, 255, 255)


def test_sixteen_bits_of_grey_are_grey() -> None:
    """Not white, as a plain conversion makes them."""
    assert pixel(seen(saved(Image.new("I;16", (4, 4), 0x8000))), 1, 1)[0] in range(126, 131)


def test_a_moving_picture_shows_its_first_image() -> None:
    """And no other."""
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")

    assert pixel(seen(saved(first, "GIF", save_all=True, append_images=[second])), 1, 1) == (255, 0, 0)


def test_low_detail_is_smaller_and_another_picture() -> None:
    """So that one is not taken for the other."""
    content = saved(Image.new("RGB", (2048, 1024), "red"), "JPEG")
    low, high = seen(content, detail="low"), seen(content, detail="high")

    assert (low.width, low.height) == (1024, 512)
    assert (high.width, high.height) == (2048, 1024)
    assert low.digest != high.digest


def bomb(width: int, height: int) -> bytes:
    """A PNG of hardly any bytes that claims so many pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(9000, 9000), (60000, 60000), (2**31 - 1, 2**31 - 1)])
def test_a_bomb_is_refused_by_its_header(size: tuple[int, int]) -> None:
    """No memory is taken for it."""
    assert "pixels" in refusal(bomb(*size))


def test_strips_are_refused() -> None:
    """Image models' own readers stumble over them."""
    assert "strip" in refusal(saved(Image.new("RGB", (2001, 10))))
    assert "strip" in refusal(saved(Image.new("RGB", (1, 1))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF"])
def test_a_file_that_is_cut_off_is_named(kind: str) -> None:
    """Half a picture is not shown as a whole one."""
    content = saved(Image.effect_noise((64, 64), 50).convert("RGB"), kind)

    assert "damaged or cut off" in refusal(content[: len(content) // 2])


@given(st.binary(max_size=60), st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]), st.integers(0, 400))
def test_no_bytes_do_more_than_be_refused(noise: bytes, kind: str, at: int) -> None:
    """Whatever is written over a file: it is read, or refused by name."""
    content = bytearray(saved(Image.new("RGB", (16, 16), "green"), kind))
    content[at : at + len(noise)] = noise
    with suppress(TaskRefused):
        seen(bytes(content))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://example.org/a.png", "send it as a data: URL; this router fetches nothing"),
        ("file:///etc/passwd", "fetches nothing"),
        ("data:image/png;base64", "no comma"),
        ("data:image/png;base64,A", "base64 is not valid"),
        ("data:image/svg+xml,<svg/>", "no PNG, JPEG, WebP or GIF"),
        (None, "data: URL"),
    ],
)
def test_urls_that_hold_no_image(url: str | None, words: str) -> None:
    """Each says what is wrong with it."""
    with pytest.raises(TaskRefused, match=words):
        medium_of(ImagePart({"url": url}), "image 1")


def test_base64_is_read_as_clients_write_it() -> None:
    """With line ends, and with percent signs; the head in any case."""
    content = base64.encodebytes(saved(Image.effect_noise((32, 32), 50))).decode()
    for url in (
        "DATA:image/png;BASE64," + content,
        "data:;base64," + content.replace("\n", "").replace("+", "%2B"),
    ):
        assert isinstance(medium_of(ImagePart({"url": url}), "image 1"), Picture)


def test_files_are_refused() -> None:
    """They are for readers of documents."""
    with pytest.raises(TaskRefused, match="send their text"):
        medium_of(FilePart({"file_data": "x"}), "file 1")


def wav(rate: int = 8000, seconds: float = 1.0, *, claimed: int | None = None, tag: int = 1) -> bytes:
    samples = b"\1\2" * int(rate * seconds)
    head = struct.pack("<HHIIHH", tag, 1, rate, 2 * rate, 2, 16)
    size = len(samples) if claimed is None else claimed
    body = (
        b"WAVEfmt "
        + struct.pack("<I", 16)
        + head
        + b"LIST\3\0\0\0abc\0data"
        + struct.pack("<I", size)
        + samples
    )
    return b"RIFF" + struct.pack("<I", len(body)) + body


def flac(rate: int, count: int) -> bytes:
    info = (
        struct.pack(">HH", 4096, 4096)
        + bytes(6)
        + (rate << 44 | 15 << 36 | count).to_bytes(8, "big")
        + bytes(16)
    )
    return b"fLaC\x80" + len(info).to_bytes(3, "big") + info


def mp3(frames_count: int) -> bytes:
    return (b"\xff\xfb\x90\x00" + bytes(413)) * frames_count  # 128 kbit/s, 44.1 kHz


def test_a_wave_file_is_as_long_as_its_samples() -> None:
    """Whatever its header claims; what is beside the samples is left out."""
    honest, endless = (checked_sound(wav(claimed=claimed), "sound 1") for claimed in (None, 0xFFFFFFFF))

    assert honest == endless
    assert b"LIST" not in honest
    assert len(honest) == 44 + 16000


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (wav(rate=1), "makes no sense"),
        (wav(tag=2), "send PCM"),
        (wav(seconds=0.01), "lasts 0.01 s"),
        (wav()[:30], "no samples"),
        (flac(44100, 44100 * 601), "lasts 601"),
        (flac(44100, (1 << 36) - 1), "lasts"),
        (flac(44100, 0), "does not say how long"),
        (flac(1, 100), "does not say how long"),
        (flac(44100, 44100)[:20], "damaged or cut off"),
        (mp3(30000), "lasts"),
        (b"ID3\4\0\0\0\0\0\0nothing", "no WAV, MP3 or FLAC"),
        (b"OggS" + bytes(100), "no WAV, MP3 or FLAC"),
        (b"", "no WAV, MP3 or FLAC"),
    ],
)
def test_sounds_that_promise_too_much_are_refused(content: bytes, words: str) -> None:
    """Before the library gets memory for what they promise."""
    with pytest.raises(TaskRefused, match=words):
        checked_sound(content, "sound 1")


def test_sounds_of_a_known_length_are_let_through() -> None:
    """As they are."""
    for content in (flac(44100, 44100), mp3(20), b"ID3\4\0\0\0\0\0\0" + mp3(20)):
        assert checked_sound(content, "sound 1") == content
    assert medium_of(AudioPart({"data": base64.b64encode(mp3(20)).decode()}), "sound 1") is not None


@given(st.binary(max_size=80), st.integers(0, 60))
def test_no_sound_does_more_than_be_refused(noise: bytes, at: int) -> None:
    """Whatever is written over a file."""
    for sound in (wav(seconds=0.1), flac(44100, 44100), mp3(3)):
        content = bytearray(sound)
        content[at : at + len(noise)] = noise
        with suppress(TaskRefused):
            assert checked_sound(bytes(content), "sound 1")


@given(st.binary(min_size=32, max_size=32), st.integers(1, 3000))
def test_made_up_tokens_are_no_tokens(key: bytes, count: int) -> None:
    """Negative 32-bit numbers, the same for the same key, and as many as are wanted."""
    made = made_up(key, count)

    assert len(made) == count
    assert all(-(2**31) <= number < 0 for number in made)
    assert made == made_up(key, count)
    assert made[:2] != made_up(key + b"x", 2)


def block(start: int, positions_count: int, tokens_count: int) -> Block:
    return Block(b"key", start, positions_count, tokens_count, Chunk(None))


def test_nothing_ends_within_a_picture() -> None:
    """What would is as long as what comes before it."""
    blocks = (block(4, 3, 9), block(7, 2, 2))

    assert [whole(blocks, count) for count in range(11)] == [0, 1, 2, 3, 4, 4, 4, 7, 7, 9, 10]


def test_cells_are_counted_of_whole_pictures() -> None:
    """Those that take more cells than places, too."""
    blocks = (block(4, 3, 9), block(7, 2, 2))

    assert [tokens_count(blocks, count) for count in (4, 7, 9, 12)] == [4, 13, 15, 18]
