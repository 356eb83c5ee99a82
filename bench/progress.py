"""What is being measured, told on standard error."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Console


def progress() -> Callable[[str], None]:
    """Say it on one line that is written over, if a person looks; else say nothing."""
    stderr = Console(stderr=True)

    def say(what: str) -> None:
        if stderr.is_terminal:
            stderr.print(f"\r{what:<78}", end="", markup=False, highlight=False)

    return say
