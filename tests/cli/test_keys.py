"""`hybrid-router keys new`: a key that is shown once and stored only as a digest."""

from __future__ import annotations

import hashlib

import pytest
import yaml
from click.testing import CliRunner

from hybrid_router.cli.keys import command


def test_the_printed_lines_let_the_printed_key_in() -> None:
    """Standard output holds the key alone; standard error the lines of router.yaml with its SHA-256."""
    result = CliRunner().invoke(command, ["new", "laptop"])

    assert result.exit_code == 0
    key = result.stdout.rstrip("\n")
    lines = yaml.safe_load(result.stderr[result.stderr.index("server:") :])
    assert lines == {
        "server": {"keys": [{"name": "laptop", "sha256": hashlib.sha256(key.encode()).hexdigest()}]}
    }
    assert key not in result.stderr


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
