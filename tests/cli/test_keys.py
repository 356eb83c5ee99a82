"""`hybrid-router keys new`: a key that is shown once and stored only as a digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from hybrid_router.cli.keys import command
from hybrid_router.config.load import loads

ROUTER_YAML = Path(__file__).parents[2] / "router.yaml"


def test_the_printed_lines_let_the_printed_key_in() -> None:
    """Standard output holds the key alone; standard error the lines of router.yaml with its SHA-256."""
    result = CliRunner().invoke(command, ["new", "laptop"])

    assert result.exit_code == 0
    key = result.stdout.rstrip("\n")
    lines = yaml.safe_load(lines_of(result.stderr))
    assert lines == {"keys": [{"name": "laptop", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    assert key not in result.stderr


def lines_of(stderr: str) -> str:
    """The lines for router.yaml, to the letter."""
    return stderr[stderr.index("  keys:\n") :]


def test_the_printed_lines_fit_below_the_shipped_server_line() -> None:
    """Put where the words say, they make a valid router.yaml that asks for the key."""
    stderr = CliRunner().invoke(command, ["new", "laptop"]).stderr
    assert "below its `server:` line" in stderr

    text = ROUTER_YAML.read_text(encoding="utf-8").replace("server:\n", "server:\n" + lines_of(stderr), 1)
    config = loads(text).config

    assert [key.name for key in config.server.keys] == ["laptop"]


def test_two_keys_differ_and_hold_256_bits() -> None:
    """Each key is fresh and carries 43 characters of base64 after its prefix."""
    keys = {CliRunner().invoke(command, ["new", "a"]).stdout.strip() for _ in range(8)}

    assert len(keys) == 8
    assert all(key.startswith("hr-") and len(key) == 3 + 43 for key in keys)


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "ä", "x" * 200, "-"])
def test_a_name_that_router_yaml_would_refuse_is_refused(name: str) -> None:
    """A name must pass the configuration's own rule, so the printed lines always load."""
    result = CliRunner().invoke(command, ["new", "--", name])

    assert result.exit_code == 2
    assert "is not a name" in result.stderr
