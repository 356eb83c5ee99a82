"""What memory a router and its workers had at most."""

from __future__ import annotations

import re
from pathlib import Path

from router_process import Router


def peak_bytes(service: Router) -> dict[int, int]:
    """Each process's own peak since it began, by its id."""
    found = {}
    for pid in (service.pid, *service.children()):
        status = Path(f"/proc/{pid}/status").read_text()
        [kib] = re.findall(r"VmHWM:\s+(\d+) kB", status)
        found[pid] = int(kib) * 1024
    return found


def growth_bytes(service: Router, before: dict[int, int]) -> int:
    """How much the one that grew most has grown beyond its peak; all of `before` must be alive still."""
    now = peak_bytes(service)
    assert now.keys() == before.keys()
    return max(now[pid] - before[pid] for pid in now)
