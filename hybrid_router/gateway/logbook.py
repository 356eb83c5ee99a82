"""What a gateway noted of each try: whom, how long, how many tokens; never what was asked or said.

Source: AI Gateway's pages on logging, and the types of its API's packages.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Literal

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from hybrid_router.core.errors import CallRefused
from hybrid_router.gateway.controls import Scalar, metadata
from hybrid_router.gateway.log_filter import Filter, value_of

MOST_ENTRIES = 10_000
MOST_TOLD_BYTES = 16 * 2**20  # of what callers wrote into them
MOST_REMOVED = 10_000
ENTROPY_BYTES = 10
_BASE32 = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID_CHARS = 26
_MOST_PAGE = 50
_MOST_DIGITS = 20
_TOTALS = ("cost", "duration", "tokens_in", "tokens_out", "total_tokens")


class Entry(Struct, frozen=True, kw_only=True):
    """One try of one step, or one answer from the cache.

    Attributes:
        created_at: ISO 8601, UTC.
        duration: milliseconds.
        cost: USD.
        custom_cost: the caller said so.
    """

    id: str
    principal: str
    created_at: str
    provider: str
    path: str
    model: str = ""
    model_type: str = ""
    request_type: str = ""
    request_content_type: str = "application/json"
    response_content_type: str = ""
    status_code: int = 200
    success: bool = True
    cached: bool = False
    duration: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    cost: float = 0.0
    custom_cost: bool = False
    step: int = 0
    metadata: Mapping[str, Scalar] = field(default_factory=dict)
    event_id: str = ""
    feedback: Literal[-1, 0, 1] | None = None
    score: float | None = None

    @property
    def total_tokens(self) -> int:
        """Read and written."""
        return self.tokens_in + self.tokens_out

    def document(self) -> dict[str, Any]:
        """As the API tells it."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        del told["principal"]
        told["metadata"] = msgspec.json.encode(self.metadata).decode()
        return told

    def details(self) -> dict[str, Any]:
        """The same, and that nothing else was kept."""
        nothing = {"size": 0, "head": "", "head_complete": False}
        heads = {
            f"{side}_{name}": value for side in ("request", "response") for name, value in nothing.items()
        }
        return {**self.document(), **heads}


