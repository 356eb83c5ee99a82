"""The manifest is changed in its own lines: comments, order and spelling of the rest stay."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybrid_router.models import manifest, writing
from hybrid_router.models.entry import (
    Entry,
    FileEntry,
    FolderEntry,
    HubSource,
    Listed,
    OllamaSource,
    OwnSource,
    Source,
)
from hybrid_router.models.errors import ModelFileError

DIGEST = "0123456789abcdef" * 4
NEW = FileEntry(
    file="new.gguf", sha256=DIGEST, size_bytes=3, licence="MIT: yes #really", source=OwnSource(origin="/x")
)
TEXT = f"""\
# What there is.
models:
    # the first
    one:   {{file: one.gguf, sha256: {DIGEST}, size_bytes: 1}}   # in braces

    two:
        file: two.gguf # a comment
        sha256: '{DIGEST}'
        size_bytes: 2
    # behind the last
"""

sources = st.one_of(
    st.none(),
    st.just(Source(package="a-b==1.0", path="a_b/c.gguf")),
    st.just(HubSource(repo="owner/name", revision="0" * 40)),
    st.just(OllamaSource(ollama="qwen3:4b")),
    st.builds(OwnSource, origin=st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=30)),
)
files = st.builds(
    FileEntry,
    file=st.just("a/b.gguf"),
    sha256=st.sampled_from([DIGEST, "0" * 64, "1" * 64]),
    size_bytes=st.integers(1, 1 << 50),
    licence=st.text(st.characters(categories=["L", "N", "P", "Zs"]), max_size=30),
    source=sources,
    optional=st.booleans(),
)
folders = st.builds(
    FolderEntry,
    folder=st.just("f"),
    engine=st.sampled_from(["whisper", "speech"]),
    files=st.dictionaries(
        st.sampled_from(["a.json", "b/c.bin", "1.0", "null", "true"]),
        st.builds(Listed, sha256=st.just(DIGEST), size_bytes=st.integers(0, 9)),
        min_size=1,
    ),
    source=sources,
)
names = st.sampled_from(["three", "1.5", "null", "yes", "123", "a:b@c"])


def written(folder: Path, text: str) -> Path:
    """A manifest file."""
    path = folder / "manifest.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_an_entry_is_appended_and_nothing_else_moves(tmp_path: Path) -> None:
    """All lines that were there are there still, in their order; the new ones are in the same indent."""
    path = written(tmp_path, TEXT)

    writing.add(path, {"new": NEW})

    lines, before = ([line for line in text.splitlines() if line] for text in (path.read_text(), TEXT))
    assert [line for line in lines if line in before] == before
    assert "    new:" in lines
    assert manifest.read(path)["new"] == NEW


@settings(max_examples=25)
@given(
    entry=st.one_of(files, folders),
    name=names,
    behind=st.sampled_from(["", "    # behind\n", "\n", "\n# x\n"]),
)
def test_what_was_added_can_be_removed(
    tmp_path_factory: pytest.TempPathFactory, entry: Entry, name: str, behind: str
) -> None:
    """For any entry and name: it reads back as it was, and taking it out leaves the very same text."""
    text = TEXT.replace("    # behind the last\n", behind)
    path = written(tmp_path_factory.mktemp("m"), text)

    writing.add(path, {name: entry})
    assert manifest.read(path)[name] == entry
    writing.remove(path, name)

    assert path.read_text() == text


def test_an_entry_goes_with_its_lines_alone(tmp_path: Path) -> None:
    """Comments of others stay, and the last entry leaves a manifest that reads."""
    path = written(tmp_path, TEXT)

    writing.remove(path, "two")
    assert "# the first" in path.read_text()
    assert "# behind the last" in path.read_text()
    assert manifest.read(path).keys() == {"one"}

    writing.remove(path, "one")
    assert manifest.read(path) == {}
    writing.add(path, {"new": NEW})
    assert manifest.read(path) == {"new": NEW}


@pytest.mark.parametrize("text", ["models: {}\n", "# mine\nmodels: {} # none yet\n"])
def test_the_first_entry_finds_its_place(tmp_path: Path, text: str) -> None:
    """An empty list becomes one with the entry, and a missing file one with it."""
    path = written(tmp_path, text)
    writing.add(path, {"new": NEW})
    assert manifest.read(path) == {"new": NEW}

    writing.add(tmp_path / "fresh" / "manifest.yaml", {"new": NEW})
    assert manifest.read(tmp_path / "fresh" / "manifest.yaml") == {"new": NEW}


def test_a_name_that_is_taken_changes_nothing(tmp_path: Path) -> None:
    """Nobody's entry is overwritten."""
    path = written(tmp_path, TEXT)

    with pytest.raises(ModelFileError, match="has a model 'two' already"):
        writing.add(path, {"two": NEW})
    assert path.read_text() == TEXT


def test_a_manifest_in_braces_is_left_to_its_owner(tmp_path: Path) -> None:
    """Where lines cannot be added without rewriting, the error says what to do."""
    text = f"models: {{one: {{file: one.gguf, sha256: {DIGEST}, size_bytes: 1}}}}\n"
    path = written(tmp_path, text)

    with pytest.raises(ModelFileError, match="in braces"):
        writing.add(path, {"new": NEW})
    with pytest.raises(ModelFileError, match="by hand"):
        writing.remove(path, "one")
    assert path.read_text() == text


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    """Entries that are added at the same time are all there."""
    path = written(tmp_path, TEXT)
    threads = [threading.Thread(target=writing.add, args=(path, {f"n{i}": NEW})) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert manifest.read(path).keys() == {"one", "two", *(f"n{i}" for i in range(8))}
