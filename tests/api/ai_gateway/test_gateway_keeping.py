"""What a gateway of the router keeps: for whom, how long, and what it never keeps."""

from __future__ import annotations

import asyncio

import pytest
from gateways_played import BAD, CACHING, GOOD, LLAMA, Aliased, door, step

from hybrid_router.api.ai_gateway import gateways as gateways_at_work
from hybrid_router.api.ai_gateway.error import NoGateway
from hybrid_router.api.ai_gateway.gateways import Gateways
from hybrid_router.api.generation import Fronts, Generation
from hybrid_router.config.front_schema import FrontGateway, RateLimit
from hybrid_router.config.schema import Server
from hybrid_router.core.event import Finish, Picture
from hybrid_router.core.step import Plan
from hybrid_router.gateway.cache import Kept

PNG = b"\x89PNG\r\n\x1a\n rest"


async def test_an_answer_is_kept_for_its_principal_alone() -> None:
    """The same question is a HIT for who asked it, and a MISS for anybody else."""
    answers = Aliased()
    async with door(answers) as played:
        status = [
            (await played.chat(who, **CACHING)).headers["cf-aig-cache-status"]
            for who in ("alice", "alice", "bob", "bob", "alice")
        ]
        skipped = await played.chat(**CACHING, cf_aig_skip_cache="true")
        other = await played.chat(model="slow", **CACHING)

    assert status == ["MISS", "HIT", "MISS", "HIT", "HIT"]
    assert {skipped.headers["cf-aig-cache-status"], other.headers["cf-aig-cache-status"]} == {"MISS"}
    assert [call.principal for call in answers.calls] == ["alice", "bob", "alice", "alice"]


async def test_a_hit_is_the_answer_to_the_byte() -> None:
    """Body and type are as they were; nobody is asked, and the log says so and counts no cost."""
    answers = Aliased({"fast": [[[Picture(PNG), Finish("stop")]]]})
    body = {"model": "fast", "prompt": "a cat"}
    async with door(answers) as played:
        first, second = [
            await played.post("site/openai/images/generations", body, **CACHING) for _ in range(2)
        ]
        newest = (await played.logs())["result"][0]

    assert (first.body, first.headers["content-type"]) == (second.body, second.headers["content-type"])
    assert len(answers.calls) == 1
    assert (newest["cached"], newest["cost"], newest["id"]) == (True, 0.0, second.headers["cf-aig-log-id"])


async def test_headers_are_of_the_step_that_answers() -> None:
    """Not of one before it that failed: a HIT asked nobody, and a stream is neither HIT nor MISS."""
    native = {"provider": "workers-ai", "endpoint": LLAMA, "query": {"prompt": "x"}}
    streamed = step()
    streamed["query"]["stream"] = True
    async with door(Aliased({"fast": [GOOD], "slow": [BAD]})) as played:
        asked = await played.post("site", [step(model="slow"), native], **CACHING)
        kept = await played.post("site", [step(model="slow"), native], **CACHING)
        stream = await played.post("site", [step(model="slow"), streamed], **CACHING)

    names = ("cf-aig-step", "cf-aig-cache-status", "cf-aig-provider", "cf-aig-model")
    assert [[reply.headers.get(name) for name in names] for reply in (asked, kept, stream)] == [
        ["1", "MISS", "workers-ai", LLAMA],
        ["1", "HIT", None, None],
        ["1", None, "openai", "fast"],
    ]


@pytest.mark.parametrize("alias", ["private", "home"])
async def test_a_private_call_is_never_kept(alias: str) -> None:
    """Nor one that must stay at home: the second is asked as the first was."""
    answers = Aliased()
    async with door(answers) as played:
        replies = [await played.chat(model=alias, **CACHING) for _ in range(2)]

    assert [reply.headers["cf-aig-cache-status"] for reply in replies] == ["MISS", "MISS"]
    assert len(answers.calls) == 2


@pytest.mark.parametrize("plan", [Plan(local_only=True), Plan(refused="no")])
async def test_what_was_kept_is_no_way_around_a_rule(plan: Plan) -> None:
    """A call that a rule keeps here or refuses is asked, though the same question has an answer."""
    answers = Aliased()
    async with door(answers) as played:
        await played.chat(**CACHING)
        hit = await played.chat(**CACHING)
        answers.plan = plan
        asked = await played.chat(**CACHING)

    assert (hit.headers["cf-aig-cache-status"], asked.headers["cf-aig-cache-status"]) == ("HIT", "MISS")
    assert len(answers.calls) == 2


async def test_errors_are_never_kept() -> None:
    """A failure is asked again, not repeated."""
    async with door(Aliased({"fast": [BAD, GOOD]})) as played:
        first, second = [await played.chat(**CACHING) for _ in range(2)]

    assert (first.status, second.status) == (503, 200)


async def test_a_key_of_the_callers_own_stands_for_the_question() -> None:
    """Two questions, one key: one answer, for five minutes without any TTL; a step's 0 turns it off."""
    answers = Aliased()
    async with door(answers) as played:
        first = await played.chat(cf_aig_cache_key="k")
        second = await played.chat(model="slow", cf_aig_cache_key="k")
        off = await played.post("site", [step(headers={"cf-aig-cache-ttl": 0})], cf_aig_cache_key="k")

    assert [reply.headers.get("cf-aig-cache-status") for reply in (first, second, off)] == [
        "MISS",
        "HIT",
        None,
    ]


def test_a_reload_keeps_the_log_and_forgets_answers() -> None:
    """Other settings hold at once; a gateway that is gone is gone with all it had."""

    def generation(**gateways: FrontGateway) -> Generation:
        return Generation(Aliased(), Server(), lambda request, exchange: None, Fronts(gateways=gateways))

    gateways = Gateways(clock=lambda: 100.0)
    tight = RateLimit(calls=1, interval=60.0)
    first = gateways.find(generation(site=FrontGateway(rate_limit=tight), old=FrontGateway()), "site")
    kept = Kept(principal="a", content=b"x", media_type="text/plain", until_s=200.0)
    first.cache.put(b"n", kept)
    log = first.log
    assert (first.admits(), first.admits()) == (True, False)
    after = generation(site=FrontGateway(rate_limit=tight, cache_ttl=60.0))
    again = gateways.find(after, "site")

    assert again.log is log
    assert again.find(b"n") is None
    assert again.controls.ttl_s == 60.0
    assert not again.admits(), "a reload does not open a gateway that is full"
    with pytest.raises(NoGateway):
        gateways.find(after, "old")


async def test_answers_go_when_their_time_is_over_whether_somebody_asks_or_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One timer goes by all of them, as long as there are any."""
    monkeypatch.setattr(gateways_at_work, "SWEEP_S", 0.001)
    now_s = 100.0
    gateways = Gateways(clock=lambda: now_s)
    fronts = Fronts(gateways={"site": FrontGateway()})
    site = gateways.find(Generation(Aliased(), Server(), lambda request, exchange: None, fronts), "site")
    for number, until_s in enumerate((110.0, 120.0)):
        kept = Kept(principal="a", content=b"x", media_type="text/plain", until_s=until_s)
        gateways.keep(site, bytes([number]), kept)
    for now_s, left in ((105.0, 2), (110.0, 1), (120.0, 0)):  # noqa: B007 - the clock is read by the gateways
        async with asyncio.timeout(5):
            while len(site.cache) > left:  # noqa: ASYNC110 - the cache is pure and tells nobody
                await asyncio.sleep(0.001)
        assert len(site.cache) == left
