"""A process that writes decision records until it is killed; a line for every ten that are surely written."""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from functools import partial
from pathlib import Path

from hybrid_router.store.database import open_store
from hybrid_router.store.decisions import Row


def _written_count(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM decisions").fetchone()[0])


async def _main(path: Path) -> None:
    store = await open_store(path)
    number = told_count = 0
    while True:
        for _ in range(100):
            store.decisions.add(
                Row(
                    id=f"dec_{number}",
                    principal="ann",
                    alias="fast",
                    at_s=4e9 + number,
                    outcome="answered",
                    local_only=False,
                    document=partial(dict, number=number, filler="x" * 3000),
                )
            )
            number += 1
        await asyncio.sleep(0.02)
        written_count = await asyncio.to_thread(_written_count, path)
        while told_count < written_count // 10:
            told_count += 1
            print(told_count, flush=True)  # noqa: T201 - the test reads it


asyncio.run(_main(Path(sys.argv[1])))
