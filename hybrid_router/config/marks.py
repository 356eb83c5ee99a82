"""What the schema notes beside a type: meaning, unit, limits, and how it may be written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Doc:
    """A key's meaning."""

    text: str


@dataclass(frozen=True)
class Unit:
    """How a number is written: as a `duration` (`30s`) or a `size` (`8MiB`)."""

    name: Literal["duration", "size"]


@dataclass(frozen=True)
class Bounds:
    """Inclusive limits of a number."""

    at_least: float | None = None
    at_most: float | None = None


@dataclass(frozen=True)
class Pattern:
    """What a string must look like; `hint` is shown when it does not."""

    regex: str
    hint: str


@dataclass(frozen=True)
class NonEmpty:
    """A list or mapping that would mean nothing, or everything, if it were empty."""


@dataclass(frozen=True)
class Short:
    """A mapping that may be written as just the value of its `key`."""

    key: str


@dataclass(frozen=True)
class Untagged:
    """One of several mappings: which one it is where nothing is written that tells."""

    struct: type


@dataclass(frozen=True)
class NotHere:
    """A mapping that people write as a single value, and what to say to them."""

    text: str
