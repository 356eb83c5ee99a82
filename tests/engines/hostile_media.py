"""Small files that would cost much, or that name other files: for tests of who looks before unpacking."""

from __future__ import annotations

import io
import struct
import zlib
from functools import cache

import av
from av.audio.frame import AudioFrame
from recordings import RATE_HZ, Samples, wav

DAY_S = 24 * 3600
BOMB_BYTES = 512 * 2**20
_BLOCK_COUNT = 65_535  # samples of the longest block that FLAC has
_FLAC_HZ = 16_000
_PIECE_BYTES = 2**20


def day_of_silence(told_s: int = 0) -> bytes:
    """24 hours that are really there, in a third of a megabyte; the head says `told_s`, 0: nothing.

    Every block of FLAC is one sample that stands for all of them.
    """
    streaminfo = struct.pack(">HH6x", _BLOCK_COUNT, _BLOCK_COUNT) + _flac_numbers(told_s) + bytes(16)
    head = b"fLaC\x80" + len(streaminfo).to_bytes(3) + streaminfo
    frames_count = DAY_S * _FLAC_HZ // _BLOCK_COUNT
    return head + b"".join(map(_silent_frame, range(frames_count)))


def _flac_numbers(told_s: int) -> bytes:
    """Rate, one channel, 16 bits, how many samples: in 20, 3, 5 and 36 bits."""
    return (_FLAC_HZ << 44 | 15 << 36 | told_s * _FLAC_HZ).to_bytes(8)


def _silent_frame(number: int) -> bytes:
    """Rate as in the head, 16 bits a sample, one channel; then a constant, which is 0."""
    head = b"\xff\xf8\x70\x08" + _as_utf8(number) + (_BLOCK_COUNT - 1).to_bytes(2)
    frame = head + bytes([_checksum(head, 8, 0x07)]) + b"\0\0\0"
    return frame + _checksum(frame, 16, 0x8005).to_bytes(2)


def _as_utf8(number: int) -> bytes:
    """As UTF-8 would write it, surrogates too."""
    return chr(number).encode("utf-8", "surrogatepass")


def _checksum(content: bytes, bits: int, polynomial: int) -> int:
    table, mask, found = _table(bits, polynomial), (1 << bits) - 1, 0
    for byte in content:
        found = found << 8 & mask ^ table[found >> bits - 8 ^ byte]
    return found


@cache
def _table(bits: int, polynomial: int) -> list[int]:
    """What each byte does to a checksum."""
    made = []
    for byte in range(256):
        found = byte << (bits - 8)
        for _ in range(8):
            found = found << 1 ^ (polynomial if found >> (bits - 1) else 0)
            found &= (1 << bits) - 1
        made.append(found)
    return made


def mp4(samples: Samples, *, in_fragments: bool) -> bytes:
    """Sound with its table of contents at the end, or in fragments that each have their own."""
    file = io.BytesIO()
    options = {"movflags": "empty_moov+default_base_moof", "frag_duration": "500000"} if in_fragments else {}
    with av.open(file, "w", format="mp4", options=options) as out:
        stream = out.add_stream("aac", rate=RATE_HZ, layout="mono")
        frame = AudioFrame.from_ndarray((samples * 32_767).astype("int16")[None], format="s16", layout="mono")
        frame.rate = RATE_HZ
        for given in (frame, None):
            out.mux(stream.encode(given))
    return file.getvalue()


def absurd_wavs() -> dict[str, bytes]:
    """Heads that no recorder writes, each before a second of silence."""
    return {
        "rate": _wav_with(24, b"\xff\xff\xff\x7f"),
        "channels": _wav_with(22, b"\xff\xff"),
        "bits": _wav_with(34, b"\xff\xff"),
        "head_size": _wav_with(16, b"\xf0\xff\xff\xff"),
        "codec": _wav_with(20, b"\xad\xde"),
    }


def wav_from_a_pipe(content: bytes) -> bytes:
    """A wav file whose writer could not know how long it would be: both lengths are the largest number."""
    endless = b"\xff" * 4
    head, data, sound = content.partition(b"data")
    return head[:4] + endless + head[8:] + data + endless + sound[4:]


def _wav_with(at: int, written: bytes) -> bytes:
    plain = wav(bytes(32_000))
    return plain[:at] + written + plain[at + len(written) :]


def playlists(name: str) -> dict[str, bytes]:
    """Texts that players take as the names of what to play."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{name}\n#EXT-X-ENDLIST\n".encode(),
        "concat": f"ffconcat version 1.0\nfile '{name}'\n".encode(),
        "sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 9 RTP/AVP 0\n",
        "dash": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{name}</BaseURL></MPD>'.encode(),
        "svg": svg(name),
    }


def svg(name: str) -> bytes:
    """A drawing that includes another file."""
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
        f'<image href="{name}" width="9" height="9"/></svg>'
    ).encode()


def png(width: int, height: int, *, pixels_bytes: int, text_bytes: int = 0) -> bytes:
    """One bit a pixel, with so many zeros as pixels, and as many in a compressed text before them."""
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    text = [_chunk(b"zTXt", b"Comment\0\0" + _squeezed(text_bytes))] if text_bytes else []
    chunks = [_chunk(b"IHDR", head), *text, _chunk(b"IDAT", _squeezed(pixels_bytes)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_png(side: int = 50_000) -> bytes:
    """A whole one, all of whose pixels are there."""
    return png(side, side, pixels_bytes=side * (1 + (side + 7) // 8))


def fat_png() -> bytes:
    """64 pixels by as many, and then half a gigabyte more."""
    return png(64, 64, pixels_bytes=BOMB_BYTES)


def wordy_png() -> bytes:
    """A small one with a comment of half a gigabyte."""
    return png(64, 64, pixels_bytes=64 * 9, text_bytes=BOMB_BYTES)


def huge_gif() -> bytes:
    """65,535 pixels by as many, by its head."""
    return b"GIF89a" + struct.pack("<HHBBB", 65_535, 65_535, 0, 0, 0) + b"," + bytes(9) + b"\x02\x00;"


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _squeezed(count: int) -> bytes:
    """So many zeros in a thousandth of their size, put together from a mebibyte that is packed once."""
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    piece = packer.compress(bytes(_PIECE_BYTES)) + packer.flush(zlib.Z_FULL_FLUSH)
    rest = packer.compress(bytes(count % _PIECE_BYTES)) + packer.flush()
    adler32 = (count % 65_521) << 16 | 1
    return b"\x78\x01" + piece * (count // _PIECE_BYTES) + rest + adler32.to_bytes(4)
