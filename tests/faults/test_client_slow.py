"""F29: a client that does not read, or too slowly, holds back its own call and nobody else's."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from invariants import assert_invariants
from router_policy import policy
from router_process import Emulator, Level, Router, soon, stopped_at_end
from wire_client import CHAT, COMPLETIONS, ask, chat_body, completion_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

NO_END = {"2": -100, "0": -100}  # the model may not end its answer
COUNTED = "1, 2, 3, 4, 5, 6, 7,"
MUCH = 90_000  # tokens: more than all buffers between here and the cloud hold
SOME = 2_000  # tokens: more than a narrow connection holds
# What the kernel gives such a connection is small: a tenth of a long answer fills it.
RECEIVE_BYTES, SEGMENT_BYTES = 2048, 536
FILLED_WITHIN_S = 45.0  # by the model, on a busy machine
SIPS, SIP_BYTES, SIP_S = 40, 100, 0.1  # 1 kB/s


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    """A cloud that is quicker than any client."""
    started = Emulator(tmp_path_factory.mktemp("quick"))
    with stopped_at_end(started):
        yield started


def started(manifest: Path, emulator: Emulator, folder: Path, stall: str) -> Router:
    """A service with one place for a call, which waits so long for a client."""
    config = policy(manifest, emulator.base_url, parallel=1, queue=0, server=f"  client_stall: {stall}")
    return Router(config, folder)


@pytest.fixture(scope="module")
def impatient(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """Half a second."""
    router = started(manifest, emulator, tmp_path_factory.mktemp("impatient"), "500ms")
    with stopped_at_end(router):
        yield router


@contextmanager
def narrow(router: Router, body: Any, path: str = CHAT) -> Iterator[socket.socket]:
    """A call on a connection that holds little, of which nothing is read unless the test does."""
    router.asked_count += 1
    content = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT_BYTES)
        client.connect(("127.0.0.1", router.port))
        client.sendall(head.encode() + content)
        client.setblocking(False)
        yield client


def unsent_bytes(client: socket.socket) -> int:
    """What the router's kernel holds for a client, as /proc/net/tcp has it."""
    host, port = client.getsockname()
    theirs = f"{bytes(map(int, reversed(host.split('.')))).hex().upper()}:{port:04X}"
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == theirs:
            return int(fields[4].partition(":")[0], 16)
    return 0


def much() -> dict[str, object]:
    """An answer that nobody can hold."""
    return chat_body("cloud-only", f"count to {MUCH}", stream=True, max_tokens=MUCH)


def long_local() -> dict[str, object]:
    """More than the buffers of a narrow connection hold."""
    return completion_body("local-only", COUNTED, stream=True, max_tokens=950, logit_bias=NO_END)


def is_cut(router: Router, before: Level) -> bool:
    """Whether the log says that a client did not read."""
    return any(line.get("error") == "client_stall" for line in router.log(before))


async def test_a_client_that_never_reads_is_cut(impatient: Router, emulator: Emulator) -> None:
    """After `client_stall` the cloud is let go of, long before it has said all, and the log says why."""
    emulator.calm()
    before = await impatient.quiet()
    with narrow(impatient, much()):
        neighbour = await ask(impatient, chat_body("cloud-only", "count to 300", stream=True))
        await soon(lambda: is_cut(impatient, before), "it is cut")
    calls = await asyncio.to_thread(emulator.calls)

    assert neighbour.text() == " ".join(str(number) for number in range(1, 301))
    assert sorted(call["outcome"] for call in calls) == ["answered", "client_left"]
    attempts = await assert_invariants(impatient, before, [neighbour], left_count=1)
    assert sorted(line["outcome"] for line in attempts) == ["answered", "cancelled"]


async def test_the_place_of_a_client_that_never_reads_is_free(impatient: Router) -> None:
    """The only slot of the model is taken by an answer that nobody reads; then the next call has it."""
    before = await impatient.quiet()
    with narrow(impatient, long_local(), COMPLETIONS):
        await soon(lambda: is_cut(impatient, before), "it is cut", FILLED_WITHIN_S)
        answer = await ask(impatient, completion_body("local-only", COUNTED, max_tokens=6), COMPLETIONS)

    assert answer.text().startswith(" 8, 9")
    attempts = await assert_invariants(impatient, before, [answer], left_count=1)
    assert [line["outcome"] for line in attempts] == ["cancelled", "answered"]


async def test_a_client_that_sips_is_cut(impatient: Router, emulator: Emulator) -> None:
    """1 kB/s is less than what a buffer's drain may take: sipping does not keep a backend busy for hours."""
    emulator.calm()
    before = await impatient.quiet()
    loop = asyncio.get_running_loop()
    with narrow(impatient, much()) as client:
        sips = 0
        while not is_cut(impatient, before):
            await loop.sock_recv(client, SIP_BYTES)
            await asyncio.sleep(SIP_S)
            sips += 1
            assert sips < SIPS * 5

    (attempt,) = await assert_invariants(impatient, before, [], left_count=1)
    assert attempt["outcome"] == "cancelled"


async def test_a_client_that_pauses_loses_nothing(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """It reads nothing until everything is full and held back, then all: not a byte is missing."""
    with stopped_at_end(router := started(manifest, emulator, tmp_path, "30s")):
        before = await router.quiet()
        received = b""
        loop = asyncio.get_running_loop()
        with narrow(router, chat_body("cloud-only", f"count to {SOME}", stream=True)) as client:
            held = 0
            while not held or held != unsent_bytes(client):
                held = unsent_bytes(client)
                await asyncio.sleep(0.2)
            assert not is_cut(router, before)
            while chunk := await loop.sock_recv(client, 65536):
                received += chunk

        said = re.findall(rb'"content":"( ?\d+)"', received)
        assert b"".join(said).decode() == " ".join(str(number) for number in range(1, SOME + 1))
        assert received.count(b"[DONE]") == 1
        (attempt,) = await assert_invariants(router, before, [], left_count=1)
        assert attempt["outcome"] == "answered"
