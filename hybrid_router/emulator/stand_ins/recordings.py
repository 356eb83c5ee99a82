"""What a recording says and how long it is, as far as that can be told without hearing it."""

from __future__ import annotations

from hybrid_router.emulator.stand_ins import mp3, wav

SAID = "This is what an emulated recording says."
# Of a file that is neither: as an ordinary voice recording of 32 kbit/s.
_USUAL_BYTES_A_SECOND = 4000
_SPOKEN_CHARACTERS_A_SECOND = 15
_SHORTEST_S = 0.5


def heard(content: bytes) -> tuple[str, float]:
    """The words and the seconds; a file that was spoken here says its own words."""
    said, duration_s = wav.read(content) or mp3.read(content) or (None, len(content) / _USUAL_BYTES_A_SECOND)
    return said or SAID, duration_s


def spoken_s(text: str) -> float:
    """How long it takes to say `text`."""
    return max(_SHORTEST_S, len(text) / _SPOKEN_CHARACTERS_A_SECOND)
