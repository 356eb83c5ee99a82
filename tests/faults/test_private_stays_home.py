"""What is private stays home: I4, by the packets that the kernel counts between two machines of our own.

A router that was only ever asked private calls sends no packet of any kind.  Where public calls have gone
before, what leaves is looked at frame by frame.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from cable import FIN, NOBODY, SYN, Frame, Tap, hung_up, introduce
from invariants import assert_end_is_true
from private_calls import LABELS, OPERATIONS, PUBLIC, RULES, SERVER, Label, keyed, say
from private_day import HOME_CANARY, SKY_CANARY, Day, killed
from router_policy import policy
from router_process import ACCOUNT, TOKEN, Emulator, Router, cpu_s, soon, stopped_at_end
from two_machines import CLOUD_NAME, FAR, Door, TwoMachines
from wire_client import CHAT, COMPLETIONS, Answer, chat_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

TREATMENT = "on_break: continue, on_divergence: splice, hedge: true, retries: 2, retry_wait: 200ms"
HOME = LABELS["header"]
NO_END = {"2": -100, "0": -100}  # the model may not end its answer
LONG: dict[str, Any] = {"max_tokens": 400, "logit_bias": NO_END}
HABIT_COUNT = 14  # calls before it is known how late a first token may be
QUESTIONS = {  # for one name, its addresses of both kinds; RFC 1035, section 4.1
    b"".join(bytes([len(part)]) + part.encode() for part in CLOUD_NAME.split(".")) + b"\0" + kind + b"\0\1"
    for kind in (b"\0\1", b"\0\x1c")
}
KEPT = "keeps the call on this machine"
ABLE = "aliases:\n  able-first: { try: [cloudflare/@cf/meta/llama-4-scout-17b-16e-instruct, local/smollm2] }"


@pytest.fixture(scope="module")
def machines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMachines]:
    """Two machines that know each other's address, if this process may make some."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root here")
    try:
        made = TwoMachines(tmp_path_factory.mktemp("machines"))
    except OSError as error:
        pytest.skip(f"network namespaces are not to be had here: {error}")
    introduce(made)
    yield made
    made.close()


@pytest.fixture(scope="module")
def cloud(machines: TwoMachines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """The emulator on the far machine."""
    with machines.far.inside():
        started = Emulator(tmp_path_factory.mktemp("cloud"))
    with stopped_at_end(started):
        yield started


Start = Callable[..., Router]


@pytest.fixture(scope="module")
def begin(
    machines: TwoMachines, cloud: Emulator, manifest: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Start]:
    """Starts a router on the near machine, its cloud known by name."""
    door = Door(machines.far, tmp_path_factory.mktemp("door"), urlsplit(cloud.base_url).port or 0)
    environ = {
        "CLOUDFLARE_ACCOUNT_ID": ACCOUNT,
        "CLOUDFLARE_API_TOKEN": TOKEN,
        "SSL_CERT_FILE": str(door.certificate),
    }

    def start(**chosen: Any) -> Router:
        options = {"treatment": TREATMENT, "server": SERVER, **chosen}
        text = policy(manifest, f"https://{CLOUD_NAME}:{door.port}/client/v4", **options)
        config = text.replace("rules:", f"rules:{RULES.rstrip()}", 1).replace("aliases:", ABLE, 1)
        with machines.near.inside():
            return Router(
                config, tmp_path_factory.mktemp("router"), environ=environ, within=machines.command()
            )

    yield start
    door.close()


@pytest.fixture
def start(near: TwoMachines, begin: Start) -> Iterator[Start]:
    """As `begin`; what it starts ends with the test."""
    with ExitStack() as stack:

        def one(**chosen: Any) -> Router:
            router = begin(**chosen)
            stack.enter_context(stopped_at_end(router))
            return router

        yield one


@pytest.fixture(scope="module")
def home(begin: Start) -> Iterator[Router]:
    """A router that is asked private calls alone."""
    router = begin()
    with stopped_at_end(router):
        yield router


@pytest.fixture
async def near(machines: TwoMachines, cloud: Emulator) -> Any:
    """The test is on the near machine; nothing goes wrong, and nothing goes through the cable, yet."""
    with machines.far.inside():
        cloud.calm()
    await hung_up(machines)
    with machines.near.inside():
        yield machines


def seen(machines: TwoMachines, cloud: Emulator) -> list[dict[str, Any]]:
    """The calls that reached the cloud since the test began."""
    with machines.far.inside():
        return cloud.calls()


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that is there and does nothing."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


async def each(router: Router, label: Label, **fields: Any) -> list[Answer]:
    """One call of each operation, streamed and plain."""
    ways = [(path, stream) for path, stream in OPERATIONS if path in label.paths]
    return await asyncio.gather(
        *(say(router, label, path=path, stream=stream, **fields) for path, stream in ways)
    )


@pytest.mark.parametrize("name", LABELS)
async def test_a_labelled_call_causes_no_packet(
    near: TwoMachines, cloud: Emulator, home: Router, name: str
) -> None:
    """By any label and operation: the model at home answers, or it is said why nobody may."""
    label = LABELS[name]
    before_count = near.sent_count()

    answers = await each(home, label)
    assert [answer.served_by[0] for answer in answers] == ["local"] * len(answers)
    if label.alias == PUBLIC.alias:
        for answer in await each(home, replace(label, alias="cloud-only")):
            assert answer.error is not None
            assert (answer.status, answer.error["code"]) == (503, "no_backend_available")
            assert KEPT in answer.error["message"]

    assert near.sent_count() == before_count
    assert seen(near, cloud) == []


async def test_without_the_label_the_same_call_causes_packets(
    near: TwoMachines, cloud: Emulator, start: Start
) -> None:
    """So what counts nothing for private calls can count: each public one is seen to leave."""
    router = start()
    public = [(PUBLIC, path, stream) for path, stream in OPERATIONS]
    public += [(LABELS["completion path"], CHAT, stream) for stream in (False, True)]
    public += [(LABELS["chat path"], COMPLETIONS, stream) for stream in (False, True)]
    for label, path, stream in public:
        before_count = near.sent_count()
        answer = await say(router, label, path=path, stream=stream)
        assert answer.served_by == ("cloudflare", "1")
        assert near.sent_count() > before_count

    assert len(seen(near, cloud)) == len(public)


PICTURE = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]
UNABLE: dict[str, dict[str, Any]] = {
    "images": {"messages": [{"role": "user", "content": PICTURE}]},
}


