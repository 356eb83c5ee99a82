"""The meter: what attempts reserve and settle, and what a restart knows of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from kept_notes import START, KeptNotes, SetClock
from msgspec.structs import replace

from hybrid_router.catalogue.workers_ai import Price
from hybrid_router.config.cloud_schema import Neurons
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendTimeout,
    BackendUnavailable,
    BackendUnreachable,
    CallRefused,
    ConnectTimeout,
    ContentRefused,
    QuotaExhausted,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import (
    CACHE_STATUS,
    HIT,
    Batch,
    Finish,
    Reasoning,
    Remark,
    Text,
    ToolFragment,
    Usage,
)
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.dispatch.clocks import machine_clock
from hybrid_router.dispatch.meter import Meter
from hybrid_router.dispatch.metered import Metered
from hybrid_router.dispatch.record import Attempt
from hybrid_router.routing.ledger import Rate
from hybrid_router.store.database import open_store

RATE = Rate(input=1_000_000, output=1_000_000, cached_input=500_000)  # a neuron a token
WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
CLOUD = Step(backend="cf", model="m", timeouts=WAITS, because="")
HOME = Step(backend="local", model="m", timeouts=WAITS, because="")


def call(max_tokens: int = 100, **fields: Any) -> Call:
    """A chat call whose answer has at most so many tokens."""
    sampling = Sampling(max_tokens=max_tokens)
    return Call(id="c", operation=Operation.CHAT, alias="a", sampling=sampling, **fields)


def row() -> Attempt:
    """One attempt."""
    return Attempt(backend="cf", model="m", started_s=0.0)


def metered(**neurons: Any) -> dict[str, Metered]:
    """One backend with a day of 1,000 neurons."""
    config = Neurons(**{"daily": 1000.0, **neurons})
    return {"cf": Metered(account="one", neurons=config, default_max_tokens=2048)}


class Trial:
    """A meter with everything around it."""

    def __init__(
        self, notes: KeptNotes | None = None, clock: SetClock | None = None, wait_s: float = 5.0
    ) -> None:
        self.notes = notes or KeptNotes()
        self.clock = clock or SetClock()
        self.told: list[str] = []
        self.meter = Meter(self.notes, now=self.clock, on_trouble=self.told.append, wait_s=wait_s)

    async def begin(self, **neurons: Any) -> Meter:
        """Open and configure."""
        await self.meter.open()
        self.meter.configure(metered(**neurons), {"cf/m": RATE})
        return self.meter

    async def take(self, max_tokens: int = 100, prompt_tokens: int = 0, **who: bool) -> Attempt:
        """Reserve for one attempt."""
        taken = row()
        await self.meter.reserve(
            call(max_tokens), CLOUD, taken, prompt_tokens, **{"may_use_reserve": False, **who}
        )
        return taken

    def left(self) -> float:
        """What any call may use."""
        left = self.meter.left("cf")
        assert left is not None
        return left


@asynccontextmanager
async def trial(**neurons: Any) -> AsyncIterator[Trial]:
    """A configured meter, closed at the end."""
    begun = Trial()
    await begun.begin(**neurons)
    yield begun
    await begun.meter.close()


async def restarted(before: Trial, **neurons: Any) -> Trial:
    """Another process with the same notes; the one before has crashed."""
    after = Trial(before.notes, before.clock)
    await after.begin(**neurons)
    return after


async def test_an_attempt_reserves_the_most_and_settles_what_it_used() -> None:
    """Twice the estimated prompt and the whole answer until it is over; then what its usage says."""
    async with trial() as one:
        taken = await one.take(100, prompt_tokens=50)
        assert one.left() == 800

        taken.usage = Usage(prompt_tokens=60, completion_tokens=10, cached_tokens=20)
        assert one.meter.settle(call(), taken, None) == 60
        assert one.left() == 940


async def test_what_the_cloud_itself_counts_is_believed() -> None:
    """Its neurons rather than ours, unless they make no sense."""
    async with trial() as one:
        for told, counted in [(7.5, 7.5), (0.0, 0.0), (-3.0, 70.0), (float("nan"), 70.0)]:
            taken = await one.take()
            taken.usage = Usage(prompt_tokens=60, completion_tokens=10, neurons=told)
            assert one.meter.settle(call(), taken, None) == counted


@pytest.mark.parametrize(
    "error",
    [
        BackendUnreachable("no route"),
        ConnectTimeout("no connection"),
        BackendBusy("no capacity"),
        BackendMisconfigured("no such model"),
        CallRefused("bad request"),
    ],
)
async def test_what_never_ran_costs_nothing(error: RouterError) -> None:
    """Nobody there, no capacity, or a call that is refused as it stands."""
    async with trial() as one:
        assert one.meter.settle(call(), await one.take(100, 50), error) == 0
        assert one.left() == 1000


@pytest.mark.parametrize(
    "error",
    [
        BackendTimeout("silent"),
        BackendUnavailable("reset"),
        ContentRefused("filtered"),
        BackendError("?"),
        None,
    ],
    ids=lambda error: type(error).__name__,
)
async def test_what_may_have_run_costs_its_prompt(error: RouterError | None) -> None:
    """Silence is no proof of idleness: twice the prompt, and what may have been on the way."""
    async with trial() as one:
        assert one.meter.settle(call(), await one.take(100, 50), error) == 2 * 50 + 32


async def test_a_broken_stream_costs_what_was_shown_and_more() -> None:
    """Text, reasoning and arguments count, half as much again; never more than was reserved."""
    async with trial() as one:
        taken = await one.take(100, 50)
        batch: Batch = [Text("a" * 40), Reasoning("b" * 40), ToolFragment(0, arguments="c" * 40)]
        taken.note([*batch, Finish("stop")], 1.0)
        assert one.meter.settle(call(), taken, StreamBroken("cut")) == 2 * 50 + 1.5 * 30 + 32

        taken = await one.take(10, 50)
        taken.note(batch, 1.0)
        assert one.meter.settle(call(), taken, StreamBroken("cut")) == 2 * 50 + 10


async def test_an_answer_that_comes_in_one_piece_may_have_been_written_whole() -> None:
    """A call with a schema that ends before its first event costs all that it reserved."""
    async with trial() as one:
        formed = call(100, response_format={"type": "json_object"})
        taken = row()
        await one.meter.reserve(formed, CLOUD, taken, 50, may_use_reserve=False)
        assert one.meter.settle(formed, taken, BackendTimeout("silent")) == 200


PER_PICTURE = Rate(
    input=0, output=0, cached_input=0, beyond=(Price(unit="per picture", usd=0.0, neurons=30.0),)
)


async def test_pictures_are_reserved_and_settled_by_the_picture() -> None:
    """None of an answer's default tokens: what is asked for, whether or not somebody tells what it used."""
    async with trial() as one:
        one.meter.configure(metered(), {"cf/m": PER_PICTURE})
        asked = Call(id="c", operation=Operation.IMAGE, alias="a", prompts=("a cat",), n=3, ask=Painting())
        for usage, error, used in [
            (None, None, 90),
            (Usage(prompt_tokens=0, completion_tokens=0), None, 90),
            (Usage(prompt_tokens=0, completion_tokens=0, neurons=0.0), None, 0),
            (None, BackendTimeout("silent"), 90),
            (None, BackendBusy("no capacity"), 0),
        ]:
            before, taken = one.left(), row()
            await one.meter.reserve(asked, CLOUD, taken, 5, may_use_reserve=False)
            assert one.left() == before - 90
            taken.usage = usage
            assert one.meter.settle(asked, taken, error) == used
        with pytest.raises(QuotaExhausted, match="or ask for fewer or smaller pictures"):
            await one.meter.reserve(replace(asked, n=40), CLOUD, row(), 5, may_use_reserve=False)


