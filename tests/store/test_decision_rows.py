"""Decision records: cheap to add, found at once, never torn."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hybrid_router.store import decisions
from hybrid_router.store.database import Store, open_store
from hybrid_router.store.decisions import Row
from hybrid_router.store.errors import StoreError
from hybrid_router.store.reader import open_reader

WRITER = Path(__file__).parent / "writer_process.py"
DAY_S = 86_400.0


class Lost:
    """What `on_lost` heard."""

    def __init__(self) -> None:
        self.count = 0
        self.why: list[str] = []
        self.heard = asyncio.Event()

    def __call__(self, count: int, why: str) -> None:
        self.count += count
        self.why.append(why)
        self.heard.set()


def row(
    number: int, *, at_s: float | None = None, document: Callable[[], Any] | None = None, **more: Any
) -> Row:
    """One record."""
    return Row(
        id=f"dec_{number}",
        principal="ann",
        alias="fast",
        at_s=time.time() if at_s is None else at_s,
        outcome="answered",
        local_only=False,
        document=document or partial(dict, number=number),
        **more,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "router.sqlite3"


@asynccontextmanager
async def opened(path: Path, **chosen: Any) -> AsyncGenerator[Store]:
    """A store, closed in the end."""
    store = await open_store(path, **chosen)
    try:
        yield store
    finally:
        await store.close()


def kept(path: Path, since_s: float = 0.0) -> list[int]:
    """Numbers of the records in the file, oldest first."""
    with open_reader(path) as reader:
        return [msgspec.json.decode(document)["number"] for document in reader.decisions(since_s)]


async def test_a_record_is_found_right_after_its_call(path: Path) -> None:
    """Whoever asks before it is written is told from the queue; whoever asks later, from the file."""
    async with opened(path) as store:
        store.decisions.add(row(1))
        early = await store.decisions.find("dec_1", "ann")
    async with opened(path) as store:
        late = await store.decisions.find("dec_1", "ann")

    assert early == late == b'{"number":1}'


async def test_nobody_elses_record_is_found(path: Path) -> None:
    """Neither in the queue nor in the file: as if there were none."""
    async with opened(path) as store:
        store.decisions.add(row(1))
        assert await store.decisions.find("dec_1", "bob") is None
        assert await store.decisions.find("dec_2", "ann") is None
    async with opened(path) as store:
        assert await store.decisions.find("dec_1", "bob") is None


async def test_every_record_is_found_at_every_moment(path: Path) -> None:
    """There is no moment between the queue and the file in which a record is nowhere."""
    async with opened(path) as store:
        for number in range(3 * decisions.BATCH_COUNT):
            store.decisions.add(row(number))
        for number in range(3 * decisions.BATCH_COUNT):
            assert await store.decisions.find(f"dec_{number}", "ann") is not None


async def test_what_waits_is_written_at_the_end(path: Path) -> None:
    """Closing loses nothing, in order, however much waits; later records are lost, and said to be."""
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        for number in range(decisions.BATCH_COUNT + 10):
            store.decisions.add(row(number, at_s=1e9 + number))
    assert await asyncio.to_thread(kept, path) == list(range(decisions.BATCH_COUNT + 10))
    assert lost.count == 0


async def test_a_flood_is_counted(path: Path) -> None:
    """What the queue cannot hold is lost, and told with its count; what it holds is written."""
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        for number in range(decisions.MOST_WAITING + 7):
            store.decisions.add(row(number))

    assert (lost.count, len(await asyncio.to_thread(kept, path))) == (7, decisions.MOST_WAITING)


async def test_large_calls_do_not_fill_the_memory(path: Path) -> None:
    """The queue is bounded by size too."""
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        for number in range(5):
            store.decisions.add(row(number, size_bytes=decisions.MOST_WAITING_BYTES // 4))

    assert lost.count == 1


async def test_a_record_that_cannot_be_encoded_harms_no_other(path: Path) -> None:
    """It is lost alone, and told."""
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        store.decisions.add(row(1, document=lambda: {"text": "\ud800"}))
        store.decisions.add(row(2))

    assert await asyncio.to_thread(kept, path) == [2]
    assert (lost.count, lost.why) == (1, ["a record could not be encoded (UnicodeEncodeError)"])


async def test_a_bug_in_a_document_is_told(path: Path) -> None:
    """If the writer itself fails, calls go on, and the log hears that nothing is kept."""
    lost = Lost()

    def broken() -> Any:
        raise ReferenceError("a bug")

    async with opened(path, on_lost=lost) as store:
        store.decisions.add(row(1, document=broken))
        await lost.heard.wait()
        store.decisions.add(row(2))

    assert lost.why == ["the writer ended: ReferenceError"]


async def test_old_records_are_dropped(path: Path) -> None:
    """Records older than keep_days go, however many; younger ones stay."""
    now_s = time.time()
    async with opened(path, keep_days=3) as store:
        for number in range(1200):
            store.decisions.add(row(number, at_s=now_s - 4 * DAY_S))
        store.decisions.add(row(5000, at_s=now_s - 2 * DAY_S))
    async with opened(path, keep_days=3) as store:
        while await store.decisions.find("dec_1199", "ann"):  # noqa: ASYNC110 - the store tells nobody
            await asyncio.sleep(0.01)
    assert await asyncio.to_thread(kept, path) == [5000]


async def test_writing_waits_for_another_writer(path: Path) -> None:
    """While another program holds the file's lock, calls are not held up, and nothing is lost."""
    async with opened(path) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            store.decisions.add(row(1))
            store.decisions.add(row(2))
            assert await store.decisions.find("dec_1", "ann") == b'{"number":1}'
            other.execute("COMMIT")

    assert await asyncio.to_thread(kept, path) == [1, 2]


