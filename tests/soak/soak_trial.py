"""One soak trial: a service and a cloud as real processes, hurt as the schedule says, and then looked at."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
from invariants import assert_invariants
from router_policy import policy
from router_process import Emulator, Router, eventually, soon, stopped_at_end
from soak_schedule import CHAT, Ask, Hurt, Schedule
from wire_client import PROMPT_CANARY, Answer, RawCall, chat_body, completion_body

from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.emulator.script import expected

FIRST_TOKEN_S = 0.5
TOTAL_S = 15.0
GRACE_S = 1.0
DRAIN_S = 10.0
_WAITS = f"timeouts: {{ connect: 5s, load: 8s, first_token: 10s, between_tokens: 5s, total: {TOTAL_S:g}s }}"
_HEALTH_EVERY_S = 0.1
_PRIVATE = '  - { name: keep_private_calls_home, when: { header: { x-private: "true" } }, local_only: true }'
_EXTRA = "  extra: { try: local/smollm2 }\n"  # one more alias


@dataclass
class Told:
    """What became of one call.  Times are those of the monotonic clock."""

    ask: Ask
    marker: str
    began_s: float
    ended_s: float = 0.0
    answer: Answer | None = None
    left: bool = False


@dataclass
class Trial:
    """What happened, and what was measured: figure → values."""

    told: list[Told] = field(default_factory=list)
    killed_s: list[float] = field(default_factory=list)
    figures: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True)
class _Victims:
    """Who is hurt."""

    router: Router
    emulator: Emulator
    folder: Path
    text: str

    def reload(self, text: str) -> None:
        """Have the service take up another router.yaml."""
        (self.folder / "router.yaml").write_text(text)
        self.router.send(signal.SIGHUP)


def config(manifest: Path, emulator: Emulator) -> str:
    """The service's router.yaml: short waits, and a rule that keeps private calls here."""
    text = policy(
        manifest,
        emulator.base_url,
        first_token=f"{FIRST_TOKEN_S * 1000:g}ms",
        between_tokens=f"{FIRST_TOKEN_S * 1000:g}ms",
        drain=f"{DRAIN_S:g}s",
        treatment="on_break: continue",
    )
    lines = [_WAITS if line.startswith("timeouts:") else line for line in text.splitlines()]
    lines.insert(lines.index("rules:") + 1, _PRIVATE)
    return "\n".join(lines) + "\n"


async def run(schedule: Schedule, manifest: Path, emulator: Emulator, folder: Path) -> Trial:
    """Run a trial.

    Raises:
        AssertionError: something that must hold does not.
    """
    emulator.calm()
    for fault in schedule.faults:
        emulator._control("POST", "/emulator/faults", fault)
    text = config(manifest, emulator)
    router = Router(text, folder)
    victims, trial = _Victims(router, emulator, folder, text), Trial()
    with stopped_at_end(router):
        before = await router.quiet()
        rss_before = _rss_bytes(router.pid)
        async with _watched(router, trial), asyncio.TaskGroup() as group:
            for number, asks in enumerate(schedule.clients):
                group.create_task(_client(router, f"{schedule.seed}-{number}", asks, trial))
            for hurt in schedule.hurts:
                group.create_task(_hurt(hurt, victims, trial))
        if any(hurt.what.endswith("reload") for hurt in schedule.hurts):
            victims.reload(text)
        await _recovered(router, trial)
        answers = [told.answer for told in trial.told if told.answer is not None]
        left_count = sum(told.left for told in trial.told)
        attempts = await assert_invariants(router, before, answers, left_count=left_count)
        seen = await asyncio.to_thread(emulator.calls)
        _look(trial, attempts, seen)
        trial.figures["RSS growth, MiB"].append((_rss_bytes(router.pid) - rss_before) / 2**20)
        await asyncio.to_thread(_ended, router, trial)
    return trial


