"""What private calls leave behind on this machine: nothing that they said, and nothing for others to see."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from private_calls import LABELS, OPERATIONS, PUBLIC, RULES, SERVER, keyed, say
from router_policy import policy
from router_process import Emulator, Router, soon, stopped_at_end
from wire_client import CHAT, Answer

pytestmark = [pytest.mark.model, pytest.mark.timeout(90)]

HOME_CANARY, SKY_CANARY, HEADER_CANARY = "homecanary4b7e", "skycanary4b7e", "headercanary4b7e"
STORE = {"router.sqlite3", "router.sqlite3-wal", "router.sqlite3-shm", "control.lock"}
PICTURE = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{HOME_CANARY}"}}


@contextmanager
def started(
    manifest: Path, emulator: Emulator, folder: Path, *, prompts: bool, **chosen: Any
) -> Iterator[Router]:
    """A service with labels, keys, and a store that keeps prompts or not."""
    treatment = "on_break: continue, retries: 0"
    text = policy(manifest, emulator.base_url, server=SERVER, treatment=treatment, **chosen)
    config = text.replace(
        "rules:", f"store: {{ prompts: {str(prompts).lower()} }}\nrules:{RULES.rstrip()}", 1
    )
    router = Router(config, folder)
    with stopped_at_end(router):
        yield router


UNENFORCED = {
    "type": "function",
    "function": {"name": HOME_CANARY, "strict": True, "parameters": {"type": "object", "not": {}}},
}


async def told_to_all(router: Router) -> dict[str, list[Answer]]:
    """Private calls of every label, each in another way, public ones, and such as fail; key → its answers."""
    answers: dict[str, list[Answer]] = {}
    notes = {"x-note": HEADER_CANARY}
    for number, label in enumerate(LABELS.values()):
        said = replace(label, said=f"{HOME_CANARY}, {label.said}")
        path, stream = label.paths[number % len(label.paths)], number % 4 < 2
        answer = await say(router, said, path=path, stream=stream, headers=notes, user=HOME_CANARY)
        answers.setdefault(label.key, []).append(answer)
    home = replace(LABELS["key"], said=HOME_CANARY)
    failing: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": [PICTURE]}]},
        {"tools": [UNENFORCED], "tool_choice": "required"},
        {"messages": [{"role": "user", "content": f"{HOME_CANARY} " * 2_000}]},
        {"temperature": HOME_CANARY},
    ]
    for fields in failing:
        answer = await say(router, home, **fields)
        assert answer.error is not None
        answers["ann"].append(answer)
    for path, stream in OPERATIONS:
        answers["bob"].append(
            await say(router, replace(PUBLIC, said=SKY_CANARY), path=path, stream=stream, headers=notes)
        )
    return answers


async def shown(router: Router, path: str, key: str) -> tuple[int, str]:
    """Status and body of what a key may see."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(router.url + path, headers=keyed(key)) as reply,
    ):
        return reply.status, await reply.text()


async def record(router: Router, decision: str, key: str) -> str:
    """A key's decision record, once it is written."""
    async with asyncio.timeout(10):
        while True:
            status, text = await shown(router, f"/router/decisions/{decision}", key)
            if status == 200:
                return text
            await asyncio.sleep(0.02)


def stored(router: Router) -> bytes:
    """Every byte of every file of the store, its journal among them."""
    files = [file for file in sorted((router.folder / "state").iterdir()) if file.is_file()]
    assert files
    return b"".join(file.read_bytes() for file in files)


def left_behind(folder: Path) -> set[str]:
    """The names of all files in a folder and below."""
    return {path.name for path in folder.rglob("*") if path.is_file()}


def found_in(text: str | bytes, *canaries: str) -> list[str]:
    """Which of them it holds."""
    content = text.encode() if isinstance(text, str) else text
    return [canary for canary in canaries if canary.encode() in content]


@pytest.mark.parametrize("prompts", [False, True], ids=["prompts off", "prompts on"])
async def test_nothing_private_is_kept_or_shown(
    manifest: Path, emulator: Emulator, tmp_path: Path, prompts: bool
) -> None:
    """Not in the store's bytes, the log, metrics or records; what public calls said is, if wanted."""
    emulator.fault()
    emulator.calm()
    every = (HOME_CANARY, SKY_CANARY, HEADER_CANARY)
    with started(manifest, emulator, tmp_path, prompts=prompts) as router:
        answers = await told_to_all(router)
        for key, given in answers.items():
            for answer in given:
                if (decision := answer.headers.get("x-router-decision")) is not None:
                    assert found_in(await record(router, decision, key), *every) == []
                if answer.error is not None:
                    assert found_in(str(answer.error), *every) == []
        for key in answers:
            assert found_in((await shown(router, "/metrics", key))[1], *every) == []
        wanted = [SKY_CANARY] if prompts else []
        # What is wanted is written within a moment, what is not never; the end looks at all of it once more.
        await soon(lambda: found_in(stored(router), *every) == wanted, "the store holds what is wanted")
        router.send(signal.SIGTERM)
        assert router.wait() == 0
        assert found_in(stored(router), *every) == wanted
        assert found_in(router.log_text + router.said, *every) == []
        assert left_behind(tmp_path) <= {"router.yaml", "stdout", "stderr", *STORE}

    heard = str(emulator.calls())
    assert found_in(heard, *every) == [SKY_CANARY]


async def test_a_record_is_its_owners_alone(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Another key is told what it would be told of a record that is not there."""
    with started(manifest, emulator, tmp_path, prompts=False) as router:
        home = await say(router, LABELS["key"])
        sky = await say(router, PUBLIC)
        failed = await say(router, LABELS["key"], tools=[{"type": "function", "function": {"name": "x"}}])
        owned = [(home, "ann", "bob"), (sky, "bob", "ann"), (failed, "ann", "petra")]
        for answer, owner, other in owned:
            decision = answer.headers["x-router-decision"]
            await record(router, decision, owner)
            unknown = "dec_" + "0" * 32
            assert await shown(router, f"/router/decisions/{decision}", other) == await shown(
                router, f"/router/decisions/{unknown}", other
            )
            status, _ = await shown(router, f"/router/decisions/{decision}", "nobody")
            assert status == 401


async def test_an_explanation_runs_nothing_and_says_nothing(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """It names the rule that keeps a call here and who is left out; no cloud hears of it, nothing is kept."""
    emulator.fault()
    emulator.calm()
    with started(manifest, emulator, tmp_path, prompts=True, preload=False) as router:
        for label in LABELS.values():
            body = {
                "model": label.alias,
                "messages": [{"role": "user", "content": f"{HOME_CANARY}, {label.said}"}],
            }
            headers = {**keyed(label.key), **label.headers}
            path = label.paths[0]
            if path != CHAT:
                body = {"model": label.alias, "prompt": f"{HOME_CANARY}, {label.said}"}
            async with (
                aiohttp.ClientSession() as http,
                http.post(f"{router.url}/router/explain", json=body, headers=headers) as reply,
            ):
                explained = await reply.json()
            assert explained["local_only"] is True
            assert [step["step"] for step in explained["steps"]] == ["local/smollm2"]
            assert "keeps the call on this machine" in explained["left_out"][0]["because"]
            assert found_in(str(explained), HOME_CANARY) == []
        assert emulator.calls() == []
        assert found_in(stored(router), HOME_CANARY) == []
        assert found_in(router.log_text, HOME_CANARY) == []