async def test_an_attempt_is_settled_once() -> None:
    """And one that never reserved, not at all."""
    async with trial() as one:
        taken = await one.take()
        assert one.meter.settle(call(), taken, None) is not None
        assert one.meter.settle(call(), taken, None) is None
        assert one.meter.settle(call(), row(), BackendBusy("no")) is None


async def test_too_much_is_refused_with_what_to_do() -> None:
    """The error says what is left, what is needed, why, and when there is more; nothing is held."""
    async with trial(pace={"18:00": 0.5}) as one:
        with pytest.raises(QuotaExhausted) as refused:
            await one.take(501)

        assert refused.value.message == (
            "cf may use 500 neurons now and this call may cost 501 "
            "(the pace allows no more before 18:00 UTC): wait, or ask for a shorter answer (max_tokens)"
        )
        assert refused.value.retry_after_s == 6 * 3600
        assert one.left() == 500


async def test_the_reserve_is_for_calls_that_may_use_it() -> None:
    """Others are told that it is kept."""
    async with trial(reserve=200) as one:
        with pytest.raises(QuotaExhausted, match=r"800 neurons now .* 200 neurons are kept in reserve"):
            await one.take(801)
        await one.take(801, may_use_reserve=True)


async def test_calls_at_once_use_no_more_than_one_alone() -> None:
    """Thirty calls that need 100 each: ten run, however slowly the first note is written."""
    async with trial() as one:
        one.notes.gate.clear()
        calls = [asyncio.create_task(one.take(100)) for _ in range(30)]
        await asyncio.sleep(0)
        one.notes.gate.set()
        ended = await asyncio.gather(*calls, return_exceptions=True)

        assert sum(isinstance(each, Attempt) for each in ended) == 10
        assert sum(isinstance(each, QuotaExhausted) for each in ended) == 20
        assert one.left() == 0


