"""What is well written in router.yaml and cannot work with this machine's memory or the models' files.

Mistakes, not doubts: the router would start, and refuse every call for such a model.
"""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_router.cli.doubts import Doubt, placed
from hybrid_router.cli.folders import unfit_encoders, wrong_voices
from hybrid_router.cli.room import Room
from hybrid_router.config.problems import Problem
from hybrid_router.config.schema import Residency
from hybrid_router.core.space import shown
from hybrid_router.core.units import size_bytes


def mistakes(room: Room) -> tuple[Problem, ...]:
    """All of them, in the file's order."""
    found = (
        *_beyond_the_machine(room.loaded.config.residency, room),
        *_never_loaded(room),
        *wrong_voices(room),
        *unfit_encoders(room),
    )
    return tuple(sorted(set(placed(room.loaded, found))))


def _beyond_the_machine(written: Residency, room: Room) -> Iterator[Doubt]:
    """A size of which there is not as much; a share never is."""
    amounts = [("ram", written.ram, room.total.ram_bytes, "this process may use")]
    if room.gpus:
        amounts.append(("vram", written.vram, room.total.vram_bytes, "the GPUs have"))
    for key, amount, total_bytes, whose in amounts:
        if not amount.endswith("%") and size_bytes(amount) > total_bytes:
            said = f"{amount} is more than the {shown(total_bytes)} that {whose}"
            yield ("residency", key), f"{said}: write less, or a share as in 90%"


def _never_loaded(room: Room) -> Iterator[Doubt]:
    for guest in room.guests:
        if guest.why_never is not None:
            path = ("backends", guest.backend, "models", guest.model)
            declared = guest.chosen.memory is not None
            yield (*path, "memory") if declared else path, guest.why_never
