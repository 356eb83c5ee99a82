"""What `make check` runs first, as tests: style, types and the direction of imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent


def complaints(*command: str) -> str:
    """What a tool says; empty if it is content."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return "" if done.returncode == 0 else done.stdout + done.stderr


def test_ruff_finds_nothing() -> None:
    """Every rule of pyproject.toml holds, complexity at most 8 among them."""
    assert complaints("ruff", "check", ".") == ""


def test_ruff_would_format_nothing() -> None:
    """Every file is formatted."""
    assert complaints("ruff", "format", "--check", ".") == ""


@pytest.mark.timeout(300)  # the first run has no cache
def test_mypy_finds_nothing() -> None:
    """Source and tests are typed, strictly."""
    assert complaints("mypy") == ""


@pytest.mark.timeout(60)
def test_imports_point_down() -> None:
    """No room imports one above it; deciding stays pure; a child process holds no secret."""
    assert complaints("lint-imports") == ""
