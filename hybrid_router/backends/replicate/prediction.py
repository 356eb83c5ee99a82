"""A prediction, as Replicate tells of it."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Unreadable, malformed
from hybrid_router.core.event import Usage

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_SHARE = re.compile(r"(\d{1,3})%\|")
_ENDED = frozenset({"succeeded", "failed", "canceled", "aborted"})


class Urls(Struct, frozen=True):
    """Where more of it is.  Only its stream is looked for there: all else is known by its id."""

    stream: str | None = None


class Metrics(Struct, frozen=True):
    """What was counted, by models that write text."""

    input_token_count: int | None = None
    output_token_count: int | None = None


class Prediction(Struct, frozen=True):
    """One run of a model."""

    id: str
    status: str
    output: Any = None
    error: Any = None
    logs: str | None = None
    urls: Urls | None = None
    metrics: Metrics | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status in _ENDED

    @property
    def share(self) -> float:
        """How far it is, from 0 to 1, as far as its log has a progress bar."""
        found = _SHARE.findall(self.logs or "")
        return min(1.0, int(found[-1]) / 100) if found else 0.0

    @property
    def usage(self) -> Usage | None:
        """What it cost, if its tokens were counted."""
        metrics = self.metrics
        if metrics is None or metrics.input_token_count is None or metrics.output_token_count is None:
            return None
        return Usage(max(0, metrics.input_token_count), max(0, metrics.output_token_count))


def read(body: bytes) -> Prediction:
    """A prediction's document.

    Raises:
        Unreadable: it is none, or its id would leave its place in an address.
    """
    try:
        found = msgspec.json.decode(body, type=Prediction)
    except (ValueError, RecursionError) as error:
        raise malformed(error) from None
    if not _ID.fullmatch(found.id):
        raise Unreadable("sent what is not its format", detail="the id of a prediction")
    return found