@asynccontextmanager
async def _watched(router: Router, trial: Trial) -> AsyncIterator[None]:
    """Ask /health all the while: whatever goes on, it answers."""

    async def watch() -> None:
        async with aiohttp.ClientSession() as http:
            while True:
                began_s = time.monotonic()
                async with http.get(f"{router.url}/health") as reply:
                    assert reply.status == 200
                trial.figures["/health, ms"].append((time.monotonic() - began_s) * 1000)
                await asyncio.sleep(_HEALTH_EVERY_S)

    watching = asyncio.create_task(watch())
    try:
        yield
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


async def _client(router: Router, name: str, asks: list[Ask], trial: Trial) -> None:
    """One client's calls, one after the other."""
    for number, ask in enumerate(asks):
        await asyncio.sleep(ask.pause_s)
        marker = f"{PROMPT_CANARY}-{name}-{number}"
        told = Told(ask, marker, time.monotonic())
        trial.told.append(told)
        async with _sent(router, ask, marker) as call:
            try:
                async with asyncio.timeout(ask.leave_s or TOTAL_S + GRACE_S):
                    told.answer = await call.rest()
            except TimeoutError:
                assert ask.leave_s is not None, (
                    f"I1: {ask} has not ended {TOTAL_S + GRACE_S:g} s after it began"
                )
                told.ended_s = time.monotonic()
                call.reset()
                told.left = True
        told.ended_s = told.ended_s or time.monotonic()


