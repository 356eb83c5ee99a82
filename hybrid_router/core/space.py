"""Bytes of the two kinds of memory that a model takes."""

from __future__ import annotations

from msgspec import Struct

_GIB = 2**30
_MIB = 2**20


class Space(Struct, frozen=True):
    """Bytes of the machine's memory, and of its GPUs'.  Differences may be negative."""

    ram_bytes: int = 0
    vram_bytes: int = 0

    def __add__(self, other: Space) -> Space:
        return Space(self.ram_bytes + other.ram_bytes, self.vram_bytes + other.vram_bytes)

    def __sub__(self, other: Space) -> Space:
        return Space(self.ram_bytes - other.ram_bytes, self.vram_bytes - other.vram_bytes)

    def fits(self, room: Space) -> bool:
        """Whether no kind is short.  What takes none of a kind is not kept out by its shortage."""
        return _fits(self.ram_bytes, room.ram_bytes) and _fits(self.vram_bytes, room.vram_bytes)

    def beyond(self, room: Space) -> Space:
        """What is missing of each kind; nothing where it fits."""
        return Space(
            0 if _fits(self.ram_bytes, room.ram_bytes) else self.ram_bytes - room.ram_bytes,
            0 if _fits(self.vram_bytes, room.vram_bytes) else self.vram_bytes - room.vram_bytes,
        )

    def least(self, other: Space) -> Space:
        """The smaller of each kind."""
        return Space(min(self.ram_bytes, other.ram_bytes), min(self.vram_bytes, other.vram_bytes))

    def most(self, other: Space) -> Space:
        """The larger of each kind."""
        return Space(max(self.ram_bytes, other.ram_bytes), max(self.vram_bytes, other.vram_bytes))


NO_SPACE = Space()
UNLIMITED = Space(1 << 62, 1 << 62)


def _fits(needed_bytes: int, room_bytes: int) -> bool:
    return needed_bytes <= 0 or needed_bytes <= room_bytes


def shown(size_bytes: int) -> str:
    """A size for people."""
    return f"{size_bytes / _GIB:.1f} GiB" if abs(size_bytes) >= _GIB else f"{size_bytes / _MIB:.0f} MiB"
