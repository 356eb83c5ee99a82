"""How much memory router.yaml gives the models of this process."""

from __future__ import annotations

from hybrid_router.config.schema import Residency
from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.core.units import size_bytes
from hybrid_router.workers.house import House
from hybrid_router.workers.memory import Machine, Scales
from hybrid_router.workers.tenant import Budget


def opened_house(config: Residency) -> House:
    """The house of a process.  Blocks: it looks for GPUs."""
    scales = Machine()
    return House(budget(config, scales), scales)


def budget(config: Residency, scales: Scales) -> Budget:
    """What router.yaml says, in bytes of this machine."""
    total = scales.total()
    return Budget(
        space=Space(
            _amount(config.ram, total.ram_bytes, UNLIMITED.ram_bytes),
            _amount(config.vram, total.vram_bytes, UNLIMITED.vram_bytes),
        ),
        swap_wait_s=config.swap_wait,
    )


def _amount(written: str, total_bytes: int, unlimited_bytes: int) -> int:
    """A share of what there is, or a size.  A share of nobody knows what is no limit."""
    if not written.endswith("%"):
        return size_bytes(written)
    if total_bytes >= unlimited_bytes:
        return unlimited_bytes
    return total_bytes * int(written[:-1]) // 100
