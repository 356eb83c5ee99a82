"""The machine's clocks, read together."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias

from hybrid_router.routing.moments import Moment

Clock: TypeAlias = Callable[[], Moment]

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def machine_clock() -> Clock:
    """Reads now; which start of the machine it is since is read once."""
    boot = _BOOT_ID.read_text(encoding="ascii").strip()

    def now() -> Moment:
        return Moment(wall=datetime.now(UTC), elapsed_s=time.clock_gettime(time.CLOCK_BOOTTIME), boot=boot)

    return now
