"""What a caller asks of a gateway: the `cf-aig-*` headers, a step's `config`, and the gateway's own settings.

Source: AI Gateway's header glossary and its pages on caching, request handling and custom metadata.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import msgspec
from msgspec import Struct

from hybrid_router.core.errors import CallRefused

Backoff: TypeAlias = Literal["constant", "linear", "exponential"]
Scalar: TypeAlias = str | int | float | bool

SHORTEST_TTL_S = 60.0
LONGEST_TTL_S = 30 * 86_400.0
# How long an answer is kept under a key of the caller's own if nobody says how long.
KEYED_TTL_S = 300.0
MOST_ATTEMPTS = 5
MOST_METADATA = 5
_LONGEST_DELAY_MS = 60_000.0
_LONGEST_TIMEOUT_MS = 86_400_000.0
_LONGEST_TEXT = 1024
_RESERVED = "cf."


class Cost(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the caller says that the answer costs, in USD: by the token, or in all."""

    per_token_in: float | None = None
    per_token_out: float | None = None
    total_cost: float | None = None

    def usd(self, tokens_in: int, tokens_out: int) -> float:
        """Of an answer with so many tokens."""
        if self.total_cost is not None:
            return self.total_cost
        return (self.per_token_in or 0.0) * tokens_in + (self.per_token_out or 0.0) * tokens_out


class Controls(Struct, frozen=True, kw_only=True):
    """Wishes.  None: nothing is said, so whoever comes after decides.

    Attributes:
        cache_ttl_s: 0: neither read nor kept.
        skip_cache: not read, but kept.
        request_timeout_s: until the first byte.
        max_attempts: tries, the first included.
    """

    cache_ttl_s: float | None = None
    skip_cache: bool | None = None
    cache_key: str | None = None
    collect_log: bool | None = None
    collect_payload: bool | None = None
    metadata: Mapping[str, Scalar] | None = None
    event_id: str | None = None
    request_timeout_s: float | None = None
    max_attempts: int | None = None
    retry_delay_s: float | None = None
    backoff: Backoff | None = None
    cost: Cost | None = None

    @property
    def ttl_s(self) -> float:
        """How long a whole answer is kept; 0: not at all."""
        if self.cache_ttl_s is not None:
            return self.cache_ttl_s
        return 0.0 if self.cache_key is None else KEYED_TTL_S

    @property
    def tries(self) -> int:
        """How often a step is tried at most."""
        return self.max_attempts or 1


def first_of(*levels: Controls) -> Controls:
    """What holds: each wish as the first level has it that says anything.  Step, request, gateway."""
    chosen = {}
    for name in Controls.__struct_fields__:
        said = (value for level in levels if (value := getattr(level, name)) is not None)
        chosen[name] = next(said, None)
    return Controls(**chosen)


def from_headers(headers: Mapping[str, str]) -> Controls:
    """Read the control headers; names in any case, others are passed over.

    Raises:
        CallRefused: a value is none of its kind; `param` names the header.
    """
    told: dict[str, Any] = {}
    lower = {name.lower(): value for name, value in headers.items()}
    for name, (field, read) in _HEADERS.items():
        if field not in told and (value := lower.get(name)) is not None:
            told[field] = read(name, value.strip())
    return Controls(**told)


class StepConfig(Struct, frozen=True, rename="camel"):
    """`config` of a universal step; times in milliseconds."""

    request_timeout: float | None = None
    max_attempts: int | None = None
    retry_delay: float | None = None
    backoff: str | None = None


def from_config(config: StepConfig | None) -> Controls:
    """Read a step's `config`.  Raises CallRefused as `from_headers` does."""
    told: dict[str, Any] = {}
    for name, (field, read) in _CONFIG.items():
        if config is not None and (value := getattr(config, name)) is not None:
            told[field] = read(f"config.{name}", str(value))
    return Controls(**told)


def _wrong(name: str, wanted: str) -> CallRefused:
    return CallRefused(f"{name}: expected {wanted}", param=name)


def _number(name: str, value: str, most: float) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:
        raise _wrong(name, f"a number from 0 to {most:.0f}")
    return number


