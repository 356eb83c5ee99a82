"""A running service takes up a changed router.yaml: by command, by signal, by itself."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from reloading import command, config_of, folder_of, metric, reload, replace, rewrite, status
from router_policy import CLOUD_MODEL, policy
from router_process import WITHIN_S, Emulator, Router, alive, eventually, soon, stopped_at_end
from wire_client import ask, chat_body

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

StartRouter = Callable[..., Router]
ALIASES = "aliases:\n"
ANOTHER = f"aliases:\n  another: {{ try: cloudflare/{CLOUD_MODEL} }}\n"


def answer_of(said: str) -> dict[str, object]:
    """A call that the emulated cloud answers with what is said."""
    return chat_body("another", f"repeat: {said}")


@pytest.fixture(scope="module")
def standing(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """A service that has loaded no model."""
    text = policy(manifest, emulator.base_url, preload=False)
    folder = tmp_path_factory.mktemp("standing")
    (folder / "as-it-was").write_text(text)
    with stopped_at_end(router := Router(text, folder)):
        assert router.children() == []
        yield router


@pytest.fixture
async def light(standing: Router) -> AsyncIterator[Router]:
    """The same, put back to its first configuration after the test."""
    yield standing
    await asyncio.to_thread(put_back, standing)
    assert (await reload(standing))["ok"]


def put_back(router: Router) -> None:
    """Undo every `rewrite`."""
    replace(config_of(router), (folder_of(router) / "as-it-was").read_text())


async def test_a_new_alias_answers_after_the_command(light: Router) -> None:
    """`hybrid-router reload` returns when the new file serves, and says so."""
    assert (await ask(light, answer_of("x"))).status == 404
    rewrite(light, (ALIASES, ANOTHER))
    before = (await status(light))["generation"]
    done = await asyncio.to_thread(command, light)

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"reloaded: configuration {before + 1} serves, after ")
    assert (await ask(light, answer_of("there"))).text() == "there"


async def test_a_bad_file_changes_nothing(light: Router) -> None:
    """Exit 2 and every mistake with its line; the gauge says so until a good file is taken up."""
    before, good = await counts(light), config_of(light).read_text()
    wrong = ANOTHER.replace("cloudflare", "cloudfare")
    rewrite(light, (ALIASES, wrong), ("drain:", "drian:"))
    started = len(light.log_text)
    done = await asyncio.to_thread(command, light)

    assert done.returncode == 2
    path = config_of(light)
    lines = path.read_text().splitlines()
    alias, drain = lines.index(wrong.splitlines()[1]) + 1, lines.index("  drian: 10s") + 1
    assert f"{path}:{drain}:3: server.drian: " in done.stderr
    assert f"{path}:{alias}:" in done.stderr
    assert " serves on as before" in done.stderr
    assert (await ask(light, answer_of("x"))).status == 404
    assert await metric(light, "hybrid_router_reload_last_success") == 0

    def told() -> list[dict[str, Any]]:
        whole = light.log_text[started:].rpartition("\n")[0]
        lines = [json.loads(line) for line in whole.splitlines()]
        return [line for line in lines if line["event"] == "reload failed"]

    (failed,) = eventually(told, "its line in the log")
    assert failed["level"] == "error"
    assert "\n".join(failed["errors"]) in done.stderr

    replace(path, good)
    assert (await asyncio.to_thread(command, light)).returncode == 0
    assert await metric(light, "hybrid_router_reload_last_success") == 1
    assert await counts(light) == (before[0] + 1, before[1] + 1)


async def counts(router: Router) -> tuple[float, float]:
    """Reloads that failed, and that did not."""
    failed, ok = [
        await metric(router, "hybrid_router_reloads_total", result=result) for result in ("failed", "ok")
    ]
    assert failed is not None
    assert ok is not None
    return failed, ok


def test_nobody_runs_with_this_configuration(light: Router, tmp_path: Path) -> None:
    """Exit 1 where no router answers, or one that serves another file."""
    other = folder_of(light) / "other.yaml"
    other.write_text(config_of(light).read_text())
    shared = command(light, "--config", "other.yaml")
    assert shared.returncode == 1
    assert f"the one that shares its folder serves {config_of(light)}" in shared.stderr

    elsewhere = tmp_path / "elsewhere" / "router.yaml"
    elsewhere.parent.mkdir()
    elsewhere.write_text(other.read_text())
    alone = command(light, "--config", str(elsewhere))
    assert alone.returncode == 1
    assert "no router runs with this configuration: nobody answers on " in alone.stderr
    elsewhere.write_text("nonsense: 1\n")
    assert command(light, "--config", str(elsewhere)).returncode == 2


def test_two_routers_in_one_folder(light: Router, manifest: Path, emulator: Emulator) -> None:
    """The second serves without a control socket and says so; the first keeps its own."""
    folder = folder_of(light)
    (folder / "second").mkdir()
    text = policy(manifest, emulator.base_url, preload=False) + f"\nstore: {{ path: {folder}/state/b.db }}\n"
    second = Router(text, folder / "second")
    with stopped_at_end(second):
        (line,) = eventually(
            lambda: [line for line in second.log() if line["event"] == "no control socket"],
            "its line in the log",
        )
        assert "another router runs" in line["reason"]
    assert command(light).returncode == 0


async def test_a_killed_routers_socket_is_no_obstacle(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """SIGKILL leaves the socket behind; the next router takes the folder over."""
    text = policy(manifest, emulator.base_url, preload=False)
    first = Router(text, tmp_path)
    first.popen.kill()
    first.wait()
    assert (tmp_path / "state" / "control.sock").is_socket()
    second = Router(text, tmp_path)
    with stopped_at_end(second):
        assert (await status(second))["generation"] == 1


async def test_an_unchanged_model_stays_loaded(start_router: StartRouter) -> None:
    """Other waits, aliases and queue lengths: the same process goes on, and no model is loaded."""
    router = start_router()
    worker = router.worker()
    rewrite(router, (ALIASES, ANOTHER), ("queue: 64", "queue: 7"), ("total: 60s", "total: 50s"))
    told = await reload(router)

    assert told["ok"], told
    assert router.children() == [worker]
    await soon(lambda: '"reloaded"' in router.log_text, "the line of the reload, the last one")
    assert router.log_text.count('"model resident"') == 1
    assert (await ask(router, chat_body("local-only", "Hello", max_tokens=2))).status == 200


async def test_a_changed_model_is_loaded_before_the_old_one_goes(start_router: StartRouter) -> None:
    """Once the reload is told, the new process serves; the old one ends, and there are as many as before."""
    router = start_router()
    old = router.worker()
    rewrite(router, ("context: 1024", "context: 768"))
    told = await reload(router)

    assert told["ok"], told
    assert (await status(router))["workers"] == {"local/smollm2": "resident"}
    await soon(lambda: not alive(old), "the old worker is gone")
    (new,) = router.children()
    assert new != old
    assert (await ask(router, chat_body("local-only", "Hello", max_tokens=2))).status == 200


async def test_one_changed_model_leaves_the_other_loaded(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """Within a backend each model is looked at alone."""
    text = policy(manifest, emulator.base_url).replace(
        "      smollm2:\n", "      other: { weights: smol, context: 512, threads: 1 }\n      smollm2:\n"
    )
    with stopped_at_end(router := Router(text, tmp_path)):
        before = set(router.children())
        assert len(before) == 2
        rewrite(router, ("context: 512", "context: 256"))
        told = await reload(router)

        assert told["ok"], told
        await soon(lambda: len(router.children()) == 2, "the old worker is gone")
        assert len(before & set(router.children())) == 1


async def test_a_model_that_cannot_be_loaded_changes_nothing(
    start_router: StartRouter, tmp_path: Path
) -> None:
    """A file that is no model: exit 2, the old one answers, and no process is left over."""
    router = start_router()
    worker = router.worker()
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "broken.gguf").write_bytes(b"GGUF" + bytes(1000))
    digest = hashlib.sha256((folder / "broken.gguf").read_bytes()).hexdigest()
    (folder / "manifest.yaml").write_text(
        f"models:\n  smol:\n    file: broken.gguf\n    sha256: {digest}\n    size_bytes: 1004\n"
    )
    line = next(line for line in config_of(router).read_text().splitlines() if line.startswith("manifest:"))
    rewrite(router, (line, f"manifest: {folder}/manifest.yaml"))
    done = await asyncio.to_thread(command, router)

    assert done.returncode == 2
    assert "local/smollm2 could not be loaded beside what runs" in done.stderr
    assert (await ask(router, chat_body("local-only", "Hello", max_tokens=2))).status == 200
    await soon(lambda: router.children() == [worker], "the child that failed is gone")


async def test_a_missing_model_is_told(light: Router, tmp_path: Path) -> None:
    """As at the start, its steps are left out; the command says so."""
    line = next(line for line in config_of(light).read_text().splitlines() if line.startswith("manifest:"))
    (tmp_path / "none.yaml").write_text("models: {}\n")
    rewrite(light, (line, f"manifest: {tmp_path}/none.yaml"))
    done = await asyncio.to_thread(command, light)

    assert done.returncode == 0
    assert "local/smollm2 cannot be used: the manifest has no model 'smol'" in done.stdout
    assert "warning: router.yaml:" in done.stderr, "where it is written"
    assert (await ask(light, chat_body("local-only", "Hello"))).status == 503


async def test_what_needs_a_restart_is_named(light: Router) -> None:
    """The address stays, the rest of the file is applied."""
    url = light.url
    rewrite(light, ("listen: 127.0.0.1:0", "listen: 127.0.0.1:1"), (ALIASES, ANOTHER))
    done = await asyncio.to_thread(command, light)

    assert done.returncode == 0
    assert "  server.listen changed: takes effect after a restart\n" in done.stdout
    assert light.url == url
    assert (await ask(light, answer_of("here"))).text() == "here"


async def test_keys_and_limits_hold_at_once(start_router: StartRouter) -> None:
    """After the reload a call without a key is refused, and a body over the new limit."""
    light = start_router(preload=False)
    key = "hr-" + "k" * 40
    keys = f"keys: [{{ name: laptop, sha256: {hashlib.sha256(key.encode()).hexdigest()} }}]"
    rewrite(light, ("  drain: 10s\n", f"  drain: 10s\n  body_limit: 1KiB\n  {keys}\n"))
    assert (await reload(light))["ok"]

    assert (await ask(light, answer_of("x"))).status == 401
    with_key = {"Authorization": f"Bearer {key}"}
    large = chat_body("cloud-only", "x" * 2000)
    assert (await ask(light, large, headers=with_key)).status == 413


def test_an_open_door_keeps_its_lock(start_router: StartRouter) -> None:
    """Who listens wider than loopback cannot lose the keys before the restart that narrows it."""
    keys = f"  keys: [{{ name: laptop, sha256: {'0' * 64} }}]"
    router = start_router(listen="0.0.0.0:0", server=keys, preload=False)
    rewrite(router, (keys, ""), ("listen: 0.0.0.0:0", "listen: 127.0.0.1:0"))
    done = command(router)

    assert done.returncode == 2
    assert "the router goes on listening on 0.0.0.0:0 until it is restarted" in done.stderr


async def test_the_log_changes_its_level(light: Router) -> None:
    """`log` is applied too: rows of calls end, worse things are still written."""
    rewrite(light, (ALIASES, "log: { level: error }\n" + ANOTHER))
    assert (await reload(light))["ok"]
    rows = light.log_text.count('"event":"call"')
    assert (await ask(light, answer_of("quiet"))).text() == "quiet"
    rewrite(light, ("log: { level: error }", "log: { level: info }"))
    assert (await reload(light))["ok"]
    assert (await ask(light, answer_of("aloud"))).text() == "aloud"
    await soon(lambda: light.log_text.count('"event":"call"') > rows, "the second call's row")

    assert light.log_text.count('"event":"call"') == rows + 1


async def test_a_signal_reloads(light: Router) -> None:
    """SIGHUP does what the command does, and its outcome is in the log."""
    rewrite(light, (ALIASES, ANOTHER))
    number = (await status(light))["generation"] + 1
    light.send(signal.SIGHUP)

    def told() -> bool:
        """By its number: the line of a reload before may come late."""
        lines = [line for line in light.log_text.splitlines() if '"event":"reloaded"' in line]
        return any(f'"generation":{number},' in line for line in lines)

    await soon(told, "the line of the reload")

    assert (await ask(light, answer_of("heard"))).text() == "heard"
    assert alive(light.pid)


@pytest.mark.parametrize("way", ["replaced", "written", "linked"])
async def test_a_watched_file_is_taken_up(
    way: str, manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """However it changes: a new file in its place, other content, or another file behind a link."""
    text = "watch: true\n" + policy(manifest, emulator.base_url, preload=False)
    with stopped_at_end(router := Router(text, tmp_path)):
        path, changed = config_of(router), text.replace(ALIASES, ANOTHER)
        if way == "replaced":
            replace(path, changed)
        elif way == "written":
            path.write_text(changed)
        else:
            (tmp_path / "next.yaml").write_text(changed)
            (tmp_path / "link").symlink_to("next.yaml")
            (tmp_path / "link").replace(path)
        await soon(lambda: '"event":"reloaded"' in router.log_text, "it noticed")
        assert (await ask(router, answer_of("seen"))).text() == "seen"


async def test_watching_is_switched_off_by_the_file(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """`watch: false` is the last change that is noticed."""
    text = "watch: true\n" + policy(manifest, emulator.base_url, preload=False)
    with stopped_at_end(router := Router(text, tmp_path)):
        replace(config_of(router), text.replace("watch: true", "watch: false"))
        await soon(lambda: '"event":"reloaded"' in router.log_text, "it noticed")
        replace(config_of(router), text.replace("watch: true", "watch: false").replace(ALIASES, ANOTHER))
        asked = (await ask(router, answer_of("x"))).status
        assert asked == 404
        assert (await status(router))["generation"] == 2


def test_systemd_hears_of_a_reload(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """RELOADING=1 with the time at which it began, then READY=1, whether the file is good or bad."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WITHIN_S)

        def heard(wanted: str) -> str:
            while wanted not in (message := manager.recv(4096).decode()):
                pass
            return message

        environ = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        text = policy(manifest, emulator.base_url, preload=False)
        with stopped_at_end(router := Router(text, tmp_path / "router", environ=environ)):
            heard("READY=1")
            for content in (text, "nonsense"):
                replace(config_of(router), content)
                router.send(signal.SIGHUP)
                assert "MONOTONIC_USEC=" in heard("RELOADING=1")
                last = heard("READY=1")
            assert "the last reload failed" in last