async def test_backends_of_one_account_share_its_day() -> None:
    """Cloudflare counts accounts, not names in router.yaml; each has its own limits over the one count."""
    async with trial() as one:
        first = metered()["cf"]
        second = Metered(account="one", neurons=Neurons(daily=500), default_max_tokens=1)
        other = Metered(account="two", neurons=Neurons(daily=500), default_max_tokens=1)
        one.meter.configure({"cf": first, "cg": second, "ch": other}, {"cf/m": RATE})
        await one.take(400)

        left = {name: each.neurons for name, each in one.meter.allowances().items()}
        assert left == {"cf": 600, "cg": 100, "ch": 500}


async def test_what_is_not_metered_is_not_counted() -> None:
    """This machine's models cost nothing."""
    async with trial() as one:
        await one.meter.reserve(call(), HOME, row(), 10**9, may_use_reserve=False)

        assert one.meter.left("local") is None
        assert list(one.meter.allowances()) == ["cf"]
        assert one.meter.rates == {"cf/m": RATE}


@pytest.mark.parametrize("error", [QuotaExhausted("spent"), StreamBroken("spent", code="insufficient_quota")])
async def test_after_the_clouds_refusal_nothing_is_asked_of_it_till_midnight(error: RouterError) -> None:
    """Whatever was counted here; another process knows it too."""
    async with trial() as one:
        taken = await one.take()
        one.notes.saved.clear()
        one.meter.settle(call(), taken, error)
        await one.notes.saved.wait()  # nobody has to ask
        two = await restarted(one)

        for each in (one, two):
            with pytest.raises(QuotaExhausted, match="Cloudflare says that the day's neurons are spent"):
                await each.take(0)
        one.clock.pass_(hours=12)
        assert (one.left(), two.left() > 800) == (
            1000 - one.meter._accounts["one"].day.spent(one.clock()),
            True,
        )
        await two.meter.close()


async def test_a_reload_asks_the_cloud_again() -> None:
    """Somebody may have changed the account's plan; what was counted stays."""
    async with trial() as one:
        one.meter.settle(call(), await one.take(), QuotaExhausted("spent"))
        assert one.left() == 0
        one.meter.configure(metered(), {"cf/m": RATE})
        assert one.left() == 1000


async def test_our_own_refusal_says_nothing_of_the_cloud() -> None:
    """A call that was refused here leaves the rest of the day as it was."""
    async with trial() as one:
        refused = row()
        with pytest.raises(QuotaExhausted) as told:
            await one.meter.reserve(call(1001), CLOUD, refused, 0, may_use_reserve=False)
        one.meter.settle(call(), refused, told.value)

        assert one.left() == 1000


