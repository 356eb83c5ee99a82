"""The network goes and comes back, and names fail: F24 and F25, between two machines of our own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import ACCOUNT, TOKEN, Emulator, Router, stopped_at_end
from two_machines import CLOUD_NAME, FAR, FAR_TOO, Door, TwoMachines
from wire_client import Answer, ask, chat_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

SAID = "count to 3"
WITHIN_S = 30.0
CLOUD, LOCAL, LOCAL_AFTER_CLOUD = ("cloudflare", "1"), ("local", "1"), ("local", "2")
ACCOUNT_AND_TOKEN = {"CLOUDFLARE_ACCOUNT_ID": ACCOUNT, "CLOUDFLARE_API_TOKEN": TOKEN}
CLOUDS = re.compile(
    r"\n  cloudflare:.*?(?=\naliases:)|\n  local-first:.*", re.DOTALL
)  # and the aliases that need them
Change = Callable[[TwoMachines], None]


def mood(wanted: Any) -> Change:
    """Let names be answered so."""

    def change(machines: TwoMachines) -> None:
        machines.names.mood = wanted

    return change


GONE: dict[str, tuple[Change, Change]] = {
    "cable pulled": (TwoMachines.pull, TwoMachines.plug),
    "unreachable": (lambda machines: machines.route("unreachable"), TwoMachines.unroute),
    "prohibited": (lambda machines: machines.route("prohibit"), TwoMachines.unroute),
    "black hole here": (lambda machines: machines.route("blackhole"), TwoMachines.unroute),
    "black hole there": (TwoMachines.swallow, TwoMachines.give_back),
    "name unknown": (mood("nxdomain"), mood("answers")),
    "name server failing": (mood("servfail"), mood("answers")),
    "name server silent": (mood("silent"), mood("answers")),
}


@contextmanager
def two_machines(folder: Path) -> Iterator[TwoMachines]:
    """Two machines, if this process may make some."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root here")
    try:
        made = TwoMachines(folder)
    except OSError as error:
        pytest.skip(f"network namespaces are not to be had here: {error}")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMachines]:
    """Two machines with a cloud on the far one."""
    with two_machines(tmp_path_factory.mktemp("machines")) as made:
        yield made


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[TwoMachines]:
    """Two machines between which nothing was said yet."""
    with two_machines(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def cloud(machines: TwoMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator on the far machine, at every address of it."""
    with machines.far.inside():
        started = Emulator(tmp_path_factory.mktemp("cloud"), "--host", "0.0.0.0")
    with stopped_at_end(started):
        yield started


@pytest.fixture(scope="module")
def door(machines: TwoMachines, cloud: Emulator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    """The cloud's address for the near machine."""
    opened = Door(machines.far, tmp_path_factory.mktemp("door"), urlsplit(cloud.base_url).port or 0)
    yield opened
    opened.close()


@pytest.fixture
def near(machines: TwoMachines, cloud: Emulator) -> Iterator[TwoMachines]:
    """The test is on the near machine; afterwards nothing is broken any more."""
    with machines.far.inside():
        cloud.calm()
    with machines.near.inside():
        yield machines
    machines.names.mood, machines.names.address = "answers", FAR


Start = Callable[..., Router]


@pytest.fixture
def start(near: TwoMachines, door: Door, manifest: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a router on the near machine, its cloud known by name."""
    environ = ACCOUNT_AND_TOKEN | {"SSL_CERT_FILE": str(door.certificate)}
    with ExitStack() as stack:

        def begin(*, patience_s: int = 3, **chosen: Any) -> Router:
            config = policy(manifest, f"https://{CLOUD_NAME}:{door.port}/client/v4", **chosen)
            started = Router(config, tmp_path, environ=environ, within=near.command(patience_s))
            stack.enter_context(stopped_at_end(started))
            return started

        yield begin


@contextmanager
def gone(machines: TwoMachines, how: str) -> Iterator[None]:
    """The network, or what finds the way in it, is gone for a while."""
    go, come = GONE[how]
    go(machines)
    try:
        yield
    finally:
        come(machines)


async def asked(router: Router, alias: str) -> Answer:
    """One plain call."""
    return await ask(router, chat_body(alias, SAID, max_tokens=4))


async def back(router: Router) -> list[Answer]:
    """Wait until the cloud is in the plans again; gives what was asked meanwhile, none of it an attempt."""
    answers: list[Answer] = []
    async with asyncio.timeout(WITHIN_S):
        while not answers or answers[-1].status != 200:
            answers.append(await asked(router, "cloud-only"))
            await asyncio.sleep(0.02)
    for answer in answers[:-1]:
        assert_left_out(answer)
    assert answers[-1].served_by == CLOUD
    return answers


def assert_left_out(answer: Answer) -> None:
    """No attempt was made, and the plan says why."""
    assert answer.error is not None
    assert (answer.status, answer.error["code"]) == (503, "no_backend_available")
    assert "cloudflare cannot be reached" in answer.error["message"]
    assert answer.headers.get("x-router-attempts", "0") == "0"


@pytest.mark.parametrize("how", GONE)
async def test_one_failed_attempt_is_enough(near: TwoMachines, start: Start, how: str) -> None:
    """The cloud is left out at once and its reason told, local calls go on; it comes back by itself."""
    router = start()
    before = await router.quiet()
    with gone(near, how):
        answers = [await asked(router, "cloud-first") for _ in range(3)]
        assert [answer.served_by for answer in answers] == [LOCAL_AFTER_CLOUD, LOCAL, LOCAL]
        answers.append(await asked(router, "cloud-only"))
        assert_left_out(answers[-1])
        answers.append(await asked(router, "local-only"))
        assert answers[-1].served_by == LOCAL
    answers += await back(router)

    attempts = await assert_invariants(router, before, answers)
    failed = [attempt for attempt in attempts if attempt["outcome"] != "answered"]
    assert [(attempt["backend"], attempt["outcome"]) for attempt in failed] == [("cloudflare", "failed")]


@pytest.mark.parametrize("how", ["cable pulled", "black hole there"])
async def test_a_network_that_goes_under_a_kept_connection(near: TwoMachines, start: Start, how: str) -> None:
    """Silence on it makes the router look, so that no other kept connection is waited for in vain."""
    router = start(first_token="500ms")
    before = await router.quiet()
    kept = await asyncio.gather(*(asked(router, "cloud-first") for _ in range(3)))
    assert [answer.served_by for answer in kept] == [CLOUD] * 3
    with gone(near, how):
        first = await asked(router, "cloud-first")
        assert first.served_by == LOCAL_AFTER_CLOUD
        answers = [*kept, first, await left_out(router)]
    answers += await back(router)

    await assert_invariants(router, before, answers)


async def left_out(router: Router) -> Answer:
    """Wait until the cloud is not in the plans any more, without a call to it; gives a call that says so."""

    async def planned() -> list[str]:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{router.url}/router/explain", json=chat_body("cloud-first", SAID)) as reply,
        ):
            assert reply.status == 200, await reply.text()
            return [step["step"] for step in (await reply.json())["steps"]]

    async with asyncio.timeout(WITHIN_S):
        while any(step.startswith("cloudflare/") for step in await planned()):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)
    answer = await asked(router, "cloud-only")
    assert_left_out(answer)
    return answer


async def test_a_silent_name_server_holds_up_nobody(near: TwoMachines, start: Start) -> None:
    """Calls that wait for a name, calls that need none, and the end of the process."""
    router = start(patience_s=30)
    near.names.mood = "silent"
    answers = await asyncio.gather(
        *(asked(router, "cloud-first") for _ in range(12)),
        *(asked(router, "local-only") for _ in range(4)),
    )
    assert {answer.served_by[0] for answer in answers} == {"local"}
    assert near.names.asked_count
    blocked = [line for line in router.log() if line["event"] == "event loop is blocked"]
    assert [line for line in blocked if "resolve" in str(line.get("where"))] == []

    router.send(signal.SIGTERM)
    assert router.wait() == 0


async def test_a_cloud_that_moves_is_found_at_its_new_address(near: TwoMachines, start: Start) -> None:
    """Neither a kept connection nor a remembered name holds calls where it was."""
    near.names.address = FAR_TOO
    router = start(first_token="500ms")
    before = await router.quiet()
    answers = [await asked(router, "cloud-first")]
    assert answers[0].served_by == CLOUD
    near.far.ip("address", "del", f"{FAR_TOO}/24", "dev", "far")
    near.names.address = FAR
    try:
        answers += [await asked(router, "cloud-first") for _ in range(2)]
        assert [answer.served_by for answer in answers[1:]] == [LOCAL_AFTER_CLOUD] * 2
        answers += await back(router)
    finally:
        near.far.ip("address", "add", f"{FAR_TOO}/24", "dev", "far")

    await assert_invariants(router, before, answers)


async def test_a_flapping_network_leaves_every_call_answered(near: TwoMachines, start: Start) -> None:
    """By the cloud or by the model, whole; once it stays, the cloud is back."""
    router = start(first_token="500ms")
    before = await router.quiet()
    answers: list[Answer] = []
    for _ in range(4):
        near.pull()
        answers += await asyncio.gather(*(asked(router, "cloud-first") for _ in range(2)))
        near.plug()
        answers += await asyncio.gather(*(asked(router, alias) for alias in ("cloud-first", "local-only")))
    assert [answer.status for answer in answers] == [200] * len(answers)
    assert {answer.served_by[0] for answer in answers} <= {"local", "cloudflare"}
    answers += await back(router)

    await assert_invariants(router, before, answers)


@pytest.mark.parametrize("clouds", [False, True], ids=["local backends alone", "clouds beside them"])
async def test_what_stays_at_home_makes_no_network_call(
    fresh: TwoMachines, manifest: Path, tmp_path: Path, clouds: bool
) -> None:
    """Not one packet: at the start, for calls, while idle, at the end."""
    config = policy(manifest, f"https://{CLOUD_NAME}/client/v4")
    if not clouds:
        config = CLOUDS.sub("", config)
    with fresh.near.inside():
        router = Router(config, tmp_path, environ=ACCOUNT_AND_TOKEN, within=fresh.command())
        with stopped_at_end(router):
            before = await router.quiet()
            answers = [await asked(router, "local-only") for _ in range(3)]
            assert [answer.served_by for answer in answers] == [LOCAL] * 3
            await assert_invariants(router, before, answers)
            router.send(signal.SIGTERM)
            assert router.wait() == 0

    assert (fresh.sent_count(), fresh.names.asked_count) == (0, 0)