def in_a_terminal(folder: Path, hangup: str = "SIG_DFL") -> tuple[subprocess.Popen[bytes], int]:
    """A service that a terminal of its own controls, once it is ready; and the terminal.

    `hangup`: what SIGHUP does to it at first, whatever it does to these tests.
    """
    terminal, inner = pty.openpty()
    code = (
        "import fcntl, os, signal, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0);"
        f"signal.signal(signal.SIGHUP, signal.{hangup});"
        "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
    )
    with (folder / "out").open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", code, "-m", "hybrid_router", "serve"],
            cwd=folder,
            stdin=inner,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    os.close(inner)
    eventually(lambda: "answers on" in (folder / "out").read_text(), "the ready line")
    return process, terminal


def test_a_closed_terminal_ends_it(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """SIGHUP with the terminal gone is no wish for a reload: it stops as if told to."""
    (tmp_path / "router.yaml").write_text(policy(manifest, emulator.base_url, preload=False))
    process, terminal = in_a_terminal(tmp_path)
    try:
        os.close(terminal)
        assert process.wait(WITHIN_S) == 0
    finally:
        process.kill()
    assert '"event":"reloaded"' not in (tmp_path / "out").read_text()


def test_nohup_keeps_it_when_its_terminal_goes(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Who said that a hangup is to be ignored has a router that goes on."""
    (tmp_path / "router.yaml").write_text(policy(manifest, emulator.base_url, preload=False))
    process, terminal = in_a_terminal(tmp_path, "SIG_IGN")
    try:
        os.close(terminal)
        eventually(lambda: '"event":"reloaded"' in (tmp_path / "out").read_text(), "it heard the signal")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_a_terminal_that_is_there_may_ask_for_a_reload(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """`kill -HUP` from another window reloads a router in this one."""
    (tmp_path / "router.yaml").write_text(policy(manifest, emulator.base_url, preload=False))
    process, terminal = in_a_terminal(tmp_path)
    try:
        process.send_signal(signal.SIGHUP)
        eventually(lambda: '"event":"reloaded"' in (tmp_path / "out").read_text(), "it reloaded")
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
        os.close(terminal)
