"""Noticing that a file holds something else, however it was written."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import TypeAlias

import watchfiles

_TOGETHER_MS = 400  # what happens to the folder within this counts as one change
_QUIET_S = 0.3  # a file is read once it has not changed for so long: half of one may be valid too

Signature: TypeAlias = tuple[int, ...]


async def changes(path: Path) -> AsyncGenerator[None]:
    """Yield whenever `path` is another file than before, or was written to, and is left alone.

    Its folder is watched, since editors put a new file in the place of the old; and the folder of what
    it is a link to.
    """
    seen = _signature(path)
    together = {"debounce": _TOGETHER_MS, "step": _TOGETHER_MS // 4}
    async with aclosing(
        watchfiles.awatch(*_folders(path), watch_filter=None, recursive=False, **together)  # type: ignore[arg-type]
    ) as events:
        async for _ in events:
            now = await _at_rest(path)
            if now is not None and now != seen:
                seen = now
                yield


def _folders(path: Path) -> set[Path]:
    return {path.parent, path.resolve().parent}


async def _at_rest(path: Path) -> Signature | None:
    """The file's signature once nobody writes to it any more; None: it is not there."""
    before = _signature(path)
    while True:
        await asyncio.sleep(_QUIET_S)
        now = _signature(path)
        if now == before:
            return now
        before = now


def _signature(path: Path) -> Signature | None:
    """What tells a file from what was there before; None: it is not there."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


class Watch:
    """Calls `on_change` when a file changes, while that is wanted; `on_failure` if it cannot be watched."""

    def __init__(
        self,
        path: Path,
        on_change: Callable[[], Awaitable[object]],
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._path = path
        self._on_change = on_change
        self._on_failure = on_failure
        self._task: asyncio.Task[None] | None = None

    def want(self, wanted: bool) -> None:
        """Watch from now on, or no longer."""
        if wanted and self._task is None:
            self._task = asyncio.create_task(self._run())
        elif not wanted and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _run(self) -> None:
        try:
            async with aclosing(changes(self._path)) as changed:
                async for _ in changed:
                    await self._on_change()
        except (OSError, RuntimeError) as error:  # no folder, or no watches left to be had
            self._on_failure(error)
