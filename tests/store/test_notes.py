"""Notes outlive the process."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from hybrid_router.core.notes import Notes
from hybrid_router.store.database import open_store
from hybrid_router.store.errors import StoreBroken, StoreError, StoreTooNew
from hybrid_router.store.schema import VERSION


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where nothing is yet."""
    return tmp_path / "state" / "router.sqlite3"


def behind_its_back(path: Path, statement: str) -> None:
    """Change the file as another program would."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute(statement)


def placed(path: Path, content: bytes) -> None:
    """A file that is there before the store is."""
    path.parent.mkdir()
    path.write_bytes(content)


def content_of(path: Path) -> bytes:
    """The file as it is."""
    return path.read_bytes()


def damage(path: Path) -> None:
    """Overwrite the beginning of every page but the first ones."""
    whole = bytearray(path.read_bytes())
    for page in range(5, len(whole) // 4096):
        whole[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    path.write_bytes(whole)


async def test_notes_come_back_after_a_restart(path: Path) -> None:
    """Bytes are kept as they are, by kind and key; the later save wins."""
    store = await open_store(path)
    notes: Notes = store.notes
    await notes.save("speed", {"local/a": b"\x00one", "local/b": b"two"})
    await notes.save("speed", {"local/a": b"three", "ключ": b""})
    await notes.save("neurons", {"local/a": b"other"})
    await store.close()

    store = await open_store(path)
    assert await store.notes.load("speed") == {"local/a": b"three", "local/b": b"two", "ключ": b""}
    assert await store.notes.load("nothing") == {}
    await store.close()


async def test_the_file_is_its_owners_alone(path: Path) -> None:
    """A new folder has mode 0700; the file and what SQLite puts beside it 0600."""
    store = await open_store(path)
    await store.notes.save("speed", {"a": b"1"})

    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert {file.name for file in path.parent.iterdir()} > {path.name}
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    await store.close()


async def test_many_saves_at_once(path: Path) -> None:
    """Whoever saves at the same time waits for its turn; nothing is lost."""
    store = await open_store(path)
    async with asyncio.TaskGroup() as tasks:
        for number in range(20):
            tasks.create_task(store.notes.save("n", {str(number): b"x"}))

    assert len(await store.notes.load("n")) == 20
    await store.close()


async def test_a_save_is_all_or_nothing(path: Path) -> None:
    """If one note cannot be written, none of the same save is."""
    store = await open_store(path)
    refuse = "WHEN new.key = 'bad' BEGIN SELECT RAISE(ABORT, 'no'); END"
    behind_its_back(path, f"CREATE TRIGGER full BEFORE INSERT ON notes {refuse}")

    with pytest.raises(StoreError, match="no"):
        await store.notes.save("n", {"good": b"1", "bad": b"2"})

    assert await store.notes.load("n") == {}
    await store.close()


async def test_a_save_that_is_given_up_harms_nothing(path: Path) -> None:
    """A cancelled save is there whole or not at all, and the next one works."""
    store = await open_store(path)
    saving = asyncio.create_task(store.notes.save("n", {"a": b"1", "b": b"1"}))
    await asyncio.sleep(0)
    saving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await saving

    await store.notes.save("n", {"c": b"1"})

    assert set(await store.notes.load("n")) in ({"c"}, {"a", "b", "c"})
    await store.close()


@pytest.mark.parametrize(
    "content", [b"no database at all, but long enough to look at" * 40, b"SQLite format 3\0"]
)
async def test_a_file_that_is_no_store_is_named_and_left_alone(path: Path, content: bytes) -> None:
    """What is there is never overwritten."""
    placed(path, content)

    with pytest.raises(StoreBroken, match=r"router\.sqlite3"):
        await open_store(path)

    assert content_of(path) == content


async def test_a_damaged_store_is_named(path: Path) -> None:
    """A page that says nonsense is found at start."""
    store = await open_store(path)
    await store.notes.save("n", {str(number): bytes(900) for number in range(100)})
    await store.close()
    damage(path)

    with pytest.raises(StoreBroken, match="damaged"):
        await open_store(path)


async def test_another_programs_file_is_left_alone(path: Path) -> None:
    """A slip in store.path does not put our tables into a browser's history."""
    placed(path, b"")
    behind_its_back(path, "CREATE TABLE history (url TEXT)")
    before = content_of(path)

    with pytest.raises(StoreBroken, match="another program"):
        await open_store(path)

    assert content_of(path) == before


async def test_a_store_from_the_future_is_refused(path: Path) -> None:
    """An older router does not guess what a newer one meant."""
    await (await open_store(path)).close()
    behind_its_back(path, "UPDATE meta SET value = value + 1")

    with pytest.raises(StoreTooNew, match=f"version {VERSION + 1}"):
        await open_store(path)


async def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder where the file should be, or no folder at all, is an error with the path."""
    with pytest.raises(StoreError, match=str(tmp_path)):
        await open_store(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="neither made nor opened"):
        await open_store(tmp_path / "file" / "router.sqlite3")
