"""How the emulator shall behave, and its state: one emulated account."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from hybrid_router.catalogue import workers_ai
from hybrid_router.core.backend import Backend
from hybrid_router.emulator.calls import CallLog
from hybrid_router.emulator.fault import FaultQueue
from hybrid_router.emulator.ledger import Ledger, Now
from hybrid_router.emulator.schema_check import SchemaCheck
from hybrid_router.emulator.script import Script

DEFAULT_ACCOUNT_ID = "e" * 32
DEFAULT_TOKEN = "emulator"  # noqa: S105 - opens nothing but the emulator


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen.

    Attributes:
        port: 0 takes a free one.
        daily_neurons: the day's allowance; the free plan has 10,000.
        paid: the Workers Paid plan: no daily end, and models that require the plan answer.
        quota_code: 4006 as seen on the wire, or 3036 as documented.
        rate_limits: count calls a minute.
        trailing_usage: end chat streams with the line `{"response":"","usage":…}`.
        stream_usage: usage of chunks: of each chunk alone, so far, or in the last chunk only.
        prefill_models: the script goes on from a last message of the assistant when asked as one of these.
        token_delay_s: pause before each event of a stream.
        plain_limit_s: a plain answer that takes longer is 408/3046.
        hang_limit_s: longest that a fault hangs; then the connection is reset.
        source: who answers; None is the script.  It is not closed by the emulator.
        source_model: the model asked of `source`.
        now: the clock of days and minutes, in UTC.
    """

    host: str = "127.0.0.1"
    port: int = 0
    account_id: str = DEFAULT_ACCOUNT_ID
    token: str = DEFAULT_TOKEN
    daily_neurons: float = 10_000.0
    paid: bool = False
    quota_code: Literal[4006, 3036] = 4006
    rate_limits: bool = True
    trailing_usage: bool = True
    stream_usage: Literal["delta", "cumulative", "final"] = "delta"
    prefill_models: frozenset[str] = frozenset()
    token_delay_s: float = 0.0
    body_limit_bytes: int = 10 * 2**20
    plain_limit_s: float = 120.0
    hang_limit_s: float = 600.0
    ping_s: float = 0.05
    source: Backend | None = None
    source_model: str = "script"
    now: Now = utc_now


class Account:
    """One emulated account: what it may call, what it has used, what shall go wrong with it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.catalogue = workers_ai.load()
        self.models = self.catalogue.by_id()
        self.schemas = SchemaCheck(self.catalogue)
        self.ledger = Ledger(settings.now, None if settings.paid else settings.daily_neurons)
        self.calls = CallLog()
        self.faults = FaultQueue()
        self.source: Backend = settings.source or Script()
        self.stopping = False

    @property
    def scripted(self) -> bool:
        """Whether the script answers, whose token counts are known beforehand."""
        return self.settings.source is None
