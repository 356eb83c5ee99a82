"""Which manifest `hybrid-router models` is about: one rule for all of its commands."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from hybrid_router.cli.models import command

CONTENT = b"weights"
ENTRY = f"{{file: a.bin, sha256: {hashlib.sha256(CONTENT).hexdigest()}, size_bytes: {len(CONTENT)}}}"
VERBS = sorted(command.commands) if isinstance(command, click.Group) else []
WRITTEN = "manifest: ../weights/list.yaml\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to be in, with `models/manifest.yaml`; beside it another list, and a configuration of that."""
    for list_, name in (("home/models/manifest.yaml", "usual"), ("weights/list.yaml", "other")):
        (tmp_path / list_).parent.mkdir(parents=True)
        (tmp_path / list_).write_text(f"models:\n  {name}: {ENTRY}\n")
        (tmp_path / list_).with_name("a.bin").write_bytes(CONTENT)
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "hr.yaml").write_text(WRITTEN)
    monkeypatch.chdir(tmp_path / "home")
    return tmp_path / "home"


def run(*arguments: str) -> Result:
    """`hybrid-router models …`."""
    return CliRunner().invoke(command, arguments, catch_exceptions=False)


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_says_which_list_it_uses(verb: str) -> None:
    """Both options are in each `--help`, with what holds without them."""
    said = " ".join(run(verb, "--help").output.split())

    assert "--config FILE The configuration that names the list of model files. [default: router.yaml" in said
    assert "--manifest FILE The list of model files" in said
    assert "[default: the one that the configuration names, or else models/manifest.yaml]" in said


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["list"], "usual"),
        (["list", "--config", "../etc/hr.yaml"], "other"),
        (["--config", "../etc/hr.yaml", "list"], "other"),
        (["list", "--manifest", "../weights/list.yaml"], "other"),
        (["--manifest", "../weights/list.yaml", "list"], "other"),
        (["--manifest", "none", "list", "--config", "../etc/hr.yaml"], "other"),
        (["--config", "../etc/hr.yaml", "list", "--manifest", "models/manifest.yaml"], "usual"),
    ],
)
def test_the_list_is_the_one_that_was_named(home: Path, arguments: list[str], named: str) -> None:
    """By a configuration or by itself, before the command's name or behind it, where the latter wins."""
    result = run(*arguments)

    assert result.exit_code == 0
    assert [line.split()[0] for line in result.output.splitlines()] == ["name", named]


@pytest.mark.parametrize("verb", ["list", "show", "verify", "fit", "rm"])
def test_the_configuration_that_is_here_is_asked(home: Path, verb: str) -> None:
    """Every command finds the list that router.yaml names, whatever else is wrong with that file."""
    (home / "router.yaml").write_text(WRITTEN + "backends: 7\n")
    more = {"list": [], "rm": ["other", "--yes", "--force"]}.get(verb, ["other"])

    result = run(verb, *more)

    assert result.exit_code == 0
    assert "other" in result.output
    assert run("show", "usual").exit_code == 2


def test_what_is_added_goes_where_the_router_looks(home: Path) -> None:
    """Into the list that the configuration names, and the folder of that."""
    (home / "a.npy").write_bytes(b"\x93NUMPY")

    result = run("add", "a.npy", "--engine", "classify", "--config", "../etc/hr.yaml")

    assert result.exit_code == 0, result.output
    assert (home.parent / "weights" / "a.npy").exists()
    assert "  a:" in (home.parent / "weights" / "list.yaml").read_text()


@pytest.mark.parametrize("text", ["backends: {}\n", "manifest:\n", "manifest: [1]\n", "- 1\n"])
def test_a_configuration_that_names_none_means_the_usual(home: Path, text: str) -> None:
    """Beside that configuration."""
    (home / "router.yaml").write_text(text)

    assert "usual" in run("list").output


@pytest.mark.parametrize("options", [[], ["--config", "router.yaml"]])
def test_a_configuration_that_cannot_be_read_is_said(home: Path, options: list[str]) -> None:
    """With its line, and the way around it; no other list is taken in its stead."""
    (home / "router.yaml").write_text("a: b\n  c: d\n")

    result = run("list", *options)

    assert result.exit_code == 2
    assert result.stderr.startswith("router.yaml:2:")
    assert "name one with --manifest" in result.stderr
    assert run("list", "--manifest", "models/manifest.yaml").exit_code == 0


def test_a_configuration_that_others_may_write_is_passed_over(home: Path) -> None:
    """Whoever did not name it gets the usual list, and is told; who names it gets the reason."""
    (home / "router.yaml").write_text(WRITTEN)
    (home / "router.yaml").chmod(0o666)

    passed_over, named = run("list"), run("list", "--config", "router.yaml")

    assert passed_over.exit_code == 0
    assert "usual" in passed_over.stdout
    assert passed_over.stderr.startswith("router.yaml is not asked: everyone may write to it")
    assert named.exit_code == 2
    assert "everyone may write to it" in named.stderr


def test_a_list_that_is_not_there_is_said(home: Path) -> None:
    """With the options that name another; a configuration that is not there is one of click's own errors."""
    (home / "models" / "manifest.yaml").unlink()

    result = run("list")

    assert result.exit_code == 2
    assert "there is no models/manifest.yaml: name your router.yaml with --config" in result.stderr
    assert "'none' does not exist" in run("list", "--config", "none").stderr
