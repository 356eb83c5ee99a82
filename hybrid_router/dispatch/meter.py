"""What every account's day has used: reserved before an attempt, settled after it, kept across restarts."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct

from hybrid_router.catalogue import prices
from hybrid_router.catalogue.prices import Work
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendMisconfigured,
    BackendUnreachable,
    CallRefused,
    ContentRefused,
    QuotaExhausted,
    RouterError,
)
from hybrid_router.core.event import CACHE_STATUS, HIT
from hybrid_router.core.notes import Notes
from hybrid_router.core.step import Step
from hybrid_router.dispatch.account import KIND, Account, OnTrouble, read
from hybrid_router.dispatch.clocks import Clock, machine_clock
from hybrid_router.dispatch.metered import Metered
from hybrid_router.dispatch.record import Attempt
from hybrid_router.routing.day import Day, State
from hybrid_router.routing.ledger import Allowance, Rate, most_work, price, unfinished
from hybrid_router.routing.moments import Moment
from hybrid_router.routing.work import done

_TIDY_S = 30.0  # after a call the note becomes exact, at most this often
_SHORTER = "ask for a shorter answer (max_tokens)"
_LESS: Mapping[Operation, str] = MappingProxyType({
    Operation.CHAT: _SHORTER,
    Operation.COMPLETE: _SHORTER,
    Operation.IMAGE: "ask for fewer or smaller pictures (n, size)",
    Operation.SPEAK: "send a shorter text",
    Operation.TRANSCRIBE: "send a shorter recording",
})  # fmt: skip
_NOT_COMPUTED = (BackendUnreachable, BackendBusy, BackendMisconfigured, QuotaExhausted, CallRefused)


class _Held(Struct, frozen=True, kw_only=True):
    """What a running attempt has reserved.  `row` keeps its id its own."""

    account: Account
    rate: Rate
    neurons: float
    work: Work
    prompt_tokens: int
    row: Attempt


class Meter:
    """Counts what metered backends use.  One for the process, whatever configuration it runs."""

    def __init__(
        self,
        notes: Notes | None,
        *,
        now: Clock | None = None,
        on_trouble: OnTrouble = lambda why: None,
        wait_s: float = 2.0,
    ) -> None:
        """Count from nothing; `open` takes up what was noted.

        Args:
            notes: where the count outlives the process; None: nowhere.
            on_trouble: told in one sentence when notes cannot be read or written.  Calls go on.
            wait_s: a disk that takes longer than this holds no call back.
        """
        self._notes = notes
        self._now = now or machine_clock()
        self._on_trouble = on_trouble
        self._wait_s = wait_s
        self._now_metered: Mapping[str, Metered] = {}
        self._metered: dict[str, Metered] = {}  # those before, too: their calls may still be running
        self._rates: dict[str, Rate] = {}
        self._states: dict[str, State] = {}
        self._accounts: dict[str, Account] = {}
        self._held: dict[int, _Held] = {}

    async def open(self) -> None:
        """Read what an earlier process noted; call it before `configure`."""
        if self._notes is None:
            return
        try:
            documents = await self._notes.load(KIND)
        except OSError as error:
            self._on_trouble(f"what was used today cannot be read, so it counts as nothing: {error}")
            return
        for key, document in documents.items():
            try:
                self._states[key] = read(document).state
            except ValueError as error:
                self._on_trouble(f"a note of what was used today makes no sense and is left out: {error}")

    def configure(self, metered: Mapping[str, Metered], rates: Mapping[str, Rate]) -> None:
        """Count for these backends from now on.  Calls of an earlier configuration are counted all the same.

        A reload is somebody's wish: a cloud that has refused for the rest of the day is asked again.

        Args:
            metered: by backend; those of one account share its day.
            rates: what models cost, by `backend/model`.
        """
        self._now_metered = metered
        self._metered |= metered
        self._rates |= rates
        for name, backend in metered.items():
            if backend.account not in self._accounts:
                self._accounts[backend.account] = self._account(backend.account)
            else:
                self._accounts[backend.account].day.ask_again()
            account = self._accounts[backend.account]
            account.backends.add(name)
            account.note_within(0.0)  # so that the next process knows of a clock that is set from now on

    def _account(self, key: str) -> Account:
        state, now = self._states.pop(key, None), self._now()
        day = Day(now) if state is None else Day.restored(state, now)
        return Account(key, day, self._notes, self._now, on_trouble=self._on_trouble, wait_s=self._wait_s)

    @property
    def rates(self) -> Mapping[str, Rate]:
        """What models cost, by `backend/model`; in dollars where nothing is metered."""
        return self._rates

    def allowances(self) -> dict[str, Allowance]:
        """What each metered backend may use now."""
        now = self._now()
        return {
            name: self._accounts[backend.account].day.allowance(backend.neurons, now)
            for name, backend in self._now_metered.items()
        }

    def left(self, backend: str) -> float | None:
        """Neurons that any call may still use now; None: they are not counted."""
        metered = self._metered.get(backend)
        if metered is None:
            return None
        return self._accounts[metered.account].day.allowance(metered.neurons, self._now()).neurons

    async def reserve(
        self, call: Call, step: Step, row: Attempt, prompt_tokens: int, *, may_use_reserve: bool
    ) -> None:
        """Count the most that an attempt may cost, until it is settled.  Nothing is held if it raises.

        Checked and counted in one go, so that many calls at once cannot use more than one alone.

        Args:
            prompt_tokens: estimated.

        Raises:
            QuotaExhausted: so much may not be used now.
        """
        metered = self._metered.get(step.backend)
        if metered is None:
            return
        account, now, rate = self._accounts[metered.account], self._now(), self._rates[step.name]
        work = most_work(rate, call, prompt_tokens, metered.default_max_tokens)
        neurons = rate.neurons(price(rate, work))
        instead = account.day.reserve(metered.neurons, id(row), neurons, now, may_use_reserve=may_use_reserve)
        if instead is not None:
            left = instead.reserve_neurons if may_use_reserve else instead.neurons
            raise _withheld(step.backend, call, neurons, left, instead, now=now)
        self._held[id(row)] = _Held(
            account=account, rate=rate, neurons=neurons, work=work, prompt_tokens=prompt_tokens, row=row
        )
        try:
            await account.cover(metered.neurons)
        except BaseException:  # cancelled: the attempt never begins
            del self._held[id(row)]
            account.day.settle(id(row), 0.0, self._now())
            raise

    def settle(self, call: Call, row: Attempt, error: RouterError | None) -> float | None:
        """Count what an attempt has used; where that is not told, the most that it may have been.

        If it ended because the cloud says that the day is spent, that holds until the next one.

        Returns:
            Neurons; None: nothing was reserved.
        """
        held = self._held.pop(id(row), None)
        if held is None:
            return None
        now, used = self._now(), _used(held, call, error)
        held.account.day.settle(id(row), used, now)
        is_spent = error is not None and error.code == QuotaExhausted.code
        if is_spent:
            held.account.day.refused(now)
        held.account.note_within(0.0 if is_spent else _TIDY_S)
        return used

    async def close(self) -> None:
        """Note exactly what was used.  Bounded."""
        await asyncio.gather(*(account.close() for account in self._accounts.values()))


def _used(held: _Held, call: Call, error: RouterError | None) -> float:
    """Neurons that an attempt has cost: told, computed from its usage, or at most."""
    row, rate = held.row, held.rate
    if row.whole and row.remarks.get(CACHE_STATUS) == HIT:
        return 0.0
    if row.usage is not None:
        told = row.usage.neurons
        if told is not None and math.isfinite(told) and told >= 0:
            return told
        return price(rate, done(held.work, row.usage))
    if row.first_event_s is None:
        if isinstance(error, _NOT_COMPUTED) and not isinstance(error, ContentRefused):
            return 0.0
        if call.response_format is not None:  # such an answer may come in one piece, so all of it may be done
            return held.neurons
    beyond = prices.neurons(rate.beyond, held.work)  # nobody says how far a picture was: it may be whole
    return min(held.neurons, beyond + unfinished(rate, call, held.prompt_tokens, row.shown_tokens))


def _withheld(
    backend: str, call: Call, neurons: float, left: float, allowance: Allowance, *, now: Moment
) -> QuotaExhausted:
    """The error of a call that may not use what it needs."""
    wait_s = None if allowance.until is None else (allowance.until - now.wall).total_seconds()
    return QuotaExhausted(
        f"{backend} may use {left:,.0f} neurons now and this call may cost {neurons:,.0f} "
        f"({allowance.because}): wait, or {_LESS.get(call.operation, 'ask for less at once')}",
        retry_after_s=wait_s,
    )
