"""Where a speaker's turn begins and ends in samples that come bit by bit: silence is samples of zero."""

from __future__ import annotations

from typing import Literal, TypeAlias

TurnEvent: TypeAlias = Literal["Update", "StartOfTurn", "EagerEndOfTurn", "TurnResumed", "EndOfTurn"]

_UPDATE_S = 0.25
_EAGER_S = 0.25
_END_S = 0.5
_LONGEST_S = 30.0
_SAMPLE_BYTES = 2


class Turns:
    """The turns of one speaker, of whom only the running one is kept.

    Args:
        rate: samples a second, each of 16 bits.
        eager: tell early that a turn may be over, and that it was not.
    """

    def __init__(self, rate: int, *, eager: bool = False) -> None:
        self._a_second = rate * _SAMPLE_BYTES
        self._eager = eager
        self._told_eagerly = False
        self._told_bytes = 0
        self._running = False
        self.samples = bytearray()
        self.index = 0
        self.began_s = 0.0
        self.heard_s = 0.0

    def take(self, frame: bytes) -> TurnEvent | None:
        """What `frame` changes, if anything is to be told.  After `EndOfTurn`, call `close`."""
        self.heard_s += len(frame) / self._a_second
        if not self._running and not frame.strip(b"\0"):
            return None
        self.samples += frame
        if not self._running:
            self._running = True
            self.began_s = self.heard_s - len(frame) / self._a_second
            self._told_bytes = len(self.samples)
            return "EndOfTurn" if self._is_over else "StartOfTurn"
        return self._changed()

    def close(self) -> None:
        """Forget the running turn; the next one has the next number."""
        self.samples.clear()
        self.index += 1
        self._running = self._told_eagerly = False

    @property
    def running(self) -> bool:
        """Whether somebody speaks."""
        return self._running

    def _changed(self) -> TurnEvent | None:
        if self._is_over:
            return "EndOfTurn"
        quiet_s = self._quiet_s
        if self._told_eagerly and not quiet_s:
            self._told_eagerly = False
            return "TurnResumed"
        if self._eager and quiet_s >= _EAGER_S and not self._told_eagerly:
            self._told_eagerly = True
            return "EagerEndOfTurn"
        if len(self.samples) - self._told_bytes >= _UPDATE_S * self._a_second:
            self._told_bytes = len(self.samples)
            return "Update"
        return None

    @property
    def _is_over(self) -> bool:
        return self._quiet_s >= _END_S or len(self.samples) >= _LONGEST_S * self._a_second

    @property
    def _quiet_s(self) -> float:
        """How long nothing has been said."""
        return (len(self.samples) - len(self.samples.rstrip(b"\0"))) / self._a_second
