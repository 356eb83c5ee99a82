"""The command's front door: it finds commands, starts fast and helps whoever mistypes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from hybrid_router import __version__
from hybrid_router.cli.root import SUMMARIES, main


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "hybrid_router", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )


def test_the_version_is_the_packages() -> None:
    """`--version` prints the version that the package has."""
    done = run("--version")

    assert done.returncode == 0
    assert done.stdout == f"hybrid-router, version {__version__}\n"


def test_help_lists_every_command() -> None:
    """`--help` names each command and what it is for."""
    done = run("--help")

    assert done.returncode == 0
    for name in SUMMARIES:
        assert f"\n  {name} " in done.stdout


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_listed_command_exists(name: str) -> None:
    """What `--help` lists can be asked for its own help."""
    result = CliRunner().invoke(main, [name, "--help"])

    assert result.exit_code == 0, result.output
    assert f"Usage: main {name}" in result.output


def test_a_mistyped_command_is_corrected() -> None:
    """An unknown command exits 2 and names the nearest."""
    done = run("modls")

    assert done.returncode == 2
    assert "did you mean 'models'?" in done.stderr


def test_an_unknown_command_is_answered_with_all() -> None:
    """Where nothing is near, all commands are named."""
    result = CliRunner().invoke(main, ["zzzzzz"])

    assert result.exit_code == 2
    for name in SUMMARIES:
        assert name in result.output


def without(modules: set[str], *calls: list[str]) -> None:
    """Run commands in a process of its own and look that none of `modules` was imported for them."""
    code = "\n".join(
        [
            "import sys",
            "from hybrid_router.cli.root import main",
            *(f"main({call!r}, standalone_mode=False)" for call in calls),
            f"assert not {modules!r} & set(sys.modules), sorted(sys.modules)",
        ]
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=15
    )

    assert done.returncode == 0, done.stderr


def test_help_imports_no_server() -> None:
    """Asking for help or for models loads neither aiohttp nor an engine."""
    without({"aiohttp", "llama_cpp", "rich"}, ["--help"], ["models", "--help"])


def test_a_file_is_checked_without_a_server() -> None:
    """`check` counts memory and models' heads as the router does, without server or store."""
    shipped = str(Path(__file__).parents[2] / "router.yaml")

    without({"aiohttp", "llama_cpp", "sqlalchemy"}, ["check", "--config", shipped])