REFUSE = "CREATE TRIGGER full BEFORE INSERT ON decisions BEGIN SELECT RAISE(ABORT, 'the disk is full'); END"


def behind_its_back(path: Path, statement: str) -> None:
    """Change the file as another program would."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(statement)


async def test_a_write_that_fails_is_done_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the file refuses, records wait and are found; once it takes them again, none is missing."""
    monkeypatch.setattr(decisions, "RETRY_S", 0.01)
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        behind_its_back(path, REFUSE)
        for number in range(decisions.MOST_WAITING + 300):
            store.decisions.add(row(number))
        await lost.heard.wait()
        assert await store.decisions.find("dec_0", "ann") is not None
        behind_its_back(path, "DROP TRIGGER full")

    assert set(lost.why) == {f"{path}: the disk is full"}
    assert len(await asyncio.to_thread(kept, path)) == decisions.MOST_WAITING


async def test_what_cannot_be_written_at_the_end_is_told(path: Path) -> None:
    """Closing does not wait for a disk that refuses: what is lost is counted, with the reason."""
    lost = Lost()
    async with opened(path, on_lost=lost) as store:
        behind_its_back(path, REFUSE)
        store.decisions.add(row(1))
        store.decisions.add(row(2))

    assert (lost.count, lost.why) == (2, [f"{path}: the disk is full"])


async def test_closing_has_a_deadline(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that does not come to an end is cut off, and what it held is counted."""
    monkeypatch.setattr(decisions, "CLOSE_S", 0.05)
    lost, released = Lost(), threading.Event()
    async with opened(path, on_lost=lost) as store:
        store.decisions.add(row(1, document=lambda: released.wait(10)))
    released.set()

    assert (lost.count, lost.why) == (1, ["the router stopped before they were written"])


async def test_a_look_that_is_given_up_harms_nothing(path: Path) -> None:
    """A client that leaves while its record is read leaves a store that works."""
    async with opened(path) as store:
        store.decisions.add(row(1))
    async with opened(path) as store:
        for turns in range(8):
            looking = asyncio.create_task(store.decisions.find("dec_1", "ann"))
            for _ in range(turns):
                await asyncio.sleep(0)
            looking.cancel()
            await asyncio.wait({looking})
        assert await store.decisions.find("dec_1", "ann") == b'{"number":1}'


def test_since_when(path: Path) -> None:
    """Only records from a time on are read, page by page."""

    async def write() -> None:
        async with opened(path) as store:
            for number in range(1100):
                store.decisions.add(row(number, at_s=1000.0 + number // 2))

    asyncio.run(write())

    assert kept(path, 1010.0) == sorted(range(20, 1100), key=lambda number: (number // 2, f"dec_{number}"))


def test_nothing_to_read_is_said(path: Path) -> None:
    """Without a file there is an error that says who makes it."""
    with pytest.raises(StoreError, match="a router makes it"), open_reader(path):
        pass


async def test_an_older_file_is_not_read(path: Path) -> None:
    """The router brings it up to date; a reader changes nothing."""
    async with opened(path):
        pass
    behind_its_back(path, "UPDATE meta SET value = 0")

    with pytest.raises(StoreError, match="earlier version"), open_reader(path):
        pass


def lines_of(writer: subprocess.Popen[str], count: int) -> None:
    """Wait until a writer has said `count` more lines: one for each record that it knows to be written."""
    assert writer.stdout is not None
    for _ in range(count):
        assert writer.stdout.readline()


def test_a_reader_beside_a_writer(path: Path) -> None:
    """Another process reads while the router writes: whole records, without a gap, ever more of them."""
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        seen = []
        for _ in range(3):
            lines_of(writer, 30)  # more than a batch
            seen.append(kept(path))
        writer.send_signal(signal.SIGKILL)

    assert all(numbers == list(range(len(numbers))) for numbers in seen)
    assert 0 < len(seen[0]) < len(seen[2])


@pytest.mark.parametrize("after", [1, 2, 4])
def test_a_killed_writer_leaves_whole_records(path: Path, after: int) -> None:
    """After kill -9 in the middle of writing: every record it knew to be written, none torn, none missing
    before another, and the store opens again.
    """
    with subprocess.Popen(
        [sys.executable, str(WRITER), str(path)], stdout=subprocess.PIPE, text=True
    ) as writer:
        lines_of(writer, after)
        writer.kill()
        assert writer.stdout is not None
        told = after + len([line for line in writer.stdout.read().splitlines() if line])

    numbers = kept(path)
    assert numbers == list(range(len(numbers)))
    assert len(numbers) >= told * 10
    asyncio.run(reopened(path))
    assert kept(path) == numbers


async def reopened(path: Path) -> None:
    """Open and close: the check at the start finds nothing."""
    async with opened(path) as store:
        assert await store.decisions.find("dec_0", "ann") is not None