@pytest.mark.parametrize("lacking", UNABLE)
async def test_what_only_a_cloud_could_do_is_not_done(near: TwoMachines, home: Router, lacking: str) -> None:
    """A private call that the model at home cannot serve is refused, saying so, with no packet."""
    before_count = near.sent_count()

    for stream in (False, True):
        answer = await say(home, replace(HOME, alias="able-first"), stream=stream, **UNABLE[lacking])
        assert answer.error is not None
        assert (answer.status, answer.error["code"]) == (503, "no_backend_available")
        assert KEPT in answer.error["message"]
        assert f"it cannot do {lacking}" in answer.error["message"]
        answer = await say(home, replace(HOME, alias="local-only"), stream=stream, **UNABLE[lacking])
        assert answer.error is not None
        assert (answer.status, answer.error["code"]) == (400, "unsupported_parameter")

    assert near.sent_count() == before_count


async def test_a_killed_worker_drives_nothing_out(near: TwoMachines, cloud: Emulator, start: Start) -> None:
    """Killed while idle, in the prompt, and at every load: home, or a reason, with no packet."""
    before_count = near.sent_count()
    router = start(prefill_chunk=16)
    killed(router)
    answers = await each(router, HOME)
    answers += await killed_in_the_prompt(router)
    answers += await killed_at_every_load(router)

    for answer in answers:
        assert_end_is_true(answer)
        assert answer.error is not None or answer.served_by[0] == "local"
    assert near.sent_count() == before_count
    assert seen(near, cloud) == []


async def test_a_broken_answer_goes_on_at_home(near: TwoMachines, cloud: Emulator, start: Start) -> None:
    """By the worker that is started again, or not at all; a public one is seen to go on in the cloud."""
    before_count = near.sent_count()
    router = start()
    answer = await killed_in_the_answer(router, HOME.headers)
    assert_end_is_true(answer)
    assert answer.served_by[0] == "local"
    assert near.sent_count() == before_count

    public = await killed_in_the_answer(router, {})
    assert_end_is_true(public)
    assert near.sent_count() > before_count
    assert len(seen(near, cloud)) == 1


async def killed_in_the_prompt(router: Router) -> list[Answer]:
    """Calls whose prompt is being computed when the worker is killed."""
    worker = (await soon(router.children, "a worker"))[0]
    since_s = cpu_s(worker)
    label = replace(HOME, said="and so on, " * 200)
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(say(router, label, stream=stream)) for stream in (False, True)]
        await soon(lambda: router.children() != [worker] or cpu_s(worker) > since_s + 0.1, "it computes")
        killed(router)
    return [one.result() for one in asked]


async def killed_in_the_answer(router: Router, headers: Mapping[str, str]) -> Answer:
    """A stream whose worker is killed after some pieces."""
    body = chat_body("local-first", "Count to a hundred.", stream=True, max_tokens=40, logit_bias=NO_END)
    async with raw_call(router, body, headers={**keyed("bob"), **headers}) as call:
        await call.pieces(3)
        killed(router)
        return await call.rest()


