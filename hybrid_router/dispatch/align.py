"""Replay and align: an answer given again from its start, of which the client has a part.  Pure."""

from __future__ import annotations

from typing import Literal, TypeAlias

from hybrid_router.core.event import Batch

OnDivergence: TypeAlias = Literal["splice", "error"]


class Diverged(Exception):
    """The replay says something else than the client was given, and no splice is wanted or possible."""

    def __init__(self, at_char: int) -> None:
        super().__init__(f"the replay differs from character {at_char}")
        self.at_char = at_char


class Aligner:
    """Swallows the beginning of one choice's replay as long as it equals what is out.

    Args:
        shown: the text that the client has.
        on_divergence: what to do when the replay differs.
    """

    def __init__(self, shown: str, on_divergence: OnDivergence) -> None:
        self._shown = shown
        self._on_divergence = on_divergence
        self.diverged_at_char: int | None = None

    def feed(self, batch: Batch) -> Batch:
        """What of `batch` is new to the client; may be empty.

        Raises:
            Diverged: it differs, and that is an error.
        """
        raise NotImplementedError
