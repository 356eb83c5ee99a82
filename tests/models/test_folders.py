"""Models that are folders: every file the listed one, no other beside them, parts joined."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import get_args

import pytest

from hybrid_router.engines.extras import BY_ENGINE
from hybrid_router.models import manifest, weights
from hybrid_router.models.entry import EngineName, FolderEntry, Listed, Source
from hybrid_router.models.errors import FileChanged, FileMissing
from hybrid_router.models.placement import lacking, place
from hybrid_router.models.weights import State

HALVES = (b"CT2!" * 3000, b"more" * 2000)
FILES = {"config.json": b"{}", "sub/vocab.txt": b"a\nb\n", "model.bin": b"".join(HALVES)}
ROOT = Path(__file__).parents[2]


def digest(content: bytes) -> str:
    """SHA-256 in hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def listed(name: str, *parts: Source) -> Listed:
    """How a manifest lists one of the files."""
    return Listed(sha256=digest(FILES[name]), size_bytes=len(FILES[name]), parts=parts)


ENTRY = FolderEntry(
    folder="ears",
    engine="whisper",
    source=Source(package="ears-one==1.0", path="ears_one/data"),
    files={
        "config.json": listed("config.json"),
        "sub/vocab.txt": listed("sub/vocab.txt"),
        "model.bin": listed(
            "model.bin",
            Source(package="ears-one==1.0", path="ears_one/data/model.bin.part1"),
            Source(package="ears-two==1.0", path="ears_two/model.bin.part2"),
        ),
    },
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A models folder in which the model lies complete."""
    for name, content in FILES.items():
        path = tmp_path / "ears" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two installed packages that bring the model, the weights in halves."""
    site = tmp_path / "site"
    brought = {
        "ears_one": {
            "data/config.json": FILES["config.json"],
            "data/sub/vocab.txt": FILES["sub/vocab.txt"],
            "data/model.bin.part1": HALVES[0],
        },
        "ears_two": {"model.bin.part2": HALVES[1]},
    }
    for package, files in brought.items():
        known = site / f"{package}-1.0.dist-info"
        known.mkdir(parents=True)
        (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (known / "RECORD").write_text("".join(f"{package}/{name},,\n" for name in files))
        for name, content in files.items():
            path = site / package / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site


def test_a_folder_is_read_from_the_manifest() -> None:
    """What is written down as a folder with files is one, its source and parts with it."""
    files = "".join(
        f"      {name}: {{sha256: {each.sha256}, size_bytes: {each.size_bytes}}}\n"
        for name, each in ENTRY.files.items()
        if not each.parts
    )
    binary = ENTRY.files["model.bin"]
    parts = "".join(f"          - {{package: {p.package}, path: {p.path}}}\n" for p in binary.parts)
    text = (
        "models:\n  ears:\n    engine: whisper\n    folder: ears\n"
        "    source: {package: ears-one==1.0, path: ears_one/data}\n"
        f"    files:\n{files}      model.bin:\n        sha256: {binary.sha256}\n"
        f"        size_bytes: {binary.size_bytes}\n        parts:\n{parts}"
    )

    assert manifest.parse(text) == ({"ears": ENTRY}, [])


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ("{}", "models.m.files: must be the folder's files: path → sha256 and size_bytes"),
        ("[a]", "models.m.files: must be a mapping"),
        ("{../a: &f {sha256: %s, size_bytes: 1}}", "models.m.files.../a: not a path below the folder"),
        ("{a: &f {sha256: %s, size_bytes: 1}, a/b: *f}", "models.m.files.a: both a file and a folder"),
        ("{a: {sha256: %s, size_bytes: 1, parts: []}}", "models.m.files.a.parts: must be a list of"),
        ("{a: {sha256: %s, size_bytes: -1}}", "models.m.files.a.size_bytes: must be"),
        ("{.git: {sha256: %s, size_bytes: 1}}", "models.m.files..git: not a path below the folder"),
    ],
)
def test_a_wrong_list_is_told(files: str, problem: str) -> None:
    """Whatever is wrong with a folder's list has its key and a reason."""
    written = files.replace("%s", "0123456789abcdef" * 4)
    entries, problems = manifest.parse(
        f"models:\n  m:\n    engine: whisper\n    folder: m\n    files: {written}\n"
    )

    assert entries == {}
    assert any(what.startswith(problem) for _, what in problems), problems


def test_every_engine_can_be_named() -> None:
    """The manifest knows the engines that there are, and no others."""
    assert set(get_args(EngineName)) == set(BY_ENGINE)


