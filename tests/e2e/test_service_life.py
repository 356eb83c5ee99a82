"""The service's own life: what it says at its start, how it stops, what it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import re
import signal
import subprocess
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import openai
import pytest
from router_policy import policy
from router_process import Emulator, Router, accepts, alive, eventually, free_port, soon, stopped_at_end
from wire_client import COMPLETIONS, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[2]
COUNTED = "1, 2, 3, 4, 5, 6, 7,"
NO_END = {"2": -100, "0": -100}  # the model may not end its answer
StartRouter = Callable[..., Router]


def stream_of(token_count: int) -> dict[str, object]:
    """A stream of so many tokens."""
    return completion_body("local-only", COUNTED, stream=True, max_tokens=token_count, logit_bias=NO_END)


def start_shipped(folder: Path, environ: dict[str, str] | None = None, cloud_url: str = "") -> Router:
    """Serve the shipped router.yaml beside its models, on a free port, with another cloud if one is given."""
    text = (ROOT / "router.yaml").read_text()
    assert text.count("listen: 127.0.0.1:8080") == text.count("type: workers_ai\n") == 1
    text = text.replace("127.0.0.1:8080", "127.0.0.1:0")
    if cloud_url:
        text = text.replace("type: workers_ai\n", f"type: workers_ai\n    base_url: {cloud_url}\n")
    (folder / "models").symlink_to(ROOT / "models")
    return Router(text, folder, environ=environ)


def test_the_shipped_policy_works_as_it_is(tmp_path: Path) -> None:
    """Without an account the cloud is off, in one line that says what to do; the curl line answers."""
    router = start_shipped(tmp_path, {})
    with stopped_at_end(router):
        steps = r"^  default +local/smollm2, then cloudflare/@cf/\S+ \(off\)$"
        assert re.search(steps, router.said, re.MULTILINE)
        assert "backend cloudflare is off: no token and no account id: set CLOUDFLARE_" in router.said
        line = next(line for line in router.said.splitlines() if line.startswith("  curl "))
        curled = subprocess.run(["sh", "-c", line], capture_output=True, check=True, timeout=30)

        assert json.loads(curled.stdout)["choices"][0]["message"]["content"]


async def test_the_shipped_policy_keeps_its_rules(tmp_path: Path, emulator: Emulator) -> None:
    """With an account: what is private stays at home whatever the client prefers; what is long leaves."""
    emulator.calm()
    router = start_shipped(tmp_path, cloud_url=emulator.base_url)
    with stopped_at_end(router):
        async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key="x", max_retries=0) as client:

            async def backend_of(said: str, **headers: str) -> str | None:
                raw = await client.chat.completions.with_raw_response.create(
                    model="default",
                    messages=[{"role": "user", "content": said}],
                    max_tokens=3,
                    extra_headers={name.replace("_", "-"): value for name, value in headers.items()},
                )
                backend: str | None = raw.headers["x-router-backend"]
                return backend

            assert await backend_of("hello") == "local"
            assert await backend_of("hello", x_prefer="cloud") == "cloudflare"
            assert await backend_of("hello", x_prefer="cloud", x_private="true") == "local"
            assert await backend_of("my key: AKIA" + "Z" * 16, x_prefer="cloud") == "local"
            assert await backend_of("word " * 3500) == "cloudflare"
    (model,) = set(re.findall(r"cloudflare/(@cf/[^\s,]+)", router.said))
    assert [call["model"] for call in emulator.calls()] == [model] * 2


async def test_a_key_is_needed_where_keys_are_listed(start_router: StartRouter) -> None:
    """Without it 401, the same for any wrong one; with it an answer; /health needs none."""
    key = "hr-" + "k" * 40
    digest = hashlib.sha256(key.encode()).hexdigest()
    router = start_router(server=f"  keys: [{{ name: laptop, sha256: {digest} }}]", preload=False)

    async def asked_with(given: str) -> str:
        async with openai.AsyncOpenAI(base_url=router.url + "/v1", api_key=given, max_retries=0) as client:
            reply = await client.chat.completions.create(
                model="cloud-only", messages=[{"role": "user", "content": "repeat: in"}]
            )
            return reply.choices[0].message.content or ""

    for wrong in ("any", key[:-1], key + "k", key.upper()):
        with pytest.raises(openai.AuthenticationError):
            await asked_with(wrong)
    assert await asked_with(key) == "in"
    assert "YOUR-KEY" in router.said
    await soon(lambda: '"principal":"laptop"' in router.log_text, "the key's name in the log")
    assert key not in router.log_text
    refused = [line for line in router.log() if line["event"] == "refused"]
    assert [(line["level"], line["error"], line["client"]) for line in refused] == [
        ("warning", "invalid_api_key", "127.0.0.1")
    ] * 4


def test_whoever_listens_wider_is_told_where(start_router: StartRouter) -> None:
    """With names for others, this machine still has its own; the curl line works once it has the key."""
    key = "hr-" + "k" * 40
    digest = hashlib.sha256(key.encode()).hexdigest()
    keys = f"  keys: [{{ name: laptop, sha256: {digest} }}]\n"
    router = start_router(listen="0.0.0.0:0", server=keys + "  allowed_hosts: [router.home.arpa, 'fd00::1']")
    line = next(line for line in router.said.splitlines() if line.startswith("  curl "))
    curled = subprocess.run(
        ["sh", "-c", line.replace("YOUR-KEY", key)], capture_output=True, check=True, timeout=30
    )

    assert json.loads(curled.stdout)["choices"][0]["message"]["content"]
    assert router.url == f"http://127.0.0.1:{router.port}"
    others = f"http://router.home.arpa:{router.port}/v1, http://[fd00::1]:{router.port}/v1\n"
    assert f"for others, on {others}" in router.said
    ready = next(line for line in router.log() if line["event"] == "ready")
    assert ready["url"] == router.url


def test_whoever_listens_wider_without_names_is_told(start_router: StartRouter) -> None:
    """A router that would answer nobody else says which key would change that."""
    keys = f"  keys: [{{ name: laptop, sha256: {'0' * 64} }}]"
    router = start_router(listen="0.0.0.0:0", server=keys, preload=False)

    assert "on no other name: server.allowed_hosts lists none" in router.said


async def test_a_flood_of_refusals_leaves_few_lines(start_router: StartRouter) -> None:
    """Ten a second at most, of each error; the next line says how many more there were."""
    router = start_router(preload=False)

    def lines(error: str) -> list[dict[str, object]]:
        return [line for line in router.log() if line.get("error") == error and line["event"] == "refused"]

    def ask_nowhere() -> None:
        connection = HTTPConnection("127.0.0.1", router.port)
        with contextlib.closing(connection):
            connection.request("GET", "/nowhere")
            assert connection.getresponse().status == 404

    def told_of_more() -> bool:
        ask_nowhere()
        return any("held_back_count" in line for line in lines("not_found"))

    for _ in range(40):
        await asyncio.to_thread(ask_nowhere)
    with contextlib.closing(HTTPConnection("127.0.0.1", router.port)) as other:
        other.request("GET", "/health", headers={"Host": "router.lan"})
        assert other.getresponse().status == 421
    await soon(lambda: lines("host_not_allowed"), "another error is not lost in the flood")
    await soon(told_of_more, "how many were held back")

    assert lines("host_not_allowed")[0]["host"] == "router.lan"
    assert sum(1 for line in lines("not_found") if "held_back_count" not in line) < 40


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_well(start_router: StartRouter, number: signal.Signals) -> None:
    """Exit code 0, nothing on standard error but its log, no worker left, nobody on the port."""
    router = start_router()
    worker = router.worker()
    router.send(number)

    assert router.wait() == 0
    assert not alive(worker)
    assert all(json.loads(line)["level"] == "info" for line in router.log_text.splitlines())


def test_a_signal_to_the_whole_group_ends_it_well(start_router: StartRouter) -> None:
    """Ctrl-C reaches the worker too, which leaves the decision to the router."""
    router = start_router()
    worker = router.worker()
    subprocess.run(["kill", "-INT", str(worker)], check=True)
    router.send(signal.SIGINT)

    assert router.wait() == 0
    assert not alive(worker)
    assert "worker died" not in router.log_text


def test_a_signal_during_load_ends_it_well(start_router: StartRouter) -> None:
    """Stopped before it was ready: exit code 0 and no worker left."""
    router = start_router(wait=False)
    worker = eventually(router.children, "a worker that loads")[0]
    router.send(signal.SIGTERM)

    assert router.wait() == 0
    assert not alive(worker)


async def test_a_running_stream_may_finish(start_router: StartRouter) -> None:
    """After SIGTERM nobody new is let in; what runs ends whole, then the process exits with 0."""
    router = start_router()
    worker = router.worker()
    async with raw_call(router, stream_of(60), COMPLETIONS) as call:
        await call.pieces(2)
        router.send(signal.SIGTERM)
        await soon(lambda: not accepts(router.port), "the port is closed")
        assert alive(router.pid)
        answer = await call.rest()

    assert answer.done
    assert answer.usage is not None
    assert answer.usage["completion_tokens"] == 60
    assert await asyncio.to_thread(router.wait) == 0
    assert not alive(worker)


async def test_a_stream_that_goes_on_is_told(start_router: StartRouter) -> None:
    """When `drain` is over, the rest is cancelled in-band; the process still exits with 0."""
    router = start_router(drain="200ms")
    worker = router.worker()
    async with raw_call(router, stream_of(900), COMPLETIONS) as call:
        await call.pieces(2)
        router.send(signal.SIGTERM)
        answer = await call.rest()

    assert answer.error is not None
    assert answer.error["code"] == "backend_unavailable"
    assert not answer.done
    assert await asyncio.to_thread(router.wait) == 0
    assert not alive(worker)


async def test_a_second_signal_ends_at_once(start_router: StartRouter) -> None:
    """It does not wait for `drain`; the exit code says so, and no worker is left."""
    router = start_router(drain="60s")
    worker = router.worker()
    async with raw_call(router, stream_of(900), COMPLETIONS) as call:
        await call.pieces(2)
        router.send(signal.SIGINT)
        await soon(lambda: '"event":"stopping"' in router.log_text, "it has heard the first")
        router.send(signal.SIGINT)

        assert await asyncio.to_thread(router.wait) == 130
    assert not alive(worker)
    assert b"[DONE]" not in call.received


async def test_the_worker_dies_with_its_router(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """SIGKILL in the middle of a stream: no orphan; the same port serves again at once."""
    config = policy(manifest, emulator.base_url, listen=f"127.0.0.1:{free_port()}")
    router = Router(config, tmp_path / "first")
    with stopped_at_end(router):
        worker = router.worker()
        async with raw_call(router, stream_of(900), COMPLETIONS) as call:
            await call.pieces(2)
            router.popen.kill()
            await asyncio.to_thread(router.wait)
            await soon(lambda: not alive(worker), "the worker is gone")
    again = Router(config, tmp_path / "second")
    with stopped_at_end(again):
        answer = await ask(again, chat_body("local-only", "Hello", max_tokens=2))
        assert answer.status == 200


def test_a_taken_port_is_said(router: Router, manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Exit code 1 and a sentence that names the key, before any model is loaded."""
    config = policy(manifest, emulator.base_url, listen=f"127.0.0.1:{router.port}")
    second = Router(config + "\nlog: { level: debug }\n", tmp_path, wait=False)

    assert second.wait() == 1
    assert f"cannot listen on 127.0.0.1:{router.port}: Address already in use" in second.log_text
    assert "model loading" not in second.log_text
    assert "server.listen" in second.log_text
