"""What a call has from its request, not from its body: the same for every kind of call."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict

from hybrid_router.api import limits


class Sender(TypedDict):
    """Who asks, and how.  The names are those of `decode`'s arguments."""

    call_id: str
    principal: str
    headers: Mapping[str, str]
    path: NotRequired[str]


def fields(sender: Sender, extra: dict[str, Any]) -> dict[str, Any]:
    """The fields of `Call` that follow from it, and those of the body that nobody knows.

    Raises:
        CallRefused: a header's limit is none.
    """
    headers = sender["headers"]
    return {
        "id": sender["call_id"],
        "principal": sender["principal"],
        "headers": headers,
        "path": sender.get("path", ""),
        "deadline_s": limits.deadline_s(headers),
        "max_cost_usd": limits.max_cost_usd(headers),
        "extra": extra,
    }
