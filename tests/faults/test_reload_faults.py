"""F45: whatever becomes of router.yaml, no call is lost and nothing is left behind."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from invariants import assert_invariants
from reloading import config_of, reload, replace, rewrite, status
from router_policy import CLOUD_MODEL
from router_process import Emulator, Router, alive, soon, stopped_at_end
from wire_client import COMPLETIONS, Answer, ask, chat_body, completion_body, raw_call

pytestmark = [pytest.mark.model, pytest.mark.timeout(120)]

NO_END = {"2": -100, "0": -100}  # the model may not end its answer
COUNTED = 60
CLOUD_TEXT = " ".join(str(number) for number in range(1, COUNTED + 1))
RELOADS = 100
CALLERS = 4


def small(
    manifest: Path,
    cloud_url: str,
    *,
    local: bool = True,
    cloud: bool = True,
    drain: str = "20s",
    more: str = "",
) -> str:
    """A router.yaml with a local model or a cloud, or both; the alias `it` is the last of them."""
    steps = [*(["local/m"] if local else []), *([f"cloudflare/{CLOUD_MODEL}"] if cloud else [])]
    kept = "  local: { type: local, models: { m: { weights: smol, context: 1024, threads: 1 } } }\n"
    away = (
        f"  cloudflare:\n    type: workers_ai\n    base_url: {cloud_url}\n"
        "    account_id: { env: CLOUDFLARE_ACCOUNT_ID }\n    token: { env: CLOUDFLARE_API_TOKEN }\n"
        "    default_max_tokens: 2048\n"
    )
    return (
        f"server: {{ listen: 127.0.0.1:0, drain: {drain} }}\nmanifest: {manifest}\n{more}"
        f"backends:\n{kept if local else ''}{away if cloud else ''}"
        f"aliases:\n  it: {{ try: '{steps[-1]}', on_break: error }}\n  first: {{ try: '{steps[0]}' }}\n"
    )


def counted(alias: str = "it", **fields: Any) -> dict[str, Any]:
    """A stream of so many numbers from the emulated cloud."""
    return chat_body(alias, f"count to {COUNTED}", stream=True, **fields)


def endless(tokens: int) -> dict[str, Any]:
    """A stream of so many tokens from the local model."""
    return completion_body("it", "1, 2, 3,", stream=True, max_tokens=tokens, logit_bias=NO_END)


@pytest.fixture(scope="module")
def standing(
    manifest: Path, emulator: Emulator, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Router]:
    """A service before a cloud alone."""
    text = small(manifest, emulator.base_url, local=False)
    with stopped_at_end(router := Router(text, tmp_path_factory.mktemp("standing"))):
        yield router


def half(path: Path) -> None:
    path.write_text(path.read_text()[: path.stat().st_size // 2])


def unknown_key(path: Path) -> None:
    path.write_text(path.read_text().replace("default_max_tokens", "default_max_token"))


def folder_in_its_place(path: Path) -> None:
    path.unlink()
    path.mkdir()


def dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere.yaml")


SPOIL: dict[str, Callable[[Path], object]] = {
    "bad YAML": lambda path: path.write_text(path.read_text() + "\n  - [\n"),
    "unknown key": unknown_key,
    "half-written": half,
    "empty": lambda path: path.write_text(""),
    "not text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "too large": lambda path: path.write_text("#" * (2**20 + 1)),
    "gone": Path.unlink,
    "a link to nothing": dangling,
    "a folder": folder_in_its_place,
    "open to everyone": lambda path: path.chmod(0o666),
}


@pytest.fixture
async def spoiled(standing: Router) -> AsyncIterator[Path]:
    """The path of a router.yaml that is put back at the end."""
    path = config_of(standing)
    text = path.read_text()
    yield path
    if path.is_dir() and not path.is_symlink():
        path.rmdir()
    replace(path, text)
    assert (await reload(standing))["ok"]


@pytest.mark.parametrize("way", SPOIL)
async def test_a_bad_file_changes_nothing(way: str, standing: Router, spoiled: Path) -> None:
    """The reload fails by name; a stream that runs meanwhile ends whole, and the next call is served."""
    before = await standing.quiet(children=0)
    generation = (await status(standing))["generation"]
    async with raw_call(standing, counted()) as call:
        await call.pieces(2)
        SPOIL[way](spoiled)
        told = await reload(standing)
        assert not told["ok"]
        assert told["generation"] == generation
        assert told["errors"]
        assert all(error.startswith(f"{spoiled}:") for error in told["errors"]), told["errors"]
        answer = await call.rest()
    assert (answer.done, answer.text()) == (True, CLOUD_TEXT)
    again = await ask(standing, chat_body("it", "repeat: as before"))
    assert again.text() == "as before"
    await assert_invariants(standing, before, [answer, again])


async def test_a_removed_cloud_drains(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Its streams end whole under the old configuration; then its connections are closed."""
    with stopped_at_end(router := Router(small(manifest, emulator.base_url), tmp_path)):
        before = await router.quiet()
        async with raw_call(router, counted()) as one, raw_call(router, counted()) as other:
            await one.pieces(2)
            await other.pieces(2)
            replace(config_of(router), small(manifest, emulator.base_url, cloud=False))
            assert (await reload(router))["ok"]
            assert (await status(router))["retiring_count"] == 2
            new = await ask(router, chat_body("it", "Hello", max_tokens=2))
            assert new.served_by == ("local", "1")
            answers = [await one.rest(), await other.rest()]
        assert [(answer.done, answer.text()) for answer in answers] == [(True, CLOUD_TEXT)] * 2
        await soon(lambda: router.pooled() == 0, "the cloud's connections are closed")
        assert (await status(router))["retiring_count"] == 0
        await assert_invariants(router, before, [*answers, new])


