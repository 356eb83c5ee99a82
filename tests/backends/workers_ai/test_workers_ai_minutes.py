"""A minute's limit: refused here, before the cloud is asked."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_cloud import ACCOUNT, MODEL, TOKEN, answer, chat, listening, models, stream
from scripted_cloud import Upstream as Scripted

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.minutes import Minute, Minutes, limits
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.errors import BackendBusy, Inexpressible
from hybrid_router.core.secret import Secret

PAID = "@cf/moonshotai/kimi-k2.6"
LIMITS = {"a": ("Text", 3), "b": ("Text", 3), "c": ("c", 1)}


class Clock:
    """Says what it is told."""

    now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


def test_models_of_a_task_share_its_minute() -> None:
    """The refusal says how long the next has to wait, and nothing of it is counted."""
    clock = Clock()
    minute = Minutes(LIMITS, clock).of("one")
    minute.take("a")
    clock.now_s += 10
    minute.take("b", 2)
    minute.take("c")

    with pytest.raises(BackendBusy, match=r"3 requests a minute of Text are used.* in 50 s") as one:
        minute.take("a")
    with pytest.raises(BackendBusy) as two:
        minute.take("b", 2)

    assert (one.value.retry_after_s, two.value.retry_after_s) == (50.0, 60.0)
    clock.now_s += 50
    minute.take("a")


def test_an_account_is_counted_once_and_others_apart() -> None:
    """Whoever names an account shares its minute; what nobody knows the limit of is never refused."""
    minutes = Minutes(LIMITS, Clock())
    minutes.of("one").take("c")

    with pytest.raises(BackendBusy):
        minutes.of("one").take("c")
    minutes.of("two").take("c")
    for _ in range(1000):
        minutes.of("one").take("somebody's")


def test_what_no_minute_holds_is_told_so() -> None:
    """A call of more requests than a minute takes would wait for ever: another step may do it."""
    with pytest.raises(Inexpressible, match="takes 3 requests a minute of Text and this call needs 4"):
        Minutes(LIMITS, Clock()).of("one").take("a", 4)


@pytest.mark.parametrize(
    ("path", "counted"), [("run/c", True), ("run/%63", True), ("v1/embeddings", False), ("tomarkdown", False)]
)
def test_requests_are_counted_by_their_address(path: str, counted: bool) -> None:
    """Those that run a model, however its name is spelt in the address."""
    minute = Minutes(LIMITS, Clock()).of("one")
    minute.take_for(path)

    if counted:
        with pytest.raises(BackendBusy):
            minute.take("c")
    else:
        minute.take("c")


def refused_s(minute: Minute, count: int) -> float:
    """How long `count` requests have to wait; 0: they are taken."""
    try:
        minute.take("m", count)
    except BackendBusy as error:
        return error.retry_after_s or -1.0
    return 0.0


@given(st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), max_size=40))
def test_no_sixty_seconds_hold_more_than_the_limit(steps: list[tuple[float, int]]) -> None:
    """Whenever the cloud's minute begins; and whoever waits as long as told is let in."""
    clock, sent = Clock(), list[float]()
    minute = Minutes({"m": ("m", 5)}, clock).of("one")
    for wait_s, count in steps:
        clock.now_s += wait_s
        told_s = refused_s(minute, count)
        assert 0 <= told_s <= 60
        if told_s:
            clock.now_s += told_s + 1e-6
            minute.take("m", count)
        sent += [clock.now_s] * count
        assert sum(at > clock.now_s - 60 for at in sent) <= 5


async def test_a_full_minute_is_refused_before_the_cloud_is_asked() -> None:
    """A model of the paid plan takes 20 a minute from two backends of one account; no 21st leaves."""
    upstream = Scripted([stream({"response": "a"}, b"[DONE]")])
    clock = Clock()
    minutes = Minutes(limits(catalogue.load()), clock)
    async with listening(upstream.serve) as port:
        config = WorkersAIBackend(
            account_id=ACCOUNT, token=SecretSource(), base_url=f"http://127.0.0.1:{port}/client/v4"
        )
        pair = [
            WorkersAI(name, config, account, Secret(TOKEN), models(), minutes=minutes)
            for name, account in (("one", ACCOUNT), ("two", ACCOUNT.upper()))
        ]
        try:
            for number in range(20):
                await answer(pair[number % 2], chat(), PAID)
            with pytest.raises(BackendBusy, match=r"20 requests a minute of @cf/moonshotai/kimi-k2\.6") as no:
                await answer(pair[0], chat(), PAID)
            assert no.value.retry_after_s == 60.0
            assert len(upstream.requests) == 20
            await answer(pair[0], chat(), MODEL)
            clock.now_s += 60
            await answer(pair[1], chat(n=2), PAID)
            with pytest.raises(Inexpressible, match="takes 20 requests a minute"):
                await answer(pair[1], chat(n=21), PAID)
        finally:
            for each in pair:
                await each.close()
    assert len(upstream.requests) == 23
