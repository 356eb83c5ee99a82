"""How the emulator shall behave, and its state: one emulated account."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from msgspec.structs import replace

from hybrid_router.catalogue import workers_ai
from hybrid_router.core.asks import Speech
from hybrid_router.core.backend import GENERATES, Backend
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Batch
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.emulator.calls import CallLog
from hybrid_router.emulator.fault import FaultQueue
from hybrid_router.emulator.finetunes import FineTunes
from hybrid_router.emulator.ledger import Ledger, Now
from hybrid_router.emulator.queue import Queue
from hybrid_router.emulator.schema_check import SchemaCheck
from hybrid_router.emulator.stand_in import StandIn
from hybrid_router.emulator.webhooks import Webhooks

DEFAULT_ACCOUNT_ID = "e" * 32
DEFAULT_TOKEN = "emulator"  # noqa: S105 - opens nothing but the emulator
DEFAULT_GATEWAY_TOKEN = "emulator-gateway"  # noqa: S105 - the same


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class Source:
    """Who answers, and as which of its models."""

    backend: Backend
    model: str


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be chosen.

    Attributes:
        port: 0 takes a free one.
        token: what is accepted; with an empty one anybody may ask.
        auth_email, auth_key: the legacy pair that opens the account as its token does; empty: there is none.
        gateway_token: what gateways with authentication want in `cf-aig-authorization`.
        upstreams: provider → base of its API, for calls through a gateway; Workers AI is the emulator itself.
        daily_neurons: the day's allowance; the free plan has 10,000.
        paid: the Workers Paid plan: no daily end, and models that require the plan answer.
        quota_code: 4006 as seen on the wire, or 3036 as documented.
        keep_retired: models past their date still answer, as they did before it.
        rate_limits: count calls a minute.
        trailing_usage: end chat streams with the line `{"response":"","usage":…}`.
        stream_usage: usage of chunks: of each chunk alone, so far, or in the last chunk only.
        prefill_models: the script goes on from a last message of the assistant when asked as one of these.
        token_delay_s: pause before each event of a stream.
        plain_limit_s: a plain answer that takes longer is 408/3046.
        hang_limit_s: longest that a fault hangs; then the connection is reset.
        source: who answers text; None is the script.  It is not closed by the emulator.
        source_model: the model asked of `source`.
        sources: who answers other operations; those that are missing are played.
        parallel: calls that are answered at once; the others wait.  None: all of them.
        queue_polls: how often a batch is told to be on its way before it is done.
        now: the clock of days and minutes, in UTC.
    """

    host: str = "127.0.0.1"
    port: int = 0
    account_id: str = DEFAULT_ACCOUNT_ID
    token: str = DEFAULT_TOKEN
    auth_email: str = ""
    auth_key: str = ""
    gateway_token: str = DEFAULT_GATEWAY_TOKEN
    upstreams: Mapping[str, str] = field(default_factory=dict)
    daily_neurons: float = 10_000.0
    paid: bool = False
    quota_code: Literal[4006, 3036] = 4006
    keep_retired: bool = False
    rate_limits: bool = True
    trailing_usage: bool = True
    stream_usage: Literal["delta", "cumulative", "final"] = "delta"
    prefill_models: frozenset[str] = frozenset()
    token_delay_s: float = 0.0
    body_limit_bytes: int = 64 * 2**20
    plain_limit_s: float = 120.0
    hang_limit_s: float = 600.0
    ping_s: float = 0.05
    source: Backend | None = None
    source_model: str = "script"
    sources: Mapping[Operation, Source] = field(default_factory=dict)
    parallel: int | None = None
    queue_polls: int = 2
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
        self.finetunes = FineTunes(self.models, settings.now)
        self.queue = Queue(settings.queue_polls)
        self.webhooks = Webhooks()
        self.places = None if settings.parallel is None else asyncio.Semaphore(settings.parallel)
        self.stopping = False
        self._stand_in = StandIn(self.models)

    @property
    def scripted(self) -> bool:
        """Whether the script answers text, whose token counts are known beforehand."""
        return self._source(Operation.CHAT) is None

    def played(self, call: Call) -> AsyncGenerator[Batch]:
        """Have `call` answered by whoever is there for its operation.

        Speakers are the cloud's: another source speaks with its own voice.
        """
        source = self._source(call.operation) or Source(self._stand_in, "script")
        if isinstance(call.ask, Speech) and source.backend is not self._stand_in:
            call = replace(call, ask=replace(call.ask, voice=""))
        total_s = self.settings.hang_limit_s
        limits = Timeouts(connect_s=10, load_s=120, first_token_s=120, between_tokens_s=120, total_s=total_s)
        step = Step(backend="emulator", model=source.model, timeouts=limits, because="emulated")
        return source.backend.run(call, step)

    def _source(self, operation: Operation) -> Source | None:
        """Who answers instead of the stand-in, if anybody does."""
        settings = self.settings
        if settings.source is not None and operation in GENERATES:
            return Source(settings.source, settings.source_model)
        return settings.sources.get(operation)