async def test_a_removed_model_drains(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Its stream ends whole on the old process, which then ends too."""
    text = small(manifest, emulator.base_url, cloud=False)
    with stopped_at_end(router := Router(text, tmp_path)):
        worker = router.worker()
        async with raw_call(router, endless(80), COMPLETIONS) as call:
            await call.pieces(2)
            replace(config_of(router), small(manifest, emulator.base_url, local=False))
            assert (await reload(router))["ok"]
            assert alive(worker)
            answer = await call.rest()
        assert answer.done
        assert answer.usage is not None
        assert answer.usage["completion_tokens"] == 80
        await soon(lambda: not router.children(), "the worker is gone")


async def test_a_retired_call_is_cut_off_in_the_end(
    manifest: Path, emulator: Emulator, tmp_path: Path
) -> None:
    """Longer than `drain` nobody keeps a removed model: the stream ends in-band, at once, and by name."""
    text = small(manifest, emulator.base_url, cloud=False, drain="300ms")
    with stopped_at_end(router := Router(text, tmp_path)):
        async with raw_call(router, endless(900), COMPLETIONS) as call:
            await call.pieces(2)
            replace(config_of(router), small(manifest, emulator.base_url, local=False, drain="300ms"))
            assert (await reload(router))["ok"]
            answer = await call.rest()
        assert answer.error is not None
        assert not answer.done
        await soon(lambda: not router.children(), "the worker is gone")
        (line,) = await soon(
            lambda: [line for line in router.log() if line["event"] == "retired calls are cut off"],
            "the log says so",
        )
        assert (line["generation"], line["count"]) == (1, 1)
        assert (await ask(router, chat_body("it", "repeat: still here"))).text() == "still here"


class Load:
    """Callers that ask one after the other until they are told to stop."""

    def __init__(self, router: Router) -> None:
        self._router = router
        self.answers: list[Answer] = []
        self.over = False

    async def run(self) -> None:
        """Ask: streamed and plain, the cloud and the local model."""
        while not self.over:
            for body in (
                chat_body("it", "count to 8", stream=True),
                chat_body("first", "Hello", stream=True, max_tokens=3),
                chat_body("it", "count to 8"),
            ):
                self.answers.append(await ask(self._router, body))


async def test_a_hundred_reloads_lose_no_call(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """Under load, a cloud's connections replaced at each and every tenth file bad: not one call fails."""
    text = small(manifest, emulator.base_url)
    with stopped_at_end(router := Router(text, tmp_path)):
        worker, before = router.worker(), await router.quiet()
        load = Load(router)
        callers = [asyncio.create_task(load.run()) for _ in range(CALLERS)]
        good_count = 0
        for number in range(RELOADS):
            bad = number % 10 == 9
            changed = text.replace("default_max_tokens: 2048", f"default_max_tokens: {1000 + number}")
            replace(config_of(router), "nonsense" if bad else changed)
            told = await reload(router)
            assert told["ok"] is not bad, told
            good_count += not bad
        load.over = True
        await asyncio.gather(*callers)

        assert len(load.answers) > CALLERS
        assert [answer.error for answer in load.answers if answer.error] == []
        assert {answer.text() for answer in load.answers if answer.served_by[0] == "cloudflare"} == {
            "1 2 3 4 5 6 7 8"
        }
        assert (await status(router))["generation"] == 1 + good_count
        assert router.children() == [worker]
        await assert_invariants(router, before, load.answers)


async def test_who_asks_together_is_answered_together(standing: Router) -> None:
    """One reload at a time: those of twenty requests that wait all hear of the next one."""
    before = (await status(standing))["generation"]
    told = await asyncio.gather(*(reload(standing) for _ in range(20)))

    assert all(outcome["ok"] for outcome in told)
    assert before < (await status(standing))["generation"] <= before + 20
    assert len({outcome["generation"] for outcome in told}) < 20


async def test_stopping_in_the_middle_of_a_reload(manifest: Path, emulator: Emulator, tmp_path: Path) -> None:
    """SIGTERM while a model loads beside the old: exit 0, and neither process is left."""
    with stopped_at_end(router := Router(small(manifest, emulator.base_url), tmp_path)):
        rewrite(router, ("context: 1024", "context: 512"))
        asked = asyncio.create_task(reload(router))
        children = await soon(
            lambda: found if len(found := router.children()) == 2 else None, "a model loads beside the old"
        )
        router.send(signal.SIGTERM)
        told = await asked
        assert not told["ok"] or told["generation"] == 2  # it may just have been done
        assert await asyncio.to_thread(router.wait) == 0
        assert [pid for pid in children if alive(pid)] == []
