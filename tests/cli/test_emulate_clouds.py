"""`hybrid-router emulate openai` and `huggingface`."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from hybrid_router.cli.emulate import command


@pytest.fixture
def taken() -> Iterator[int]:
    """A port at which somebody listens."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        yield one.getsockname()[1]


@pytest.mark.parametrize("cloud", ["openai", "huggingface"])
def test_a_port_that_is_taken_is_named(cloud: str, taken: int) -> None:
    """With what to do about it."""
    told = CliRunner().invoke(command, [cloud, "--port", str(taken)])

    assert told.exit_code == 1
    assert f"cannot listen on 127.0.0.1:{taken}" in told.output
    assert "--port" in told.output


def test_the_script_plays_without_the_server() -> None:
    """What only local models need is not loaded: it takes longer than all else together."""
    asked = (
        "import sys, hybrid_router.cli.emulate; print({'sqlalchemy', 'hybrid_router.app'} & {*sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True, timeout=15
    )

    assert done.stdout == "set()\n"