@asynccontextmanager
async def _sent(router: Router, ask: Ask, marker: str) -> AsyncIterator[RawCall]:
    """The call on a bare socket."""
    body = (chat_body if ask.path == CHAT else completion_body)(
        ask.alias, f"{marker}: count to {ask.count_to}", stream=ask.stream, max_tokens=ask.max_tokens
    )
    content = json.dumps(body).encode()
    private = "x-private: true\r\n" if ask.private else ""
    head = (
        f"POST {ask.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{private}"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
    router.asked_count += 1
    writer.write(head.encode() + content)
    try:
        yield RawCall(reader, writer, ask.path)
    finally:
        writer.transport.abort()


async def _hurt(hurt: Hurt, victims: _Victims, trial: Trial) -> None:
    """Do it, and take back what can be."""
    await asyncio.sleep(hurt.at_s)
    router = victims.router
    match hurt.what:
        case "kill_worker":
            for worker in router.children():
                trial.killed_s.append(time.monotonic())
                _signal(worker, signal.SIGKILL)
        case "stop_worker":
            await _stopped(router.children(), hurt.for_s)
        case "stop_cloud":
            await _stopped([victims.emulator.pid], hurt.for_s)
        case "reload":
            victims.reload(victims.text + _EXTRA)
        case "bad_reload":
            victims.reload("aliases: [")


async def _stopped(pids: list[int], for_s: float) -> None:
    """SIGSTOP, a while, SIGCONT."""
    for pid in pids:
        _signal(pid, signal.SIGSTOP)
    try:
        await asyncio.sleep(for_s)
    finally:
        for pid in pids:
            _signal(pid, signal.SIGCONT)


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


async def _recovered(router: Router, trial: Trial) -> None:
    """The local model answers again, whatever was done to it."""
    began_s = time.monotonic()
    ask = Ask(
        alias="local-only", path=CHAT, stream=False, private=True,
        count_to=3, max_tokens=4, pause_s=0.05, leave_s=None,
    )  # fmt: skip
    await soon(router.children, "a worker")
    for number in range(100):
        await _client(router, f"after-{number}", [ask], trial)
        answer = trial.told[-1].answer
        if answer is not None and answer.error is None:
            break
    else:
        raise AssertionError("the local model does not answer any more")
    if trial.killed_s:
        trial.figures["all over → local model answers, s"].append(time.monotonic() - began_s)


def _look(trial: Trial, attempts: list[dict[str, Any]], seen: list[dict[str, Any]]) -> None:
    """What can be said once everything is quiet."""
    _no_private_call_was_seen(trial, seen)
    _cloud_text_is_exact(trial, attempts)
    _measure_timers(trial, attempts)
    _measure_kills(trial)
    _measure_leaving(trial, seen)
    trial.figures["calls"].append(len(trial.told))
    trial.figures["attempts a call"].append(len(attempts) / len(trial.told))


def _no_private_call_was_seen(trial: Trial, seen: list[dict[str, Any]]) -> None:
    """I4, as far as the cloud can tell."""
    arrived = json.dumps(seen)
    private = [told.marker for told in trial.told if told.ask.private]
    leaked = [marker for marker in private if f"{marker}:" in arrived]
    trial.figures["private calls"].append(len(private))
    trial.figures["private calls seen by the cloud"].append(len(leaked))
    assert leaked == [], "I4: private calls reached the cloud"


def _cloud_text_is_exact(trial: Trial, attempts: list[dict[str, Any]]) -> None:
    """I2: what clouds alone have said is the script's answer, or its beginning where it broke off."""
    by_decision = defaultdict(list)
    for line in attempts:
        by_decision[line["decision"]].append(line)
    for told in trial.told:
        answer = told.answer
        lines = by_decision.get(answer.headers.get("x-router-decision", "")) if answer else None
        if answer is None or not lines:
            continue
        if any(line["backend"] == "local" and "ttft_s" in line for line in lines):
            continue
        wanted = _scripted(told)
        if answer.error is None:
            assert answer.text() == wanted, f"I2: {told.ask}: {answer.text()!r}"
        assert wanted.startswith(answer.text()), f"I2: {told.ask}: {answer.text()!r}"


def _scripted(told: Told) -> str:
    """The whole answer of the cloud's script."""
    said = f"{told.marker}: count to {told.ask.count_to}"
    chats = told.ask.path == CHAT
    call = Call(
        id="soak",
        operation=Operation.CHAT if chats else Operation.COMPLETE,
        alias=told.ask.alias,
        messages=(Message(role="user", content=said),) if chats else (),
        prompts=() if chats else (said,),
        sampling=Sampling(max_tokens=told.ask.max_tokens),
    )
    return expected(call).text


def _measure_timers(trial: Trial, attempts: list[dict[str, Any]]) -> None:
    """How much later than its wait a silent cloud is given up."""
    for line in attempts:
        silent = line["outcome"] == "failed" and line.get("error") == "backend_timeout"
        bounded = line["alias"] in {"cloud-first", "native-first"} and line["backend"] != "local"
        late_s = line.get("duration_s", 0.0) - FIRST_TOKEN_S
        if silent and bounded and "ttft_s" not in line and late_s >= 0:
            trial.figures["silent cloud → given up, ms over first_token"].append(late_s * 1000)


def _measure_kills(trial: Trial) -> None:
    """From SIGKILL of a worker to the error of a call that had nobody else to go to."""
    for told in trial.told:
        answer = told.answer
        if answer is None or answer.error is None or told.ask.alias != "local-only":
            continue
        killed = [at_s for at_s in trial.killed_s if told.began_s < at_s <= told.ended_s]
        if killed:
            trial.figures["worker SIGKILL → client told, ms"].append((told.ended_s - killed[-1]) * 1000)


def _measure_leaving(trial: Trial, seen: list[dict[str, Any]]) -> None:
    """From a client's RST to the moment at which the cloud's call was let go.  One clock: the machine's."""
    for told in trial.told:
        if not told.left:
            continue
        for call in seen:
            if call["outcome"] == "client_left" and f"{told.marker}:" in json.dumps(call["body"]):
                late_s = call["closed_s"] - told.ended_s
                if abs(late_s) < TOTAL_S and call["opened_s"] < told.ended_s:
                    trial.figures["client RST → cloud let go, ms"].append(max(0.0, late_s) * 1000)


def _ended(router: Router, trial: Trial) -> None:
    """SIGTERM ends it well, and nobody is left."""
    children = router.children()
    began_s = time.monotonic()
    router.send(signal.SIGTERM)
    assert router.wait() == 0, "I7: it did not end with 0"
    trial.figures["SIGTERM → exit, s"].append(time.monotonic() - began_s)
    eventually(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), "no orphan")


def _rss_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