async def killed_at_every_load(router: Router) -> list[Answer]:
    """Calls during which no worker lives to serve."""
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(say(router, HOME, stream=stream)) for stream in (False, True)]
        while not all(one.done() for one in asked):
            killed(router)
            await asyncio.sleep(0.01)
    answers = [one.result() for one in asked]
    assert [answer.status for answer in answers] == [503, 503]
    return answers


async def test_no_hedge_or_retry_leaves_either(near: TwoMachines, cloud: Emulator, start: Start) -> None:
    """A model that has stopped costs a private call its time; the public one beside it is hedged."""
    before_count = near.sent_count()
    router = start()
    label = replace(HOME, alias="local-first")
    for _ in range(HABIT_COUNT):
        answer = await say(router, label, max_tokens=1)
        assert answer.status == 200
    with stopped(router.worker()):
        answers = await each(router, label, headers={"x-router-timeout": "2"})
        # Out of time, or, on a slow machine, known beforehand to be too late.
        assert {answer.status for answer in answers} <= {503, 504}
        assert near.sent_count() == before_count

        public = await say(router, replace(PUBLIC, alias="local-first"), headers={"x-router-timeout": "10"})
    assert public.served_by == ("cloudflare", "2")
    assert near.sent_count() > before_count
    attempts = await soon(lambda: attempts_of(router, public), "the call's attempts in the log")
    told = [(line["backend"], line["outcome"], line.get("hedge")) for line in attempts]
    assert sorted(told) == [("cloudflare", "answered", True), ("local", "cancelled", None)]


def attempts_of(router: Router, answer: Answer) -> list[dict[str, Any]]:
    """What is in the log of a call that has ended; nothing before."""
    decision = answer.headers["x-router-decision"]
    lines = [line for line in router.log() if line.get("decision") == decision]
    is_over = any(line["event"] == "call" for line in lines)
    return [line for line in lines if line["event"] == "attempt"] if is_over else []


async def test_a_full_queue_spills_nothing(near: TwoMachines, cloud: Emulator, start: Start) -> None:
    """With every place taken a private call is told so; a public one goes to the cloud."""
    before_count = near.sent_count()
    router = start(parallel=1, queue=0)
    body = chat_body("local-first", "Count to a hundred.", stream=True, **LONG)
    async with raw_call(router, body, headers={**keyed("bob"), **HOME.headers}) as call:
        await call.pieces(2)
        for answer in await each(router, replace(HOME, alias="local-first")):
            assert answer.error is not None
            assert (answer.status, answer.error["code"]) == (429, "rate_limit_exceeded")
            assert "has 1 calls already" in answer.error["message"]
        assert near.sent_count() == before_count

        public = await say(router, replace(PUBLIC, alias="local-first"))
        assert public.served_by[0] == "cloudflare"
        assert near.sent_count() > before_count
        call.reset()


async def test_looking_for_a_lost_cloud_says_nothing(near: TwoMachines, start: Start) -> None:
    """While a connection is tried, and when one stands: a name is asked for, and nothing else is said."""
    router = start(first_token="500ms")
    tap, frames = Tap(near), list[Frame]()

    async def tried(flag: int, count: int) -> None:
        async with asyncio.timeout(20):
            while sum(bool(frame.flags & flag) for frame in frames) < count:
                answer = await say(router, HOME)
                assert answer.served_by[0] == "local"
                frames.extend(tap.frames())

    near.names.address = NOBODY
    try:
        lost = await say(router, PUBLIC)
        assert lost.served_by[0] == "local"
        await tried(SYN, 3)
        near.names.address = FAR
        await tried(FIN, 1)
    finally:
        near.names.address = FAR
        tap.close()

    assert {frame.kind for frame in frames} == {"tcp", "udp"}
    assert [frame for frame in frames if frame.kind == "tcp" and frame.payload] == []
    assert {frame.payload[12:] for frame in frames if frame.kind == "udp"} <= QUESTIONS


@pytest.mark.parametrize("seed", [1])
async def test_a_mixed_day_keeps_every_private_call_home(
    near: TwoMachines, cloud: Emulator, start: Start, seed: int
) -> None:
    """Whatever goes wrong beside it: the cloud has heard of public calls alone, and of nothing private."""
    router = start(first_token="500ms", between_tokens="500ms")
    day = Day(seed, router, near, cloud)
    for _ in range(3):
        await day.mixed()
        await day.quiet()

    told = json.dumps(seen(near, cloud))
    assert SKY_CANARY in told
    assert HOME_CANARY not in told
    await soon(lambda: router.log_text.count('"event":"call"') == router.asked_count, "a line for each call")
    attempts = [line for answer in day.private for line in attempts_of(router, answer)]
    assert {line["backend"] for line in attempts} == {"local"}
    for answer in day.private + day.public:
        assert_end_is_true(answer)
    assert HOME_CANARY not in router.log_text
