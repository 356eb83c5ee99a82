"""An emulated account behind a router.yaml, and the command line in front of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from click.testing import CliRunner, Result

from hybrid_router.cli.root import main
from hybrid_router.emulator.server import Running, serve
from hybrid_router.emulator.settings import Settings

CONFIG = """
backends:
  cf: {{type: workers_ai, account_id: {account}, token: {{env: CF_TOKEN}}, base_url: {base_url}}}
aliases:
  default: {{try: ["cf/@cf/meta/llama-3.2-1b-instruct"]}}
"""


class Account:
    """Runs `hybrid-router …` about it."""

    def __init__(self, running: Running, folder: Path) -> None:
        self.running = running
        self.folder = folder
        self.config = folder / "router.yaml"
        told = CONFIG.format(account=running.account_id, base_url=running.base_url)
        self.config.write_text(told, encoding="utf-8")
        self.config.chmod(0o600)

    def run(self, *arguments: str, token: str | None = None) -> Result:
        """`hybrid-router cloud …`, on its standard output and error."""
        return self.command("cloud", "--config", str(self.config), *arguments, token=token)

    def command(self, *arguments: str, token: str | None = None) -> Result:
        """Any command."""
        environ = {
            "CF_TOKEN": token or self.running.token,
            "STATE_DIRECTORY": None,
            "CREDENTIALS_DIRECTORY": None,
        }
        return CliRunner().invoke(main, arguments, env=environ)


@contextmanager
def accounted(folder: Path, settings: Settings | None = None) -> Iterator[Account]:
    """An emulator in a thread of its own: commands bring their own loop."""
    ready, stop = threading.Event(), asyncio.Event()
    found: list[tuple[Running, asyncio.AbstractEventLoop]] = []

    async def run() -> None:
        async with serve(settings or Settings()) as running:
            found.append((running, asyncio.get_running_loop()))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    assert ready.wait(10)
    running, loop = found[0]
    try:
        yield Account(running, folder)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