def _ttl_s(name: str, value: str) -> float:
    """Seconds; what is between off and a minute is a minute, what is longer than a month a month."""
    try:
        number = _number(name, value, 10.0**12)
    except CallRefused:
        raise _wrong(name, f"seconds: 0 for off, or {SHORTEST_TTL_S:.0f} to {LONGEST_TTL_S:.0f}") from None
    return number and min(max(number, SHORTEST_TTL_S), LONGEST_TTL_S)


def _timeout_s(name: str, value: str) -> float | None:
    """Milliseconds; 0: no limit is asked for."""
    return _number(name, value, _LONGEST_TIMEOUT_MS) / 1000 or None


def _delay_s(name: str, value: str) -> float:
    return _number(name, value, _LONGEST_DELAY_MS) / 1000


def _attempts(name: str, value: str) -> int:
    if value not in {str(count) for count in range(1, MOST_ATTEMPTS + 1)}:
        raise _wrong(name, f"a whole number from 1 to {MOST_ATTEMPTS}")
    return int(value)


def _backoff(name: str, value: str) -> Backoff:
    for known in get_args(Backoff):
        if value == known:
            return known  # type: ignore[no-any-return]
    raise _wrong(name, "constant, linear or exponential")


def _flag(name: str, value: str) -> bool:
    if value.lower() not in {"true", "false"}:
        raise _wrong(name, "true or false")
    return value.lower() == "true"


def _text(name: str, value: str) -> str:
    if not 0 < len(value) <= _LONGEST_TEXT:
        raise _wrong(name, f"1 to {_LONGEST_TEXT} characters")
    return value


def metadata(name: str, value: str | bytes) -> Mapping[str, Scalar]:
    """The first five entries of a JSON object; reserved names are dropped.

    Raises:
        CallRefused: it is no object, or a value is a list or an object.
    """
    try:
        told = msgspec.json.decode(value, type=dict[str, str | int | float | bool])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong(name, "a JSON object of strings, numbers and booleans") from None
    kept = [(key[:_LONGEST_TEXT], _cut(one)) for key, one in told.items() if not key.startswith(_RESERVED)]
    return dict(kept[:MOST_METADATA])


def _cut(value: Scalar) -> Scalar:
    """A text that is kept for long, not longer than need be."""
    return value[:_LONGEST_TEXT] if isinstance(value, str) else value


def _cost(name: str, value: str) -> Cost:
    try:
        return msgspec.json.decode(value, type=Cost)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise _wrong(name, '{"per_token_in", "per_token_out"} or {"total_cost"}, in USD') from None


_Read: TypeAlias = Callable[[str, str], Any]
# The new name of a header comes before its old one.
_HEADERS: Mapping[str, tuple[str, _Read]] = MappingProxyType({
    "cf-aig-cache-ttl": ("cache_ttl_s", _ttl_s),
    "cf-cache-ttl": ("cache_ttl_s", _ttl_s),
    "cf-aig-skip-cache": ("skip_cache", _flag),
    "cf-skip-cache": ("skip_cache", _flag),
    "cf-aig-cache-key": ("cache_key", _text),
    "cf-aig-collect-log": ("collect_log", _flag),
    "cf-aig-collect-log-payload": ("collect_payload", _flag),
    "cf-aig-metadata": ("metadata", metadata),
    "cf-aig-event-id": ("event_id", _text),
    "cf-aig-request-timeout": ("request_timeout_s", _timeout_s),
    "cf-aig-max-attempts": ("max_attempts", _attempts),
    "cf-aig-retry-delay": ("retry_delay_s", _delay_s),
    "cf-aig-backoff": ("backoff", _backoff),
    "cf-aig-custom-cost": ("cost", _cost),
})  # fmt: skip
_CONFIG: Mapping[str, tuple[str, _Read]] = MappingProxyType({
    "request_timeout": ("request_timeout_s", _timeout_s),
    "max_attempts": ("max_attempts", _attempts),
    "retry_delay": ("retry_delay_s", _delay_s),
    "backoff": ("backoff", _backoff),
})  # fmt: skip
