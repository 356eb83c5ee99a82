"""`hybrid-router models`: a real manifest and real files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hybrid_router.cli.models import command

CONTENT = b"weights" * 100_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()
MANIFEST = f"""
models:
  good:
    file: good.gguf
    sha256: {DIGEST}
    size_bytes: {len(CONTENT)}
    licence: MIT
  gone:
    file: gone.gguf
    sha256: {DIGEST}
    size_bytes: {len(CONTENT)}
"""


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Two entries; one of them has its file."""
    (tmp_path / "good.gguf").write_bytes(CONTENT)
    path = tmp_path / "manifest.yaml"
    path.write_text(MANIFEST)
    return path


def run(manifest: Path, *arguments: str) -> Result:
    """`hybrid-router models --manifest … …`."""
    return CliRunner().invoke(command, ["--manifest", str(manifest), *arguments])


def test_the_list_says_what_is_there(manifest: Path) -> None:
    """Each model is listed with engine, licence and the state of its file."""
    result = run(manifest, "list")

    assert result.exit_code == 0
    rows = [line.split() for line in result.output.splitlines()]
    assert ["good", "llama", "1", "MB", "MIT", "unverified"] in rows
    assert ["gone", "llama", "1", "MB", "unknown", "missing"] in rows


def test_verify_passes_the_right_file_and_remembers(manifest: Path) -> None:
    """A verified file is present from then on."""
    assert run(manifest, "verify", "good").exit_code == 0
    assert "present" in run(manifest, "list").output


def test_verify_checks_all_and_fails_if_one_does(manifest: Path) -> None:
    """One missing file makes exit 1; the others are verified all the same."""
    result = run(manifest, "verify")

    assert result.exit_code == 1
    assert "good: verified" in result.stdout
    assert "'gone' is missing" in result.stderr


def test_verify_reads_the_bytes(manifest: Path) -> None:
    """A changed file of the right size is found out."""
    manifest.with_name("good.gguf").write_bytes(b"W" + CONTENT[1:])

    result = run(manifest, "verify", "good")

    assert result.exit_code == 1
    assert DIGEST in result.stderr


def test_place_without_names_leaves_the_owners_files_alone(manifest: Path) -> None:
    """Files that come with no package are not asked for."""
    result = run(manifest, "place")

    assert result.exit_code == 0
    assert result.output == ""


def test_place_of_a_file_without_a_package_says_so(manifest: Path) -> None:
    """Asked for by name, the error says what to do."""
    result = run(manifest, "place", "gone")

    assert result.exit_code == 1
    assert "comes with no package" in result.stderr


@pytest.mark.parametrize("verb", ["verify", "place"])
def test_an_unknown_name_exits_2(manifest: Path, verb: str) -> None:
    """A model that is not in the manifest is a mistake of the caller."""
    result = run(manifest, verb, "other")

    assert result.exit_code == 2
    assert "no model 'other'" in result.stderr


@pytest.mark.parametrize("verb", ["list", "verify", "place"])
def test_a_wrong_manifest_exits_2_with_its_lines(manifest: Path, verb: str) -> None:
    """Every problem is told as path, line and key."""
    manifest.write_text("models:\n  a: {file: x}\nother: 1\n")

    result = run(manifest, verb)

    assert result.exit_code == 2
    assert f"{manifest}:2: models.a.sha256: missing" in result.stderr
    assert f"{manifest}:3: other: unknown key" in result.stderr


@pytest.mark.parametrize(("options", "said"), [([], "good: in place\n"), (["--quiet"], "")])
def test_quiet_placing_says_nothing_of_what_is_in_place(
    manifest: Path, options: list[str], said: str
) -> None:
    """A start that finds everything in place stays silent."""
    result = run(manifest, "place", *options, "good")

    assert (result.exit_code, result.output) == (0, said)
