"""How much memory router.yaml gives."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hybrid_router.app.rooms import budget, opened_house
from hybrid_router.config.schema import Residency
from hybrid_router.core.space import UNLIMITED, Space
from hybrid_router.workers.memory import Taken


class Scales:
    """A machine of 10,000 bytes, with or without GPUs that can be weighed."""

    def __init__(self, vram_bytes: int = UNLIMITED.vram_bytes) -> None:
        self._vram_bytes = vram_bytes

    def total(self) -> Space:
        return Space(10_000, self._vram_bytes)

    def available(self) -> Space:
        return self.total()

    def taken(self, pid: int) -> Taken | None:
        raise AssertionError(pid)

    def kills(self, pid: int) -> Callable[[], int]:
        raise AssertionError(pid)


@pytest.mark.parametrize(
    ("config", "scales", "expected"),
    [
        (Residency(), Scales(), Space(9_000, UNLIMITED.vram_bytes)),
        (Residency(ram="25%", vram="50%"), Scales(800), Space(2_500, 400)),
        (Residency(ram="1.5GiB", vram="8GB"), Scales(), Space(3 * 2**29, 8 * 10**9)),
    ],
)
def test_shares_are_of_what_there_is_and_sizes_are_sizes(
    config: Residency, scales: Scales, expected: Space
) -> None:
    """A share of GPU memory that nobody can weigh is no limit."""
    assert budget(config, scales).space == expected


def test_this_machine_has_room() -> None:
    """The house of a router counts, with less than all there is."""
    house = opened_house(Residency(swap_wait=3.0))

    assert house.limited
    assert 0 < house.budget.space.ram_bytes < house.scales.total().ram_bytes
    assert house.budget.swap_wait_s == 3.0
