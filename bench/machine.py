"""What the figures were measured on.  No names of hosts and no paths."""

from __future__ import annotations

import datetime
import os
import platform
from importlib import metadata
from pathlib import Path

from msgspec import Struct

_PACKAGES = ("aiohttp", "msgspec", "llama-cpp-python")


class Machine(Struct, kw_only=True):
    """The environment of a run."""

    date: str
    cpu: str
    cores_count: int
    load_average: float
    kernel: str
    python: str
    packages: dict[str, str]

    @property
    def line(self) -> str:
        """All of it in one line."""
        packages = ", ".join(f"{name} {version}" for name, version in self.packages.items())
        return (
            f"{self.date}; {self.cpu}, {self.cores_count} cores (load average {self.load_average:.1f} at the "
            f"start); {self.kernel}; Python {self.python}; {packages}"
        )


def look() -> Machine:
    """This machine, now."""
    return Machine(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        cpu=_cpu(),
        cores_count=len(os.sched_getaffinity(0)),
        load_average=os.getloadavg()[0],
        kernel=f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",
        python=platform.python_version(),
        packages={name: version for name in _PACKAGES if (version := _version(name)) is not None},
    )


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