def test_the_shipped_folders_are_those_of_the_packages() -> None:
    """Each optional model that the manifest ships and whose package is here is placed and right."""
    entries = manifest.read(ROOT / "models" / "manifest.yaml")
    here = {
        name: entry
        for name, entry in entries.items()
        if isinstance(entry, FolderEntry) and not lacking(entry)
    }

    assert {"minilm-l6-v2", "whisper-tiny-en", "whisper-base", "hibari"} <= here.keys()
    for name, entry in here.items():
        path = weights.weights(ROOT / "models" / "manifest.yaml", name)
        assert path == ROOT / "models" / entry.folder


def test_the_digest_is_that_of_the_list() -> None:
    """A folder's identity changes with any file's content or name, and not with their order."""
    turned = dict(reversed(ENTRY.files.items()))
    renamed = {f"x{name}": each for name, each in ENTRY.files.items()}
    made = [
        FolderEntry(folder="e", engine="whisper", files=files).digest
        for files in (ENTRY.files, turned, renamed, {**ENTRY.files, "config.json": listed("model.bin")})
    ]

    assert made[0] == made[1] == ENTRY.digest
    assert len(set(made)) == 3


def test_a_right_folder_is_verified_once(folder: Path) -> None:
    """Every byte is read the first time, none the second; the progress goes over all files."""
    seen: list[int] = []
    first = weights.verify("ears", ENTRY, folder, progress=seen.append)
    assert seen[-1] == ENTRY.size_bytes
    seen.clear()

    assert weights.verify("ears", ENTRY, folder, progress=seen.append) == first
    assert seen == []
    assert weights.state(ENTRY, folder) is State.PRESENT


@pytest.mark.parametrize("stray", ["evil.py", "pytorch_model.bin", "sub/.hidden", "new/model.pkl"])
def test_a_file_that_is_not_listed_is_refused_by_name(folder: Path, stray: str) -> None:
    """An engine would find it in the folder, so nothing lies there that nobody has checked."""
    weights.verify("ears", ENTRY, folder)
    path = folder / "ears" / stray
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"import os")

    with pytest.raises(FileChanged, match=path.name):
        weights.verify("ears", ENTRY, folder)
    assert weights.state(ENTRY, folder) is State.UNLISTED


def test_a_linked_folder_is_no_way_round_the_list(folder: Path, tmp_path: Path) -> None:
    """A link to a folder elsewhere counts as a file that is not listed."""
    (folder / "ears" / "more").symlink_to(tmp_path)

    with pytest.raises(FileChanged, match="more"):
        weights.verify("ears", ENTRY, folder)


def test_one_changed_file_of_a_folder_is_found(folder: Path) -> None:
    """The error names the file, also where its size stayed."""
    weights.verify("ears", ENTRY, folder)
    (folder / "ears" / "sub" / "vocab.txt").write_bytes(b"a\nc\n")

    with pytest.raises(FileChanged) as caught:
        weights.verify("ears", ENTRY, folder)
    assert "sub/vocab.txt" in caught.value.detail


def test_one_missing_file_of_a_folder_is_found(folder: Path) -> None:
    """A folder without one of its files is not there."""
    (folder / "ears" / "config.json").unlink()

    with pytest.raises(FileMissing):
        weights.verify("ears", ENTRY, folder)
    assert weights.state(ENTRY, folder) is State.MISSING


def test_a_folder_is_placed_from_its_packages(installed: Path, tmp_path: Path) -> None:
    """Whole files are links, parts are joined once, and nothing else is in the folder."""
    models = tmp_path / "models"
    models.mkdir()

    assert place("ears", ENTRY, models).linked

    found = {
        path.relative_to(models / "ears").as_posix(): path.read_bytes()
        for path in (models / "ears").rglob("*")
        if path.is_file()
    }
    assert found == FILES
    assert (models / "ears" / "config.json").samefile(installed / "ears_one" / "data" / "config.json")
    before = (models / "ears" / "model.bin").stat()
    assert not place("ears", ENTRY, models).linked
    assert (models / "ears" / "model.bin").stat() == before


def test_a_damaged_part_is_never_joined(installed: Path, tmp_path: Path) -> None:
    """What the parts come to is compared before it has its place."""
    models = tmp_path / "models"
    models.mkdir()
    (installed / "ears_two" / "model.bin.part2").write_bytes(b"less" * 2000)

    with pytest.raises(FileChanged, match="damaged inside its package"):
        place("ears", ENTRY, models)
    assert not (models / "ears" / "model.bin").exists()


@pytest.mark.usefixtures("installed")
def test_a_wrong_file_goes_out_of_the_folder(tmp_path: Path) -> None:
    """What is set aside does not stay where an engine would find it."""
    models = tmp_path / "models"
    (models / "ears").mkdir(parents=True)
    (models / "ears" / "config.json").write_bytes(b"mine")

    placed = place("ears", ENTRY, models)

    assert placed.set_aside == (models / "ears.config.json.broken",)
    assert placed.set_aside[0].read_bytes() == b"mine"
    assert weights.state(ENTRY, models) is State.PRESENT
