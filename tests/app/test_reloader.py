"""What a reload does when something goes wrong that no file and no model is to blame for."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hybrid_router.api.control import Outcome
from hybrid_router.api.generation import Current
from hybrid_router.app.backends import Backends, open_backends
from hybrid_router.app.live import Live, Succession
from hybrid_router.app.reload import STOPPING, Build, Reloader
from hybrid_router.app.watch import Watch
from hybrid_router.config.load import load
from hybrid_router.config.schema import Loaded
from hybrid_router.dispatch.service import Service
from hybrid_router.observe.logs import Logs, LogSettings
from hybrid_router.observe.notify import Notifier
from hybrid_router.routing.policy import compile_policy

ENVIRON = {"ACCOUNT": "e" * 32, "TOKEN": "canary-token"}
TEXT = """
backends:
  cloudflare:
    type: workers_ai
    base_url: http://127.0.0.1:9/client/v4
    account_id: { env: ACCOUNT }
    token: { env: TOKEN }
aliases: { it: { try: cloudflare/m } }
"""


def build(loaded: Loaded, backends: Backends) -> Service:
    """As the router does, with nothing remembered."""
    return Service(compile_policy(loaded.config), backends.by_name, backends.off)


@asynccontextmanager
async def reloading(
    folder: Path, build_next: Build = build, on_outcome: Callable[[Outcome], None] = lambda outcome: None
) -> AsyncIterator[tuple[Reloader, Succession]]:
    """A reloader whose first configuration is TEXT; `build_next` makes those that follow."""
    (folder / "router.yaml").write_text(TEXT)
    loaded = load(folder / "router.yaml", ENVIRON)
    with Logs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as logs:
        backends = await open_backends(loaded, logs)
        first = Live.of(1, loaded, backends, build(loaded, backends))
        succession = Succession(first, Current(first.generation), logs)
        reloader = Reloader(
            succession,
            logs,
            build_next,
            environ=ENVIRON,
            notifier=Notifier(None),
            on_outcome=on_outcome,
        )
        running = asyncio.create_task(reloader.run())
        yield reloader, succession
        running.cancel()
        await asyncio.wait((running,))
        await succession.close()


async def test_what_nobody_expected_changes_nothing(tmp_path: Path) -> None:
    """A mistake of ours is an outcome too; the next reload is tried as if nothing had been."""
    mistakes = [ZeroDivisionError("canary")]

    def fails_once(loaded: Loaded, backends: Backends) -> Service:
        if mistakes:
            raise mistakes.pop()
        return build(loaded, backends)

    async with reloading(tmp_path, fails_once) as (reloader, succession):
        before = succession.live
        outcome = await reloader.reload()
        assert (outcome.ok, outcome.generation) == (False, 1)
        assert outcome.errors == [
            "something went wrong inside the router (ZeroDivisionError); its log has more"
        ]
        assert succession.live is before
        assert (await reloader.reload()).generation == 2


async def test_who_asks_too_late_is_told(tmp_path: Path) -> None:
    """A reload that waits when the router stops, and one that comes after, end at once."""
    async with reloading(tmp_path) as (reloader, _):
        waiting = [asyncio.create_task(reloader.reload()) for _ in range(2)]
        await asyncio.sleep(0)  # they have asked, and nothing has been done yet
    outcomes = await asyncio.gather(*waiting)

    assert {tuple(outcome.errors) for outcome in outcomes} == {(STOPPING,)}
    assert (await reloader.reload()).errors == [STOPPING]


async def test_what_is_made_from_the_same_is_the_same(tmp_path: Path) -> None:
    """A cloud keeps its connections over other waits; a new token gets new ones, and the old are closed."""
    async with reloading(tmp_path) as (reloader, succession):
        first = succession.live.backends.by_name["cloudflare"]
        other_waits = TEXT.replace("    base_url", "    timeouts: { connect: 1s }\n    base_url")
        (tmp_path / "router.yaml").write_text(other_waits)
        assert (await reloader.reload()).ok
        assert succession.live.backends.by_name["cloudflare"] is first
        reloader._environ = {**ENVIRON, "TOKEN": "another-token"}
        assert (await reloader.reload()).ok
        assert succession.live.backends.by_name["cloudflare"] is not first


async def test_a_backend_that_goes_off_is_told(tmp_path: Path) -> None:
    """A token that is gone: the rest is applied, and the note says what to do."""
    async with reloading(tmp_path) as (reloader, succession):
        reloader._environ = {"ACCOUNT": "e" * 32}
        outcome = await reloader.reload()

        assert outcome.ok
        assert outcome.notes == ["cloudflare is off: no token: set TOKEN"]
        assert reloader.status().off == succession.live.backends.off == {"cloudflare": "no token: set TOKEN"}


async def test_outcomes_are_told(tmp_path: Path) -> None:
    """Whoever counts reloads hears of each, good or bad, and so does the status."""
    heard: list[Outcome] = []
    async with reloading(tmp_path, on_outcome=heard.append) as (reloader, _):
        await reloader.reload()
        (tmp_path / "router.yaml").write_text("nonsense")
        await reloader.reload()

        assert [outcome.ok for outcome in heard] == [True, False]
        assert reloader.status().last_reload == heard[-1]


async def test_a_folder_that_cannot_be_watched_is_told(tmp_path: Path) -> None:
    """The router goes on without watching, and the log can say so."""
    failed: asyncio.Queue[Exception] = asyncio.Queue()

    async def never() -> None:
        raise AssertionError("nothing can have changed")

    watch = Watch(tmp_path / "gone" / "router.yaml", never, failed.put_nowait)
    watch.want(True)
    assert isinstance(await failed.get(), OSError)
    watch.want(False)


@pytest.mark.parametrize("wanted", [True, False])
async def test_watching_twice_is_watching_once(wanted: bool, tmp_path: Path) -> None:
    """Asking again for what is so already does nothing."""

    async def never() -> None:
        raise AssertionError("nothing can have changed")

    before = len(asyncio.all_tasks())
    watch = Watch(tmp_path / "router.yaml", never, lambda error: None)
    watch.want(wanted)
    watch.want(wanted)
    assert len(asyncio.all_tasks()) == before + wanted
    watch.want(False)