class Patch(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """What may be said of an entry afterwards."""

    feedback: Literal[-1, 0, 1] | msgspec.UnsetType | None = msgspec.UNSET
    score: float | msgspec.UnsetType | None = msgspec.UNSET
    metadata: Mapping[str, Scalar] | msgspec.UnsetType = msgspec.UNSET


class Wanted(Struct, frozen=True, kw_only=True):
    """Which entries, in which order."""

    page: int = 1
    per_page: int = 20
    search: str = ""
    order_by: str = "created_at"
    descending: bool = True
    filters: tuple[Filter, ...] = ()


class Logbook:
    """The newest entries of one gateway.  What is another principal's is not there."""

    def __init__(self, most_count: int = MOST_ENTRIES, most_told_bytes: int = MOST_TOLD_BYTES) -> None:
        self._most_count = most_count
        self._most_told_bytes = most_told_bytes
        self._entries: OrderedDict[str, Entry] = OrderedDict()
        self._told_bytes = 0

    def add(self, entry: Entry) -> None:
        """Note a try; the oldest entries go when there are too many, or too much is written into them."""
        self._put(entry)
        while len(self._entries) > self._most_count or self._told_bytes > self._most_told_bytes:
            self._drop(next(iter(self._entries)))

    def find(self, name: str, principal: str) -> Entry | None:
        """A principal's entry."""
        entry = self._entries.get(name)
        return entry if entry is not None and entry.principal == principal else None

    def patch(self, name: str, principal: str, patch: Patch) -> Entry | None:
        """Say something of an entry; None: there is no such entry."""
        entry = self.find(name, principal)
        if entry is not None:
            self._put(entry := replace(entry, **_said(patch)))
        return entry

    def remove(self, principal: str, filters: tuple[Filter, ...], limit: int) -> int:
        """Forget the oldest entries that are meant; returns how many."""
        meant = [entry.id for entry in islice(_meant(self._of(principal), filters), limit)]
        for name in meant:
            self._drop(name)
        return len(meant)

    def listing(self, principal: str, wanted: Wanted) -> tuple[list[Entry], dict[str, Any]]:
        """A page of a principal's entries, and `result_info`, whose bounds are of all pages."""
        meant = _meant(self._of(principal), wanted.filters)
        if search := wanted.search.lower():
            meant = (one for one in meant if search in f"{one.id} {one.model} {one.path}".lower())
        sought = list(meant)
        places = [(*_place(entry, wanted.order_by), number) for number, entry in enumerate(sought)]
        found = [sought[place[-1]] for place in sorted(places, reverse=wanted.descending)]
        begin = (wanted.page - 1) * wanted.per_page
        page = found[begin : begin + wanted.per_page]
        told: dict[str, Any] = {
            "count": len(page),
            "page": wanted.page,
            "per_page": wanted.per_page,
            "total_count": len(found),
        }
        for name in _TOTALS:
            values = [getattr(entry, name) for entry in found] or [0]
            told[f"min_{name}"], told[f"max_{name}"] = min(values), max(values)
        return page, told

    def _put(self, entry: Entry) -> None:
        before = self._entries.get(entry.id)
        self._told_bytes += _told_bytes(entry) - (0 if before is None else _told_bytes(before))
        self._entries[entry.id] = entry

    def _drop(self, name: str) -> None:
        self._told_bytes -= _told_bytes(self._entries.pop(name))

    def _of(self, principal: str) -> Iterator[Entry]:
        return (entry for entry in self._entries.values() if entry.principal == principal)


def _told_bytes(entry: Entry) -> int:
    return len(msgspec.json.encode(entry.metadata)) + len(entry.event_id)


def _said(patch: Patch) -> dict[str, Any]:
    return {
        name: value
        for name in Patch.__struct_fields__
        if (value := getattr(patch, name)) is not msgspec.UNSET
    }


def _meant(entries: Iterable[Entry], filters: tuple[Filter, ...]) -> Iterator[Entry]:
    for one in filters:
        entries = one.among(entries)
    return iter(entries)


def _place(entry: Entry, order_by: str) -> tuple[bool, Any]:
    """Where an entry belongs; those of the same place come as they were noted."""
    value = value_of(entry, order_by)
    return (value is not None, value)


def wanted(query: Mapping[str, str], filters: tuple[Filter, ...]) -> Wanted:
    """The address's query as what is wanted.

    Raises:
        CallRefused: a number is none, or there is no such order.
    """
    order_by = query.get("order_by", "created_at")
    if order_by not in _ORDERS:
        raise CallRefused(f"order_by: one of {', '.join(sorted(_ORDERS))}", param="order_by")
    return Wanted(
        page=count(query, "page", 1, 10**6),
        per_page=count(query, "per_page", 20, _MOST_PAGE),
        search=query.get("search", ""),
        order_by=order_by,
        descending=query.get("order_by_direction", "desc") != "asc",
        filters=filters,
    )


_ORDERS = frozenset(
    {"created_at", "provider", "model", "model_type", "success", "cached", "cost", "tokens_in", "tokens_out",
     "duration", "feedback"}
)  # fmt: skip


def count(query: Mapping[str, str], name: str, usual: int, most: int, *, least: int = 1) -> int:
    """A whole number of the address's query; what is more than `most` is that.

    Raises:
        CallRefused: it is none, or less than `least`.
    """
    written = query.get(name, str(usual))
    if written.isascii() and written.isdecimal():
        number = int(written.lstrip("0")[:_MOST_DIGITS] or "0")  # the interpreter reads no thousands of them
        if number >= least:
            return min(number, most)
    raise CallRefused(f"{name}: expected a whole number from {least}", param=name)


def patch(body: bytes) -> Patch:
    """What a body says of an entry; of metadata as much as a header's.

    Raises:
        CallRefused: it is none of this.
    """
    try:
        said = msgspec.json.decode(body, type=Patch)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CallRefused(f"expected feedback (-1, 0, 1), score or metadata: {error}") from None
    if said.metadata is msgspec.UNSET:
        return said
    return replace(said, metadata=metadata("metadata", msgspec.json.encode(said.metadata)))


def ulid(now_s: float, entropy: bytes) -> str:
    """An id of 26 characters that sorts by time; `entropy` of ten bytes makes it one that nobody guesses."""
    number = round(now_s * 1000) << (8 * ENTROPY_BYTES) | int.from_bytes(entropy[:ENTROPY_BYTES])
    places = range(5 * (_ID_CHARS - 1), -1, -5)
    return "".join(_BASE32[number >> place & 31] for place in places)