async def test_a_new_configuration_keeps_the_count() -> None:
    """Its limits hold at once; what runs is settled at the price that it began with."""
    async with trial() as one:
        taken = await one.take(100)
        dear = Rate(input=0, output=2_000_000, cached_input=0)
        one.meter.configure(metered(daily=300.0), {"cf/m": dear})
        assert one.left() == 200

        taken.usage = Usage(prompt_tokens=0, completion_tokens=50)
        assert one.meter.settle(call(), taken, None) == 50
        with pytest.raises(QuotaExhausted):
            await one.take(126)


async def test_calls_of_an_earlier_configuration_are_counted() -> None:
    """Those that run, and the next attempts of calls that run; the new one's plans know nothing of it."""
    async with trial() as one:
        taken = await one.take(100)
        one.meter.configure({}, {})
        assert one.meter.allowances() == {}
        await one.take(100)
        taken.usage = Usage(prompt_tokens=0, completion_tokens=50)
        one.meter.settle(call(), taken, None)
        one.meter.configure(metered(), {"cf/m": RATE})

        assert one.left() == 850


async def test_a_clean_end_loses_nothing_and_invents_nothing() -> None:
    """The next process goes on with exactly what was used."""
    async with trial() as one:
        taken = await one.take(100)
        taken.usage = Usage(prompt_tokens=3, completion_tokens=4)
        one.meter.settle(call(), taken, None)
        await one.meter.close()

        assert (await restarted(one)).left() == 993


async def test_a_crash_wastes_a_lease_and_forgets_nothing() -> None:
    """What ran counts as if it had cost the most that it might; and a hundredth of the day besides."""
    async with trial() as one:
        await one.take(100)

        assert (await restarted(one)).left() == 1000 - 100 - 10


async def test_most_calls_write_nothing() -> None:
    """Ninety calls of ten tokens are covered by few notes."""
    async with trial(daily=100_000.0) as one:
        await one.notes.saved.wait()
        for _ in range(90):
            taken = await one.take(10)
            taken.usage = Usage(prompt_tokens=0, completion_tokens=10)
            one.meter.settle(call(), taken, None)

        assert one.notes.saves_count == 2  # at the start, and a lease


async def test_a_note_comes_before_what_it_covers() -> None:
    """No call goes out before the note that covers it is kept."""
    async with trial() as one:
        one.notes.gate.clear()
        taking = asyncio.create_task(one.take(100))
        await one.notes.begun.wait()
        await asyncio.sleep(0)
        assert not taking.done()
        assert one.notes.kept == {}

        one.notes.gate.set()
        await taking
        assert (await restarted(one)).left() <= 900


async def test_nothing_leans_on_a_note_that_is_being_replaced() -> None:
    """While a smaller note is on its way, the one that is there covers no more than that."""
    async with trial() as one:
        taken = await one.take(500)
        one.meter.settle(call(), taken, BackendBusy("no"))
        one.notes.gate.clear()
        one.notes.begun.clear()
        closing = asyncio.create_task(one.meter.close())
        await one.notes.begun.wait()
        taking = asyncio.create_task(one.take(100))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not taking.done()

        one.notes.gate.set()
        await asyncio.gather(closing, taking)
        assert (await restarted(one)).left() <= 900


async def test_a_call_whose_client_leaves_while_the_note_is_written_holds_nothing() -> None:
    """It never ran."""
    async with trial() as one:
        one.notes.gate.clear()
        taking = asyncio.create_task(one.take(100))
        await one.notes.begun.wait()
        taking.cancel()
        await asyncio.wait({taking})
        one.notes.gate.set()

        assert one.left() == 1000


async def test_a_full_disk_stops_no_call_and_is_told_once() -> None:
    """Counting goes on in memory; once notes can be written again, the next trouble is told again."""
    async with trial(daily=10_000.0) as one:
        one.notes.broken = True
        for _ in range(3):
            await one.take(1000)
        assert one.told == ["what is used of the day's neurons cannot be noted: the disk is full"]
        assert one.left() == 7000

        one.notes.broken = False
        await one.take(1000)
        await one.meter.close()
        assert (await restarted(one, daily=10_000.0)).left() == 10_000 - 4000 - 100
        one.notes.broken = True
        await one.meter.close()
        assert len(one.told) == 2


