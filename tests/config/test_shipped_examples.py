"""The commented examples of the shipped router.yaml work once they are uncommented."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from hybrid_router.cli.check import command
from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.load import loads
from hybrid_router.config.local_schema import LocalModel
from hybrid_router.models import manifest

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "models/manifest.yaml"
COMMENTED = re.compile(r"^( +)#(?=\w)", re.MULTILINE)  # prose has a space behind its `#`


@pytest.fixture(scope="module")
def text() -> str:
    """The shipped file with every example in force."""
    return COMMENTED.sub(r"\1", (ROOT / "router.yaml").read_text())


def local(text: str) -> LocalBackend:
    """The models on this machine."""
    backend = loads(text).config.backends["local"]
    assert isinstance(backend, LocalBackend)
    return backend


def test_there_is_an_example_of_every_engine(text: str) -> None:
    """Whoever wants a kind of model finds how it is written, and an alias that reaches it."""
    engines = {str(each.__struct_config__.tag) for each in get_args(LocalModel)}
    config = loads(text).config
    tried = {step.step for alias in config.aliases.values() for step in alias.try_}

    assert {model.engine for model in local(text).models.values()} == engines
    assert {f"local/{name}" for name in local(text).models} <= tried


def test_what_the_manifest_lists_is_for_that_engine(text: str) -> None:
    """Weights that come with a package are named as the manifest names them; the others it must not list."""
    known = manifest.read(MANIFEST)
    listed = {
        name: known[weights].engine
        for name, model in local(text).models.items()
        if (weights := model.weights or name) in known
    }

    assert listed == {
        "smollm2": "llama",
        "whisper": "whisper",
        "hibari": "speech",
        "minilm": "sentence_transformers",
        "efficientnet": "classify",
    }


def test_check_passes_with_every_example(text: str, tmp_path: Path) -> None:
    """Exit 0; what is warned of is only what a user has to bring or to install."""
    path = tmp_path / "router.yaml"
    path.write_text(f"manifest: {MANIFEST}\n{text}")

    result = CliRunner().invoke(command, ["--config", str(path)])

    assert result.exit_code == 0, result.stderr
    brought = [line for line in result.stderr.splitlines() if ".engine: " not in line]
    assert len(brought) == 3
    assert all(re.search(r"lists no (sd-turbo|m2m100-418m|toxic-bert)\b", line) for line in brought)
