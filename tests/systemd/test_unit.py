"""The shipped unit: systemd understands it, and finds little that it leaves open."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from hybrid_router.config.schema import Server

FOLDER = Path(__file__).parents[2] / "systemd"
UNIT = FOLDER / "hybrid-router.service"

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)


def settings() -> list[tuple[str, str]]:
    """The unit's settings in order."""
    lines = UNIT.read_text().splitlines()
    return [
        (name, value)
        for name, _, value in (line.partition("=") for line in lines if re.match(r"[A-Z]\w*=", line))
    ]


def installed(folder: Path) -> Path:
    """The unit with a program that exists on this machine."""
    unit = folder / UNIT.name
    unit.write_text(re.sub(r"(?m)^(Exec\w+)=\S+", rf"\1={sys.executable}", UNIT.read_text()))
    return unit


@needs_systemd
@pytest.mark.parametrize("drop_in", [None, "gpu.conf"])
def test_systemd_understands_every_line(tmp_path: Path, drop_in: str | None) -> None:
    """systemd reads the unit, alone and with its drop-in, without a word of complaint."""
    unit = installed(tmp_path)
    if drop_in:
        unit.write_text(unit.read_text().replace("[Install]", (FOLDER / drop_in).read_text() + "\n[Install]"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)],
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    complaints = [line for line in done.stderr.splitlines() if UNIT.name in line]

    assert not complaints


@needs_systemd
def test_little_is_left_open() -> None:
    """Of ten points of exposure, systemd counts at most 1.2."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(UNIT)],
        capture_output=True,
        text=True,
        check=True,
        timeout=15,
    )
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)

    assert found, done.stdout
    assert float(found[1]) <= 1.2


def test_a_missing_credential_does_not_stop_the_start() -> None:
    """Credentials have no absolute path: then, and only then, systemd goes on without the file."""
    credentials = [value for name, value in settings() if name == "LoadCredential"]

    assert credentials == ["cloudflare_token", "cloudflare_account"]


def test_stopping_leaves_time_to_drain() -> None:
    """systemd waits longer for the end than the router lets calls in flight finish."""
    [wait] = [value for name, value in settings() if name == "TimeoutStopSec"]

    assert float(wait.removesuffix("s")) > Server().drain + 10


def test_a_reload_waits_for_its_outcome() -> None:
    """`systemctl reload` runs the command that fails when router.yaml is wrong, on the served file."""
    unit = dict(settings())

    assert unit["ExecReload"] == unit["ExecStart"].replace(" serve ", " reload ")


def test_no_memory_is_left_on_disk() -> None:
    """Neither a crash nor the watchdog writes a core dump, which would hold prompts and keys."""
    unit = dict(settings())

    assert (unit["LimitCORE"], unit["WatchdogSignal"]) == ("0", "SIGKILL")


def test_every_unusual_line_is_explained() -> None:
    """The drop-in says why it opens what the unit closes."""
    for opened in ("PrivateDevices=no", "MemoryDenyWriteExecute=no"):
        before = (FOLDER / "gpu.conf").read_text().partition(opened)[0].splitlines()
        assert before[-1].startswith("#")