async def test_a_disk_that_hangs_stops_no_call() -> None:
    """The first call waits for it a little, the next ones not at all, and the end a little again."""
    one = Trial(wait_s=0.02)
    await one.begin()
    one.notes.gate.clear()
    await one.take(100)
    await one.take(100)
    assert one.left() == 800
    await one.meter.close()

    assert one.told == ["what is used of the day's neurons cannot be noted: it takes longer than 0.02 s"]


async def test_notes_that_cannot_be_read_are_told_and_stop_nothing() -> None:
    """Neither a store that fails, nor a note that makes no sense, which is the only one left out."""
    one = Trial()
    one.notes.broken = True
    await one.begin()
    assert one.left() == 1000
    assert one.told[0].startswith("what was used today cannot be read")

    async with trial() as two:
        await two.take(100)
        two.notes.kept["other"] = b'{"state":'
        three = await restarted(two)
        assert three.left() == 890
        assert "makes no sense" in three.told[0]


async def test_without_notes_it_counts_all_the_same() -> None:
    """For as long as the process lives."""
    meter = Meter(None, now=SetClock())
    await meter.open()
    meter.configure(metered(), {"cf/m": RATE})
    taken = row()
    await meter.reserve(call(100), CLOUD, taken, 0, may_use_reserve=False)
    meter.settle(call(100), taken, BackendTimeout("silent"))
    await meter.close()

    assert meter.left("cf") == 1000 - 32


async def test_it_survives_in_the_real_store(tmp_path: Path) -> None:
    """Two processes' meters, one SQLite file."""
    told: list[str] = []
    for left in (1000 - 7, 1000 - 14):
        store = await open_store(tmp_path / "router.sqlite3")
        meter = Meter(store.notes, on_trouble=told.append)
        await meter.open()
        meter.configure(metered(), {"cf/m": RATE})
        taken = row()
        await meter.reserve(call(100), CLOUD, taken, 0, may_use_reserve=False)
        taken.usage = Usage(prompt_tokens=3, completion_tokens=4)
        meter.settle(call(100), taken, None)
        assert meter.left("cf") == left
        await meter.close()
        await store.close()
    assert told == []


async def test_a_day_that_begins_while_calls_run_is_noted_before_the_next() -> None:
    """After a crash in the new day, what ran across midnight counts in it."""
    async with trial() as one:
        await one.take(300)
        one.clock.pass_(hours=12.1)
        await one.take(100)

        assert (await restarted(one)).left() == 1000 - 400 - 10


async def test_a_note_of_the_same_date_covers_no_other_day() -> None:
    """A clock that was set back comes to a date for the second time: that day is noted anew."""
    async with trial() as one:
        await one.take(500)
        one.notes.saved.clear()
        two = await restarted(one)
        await one.notes.saved.wait()
        one.clock.off = timedelta(days=-1)
        assert two.left() <= 500
        one.clock.pass_(hours=25)
        await two.take(400)
        one.clock.reboot()

        assert (await restarted(two)).left() <= 600


def test_the_machines_clock_tells_the_time() -> None:
    """In UTC, with a second clock that goes forward and the machine's start by name."""
    now = machine_clock()
    first, second = now(), now()

    assert first.wall.tzinfo is not None
    assert first.wall > START.replace(year=2020)
    assert second.elapsed_s >= first.elapsed_s > 0
    assert first.boot == second.boot != ""


@pytest.mark.parametrize(("status", "neurons"), [(HIT, 0.0), ("MISS", 50.0)])
async def test_what_a_gateways_cache_had_costs_nothing(status: str, neurons: float) -> None:
    """Whatever its body says: that was paid for when it was computed."""
    async with trial() as begun:
        taken = await begun.take(100)
        usage = Usage(prompt_tokens=20, completion_tokens=30, neurons=50.0)
        taken.note([Remark(CACHE_STATUS, status), Text("kept"), Finish("stop"), usage], 1.0)

        assert begun.meter.settle(call(), taken, None) == neurons
        assert begun.left() == 1000.0 - neurons


async def test_an_answer_that_broke_off_is_counted_though_its_beginning_was_kept() -> None:
    """The requests that were to bring the rest may have been computed."""
    async with trial() as begun:
        taken = await begun.take(100)
        taken.note([Remark(CACHE_STATUS, HIT), Text("kept")], 1.0)

        assert begun.meter.settle(call(), taken, StreamBroken("cut")) != 0.0
