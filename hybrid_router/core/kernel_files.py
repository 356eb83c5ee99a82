"""Reading what the kernel tells in files: /proc, /sys, control groups.  What is not there tells nothing."""

from __future__ import annotations

from pathlib import Path

_KIB = 1024


def lines_of(path: Path) -> list[str]:
    """A file's lines; none if it cannot be read."""
    try:
        return path.read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return []


def number_in(path: Path) -> int | None:
    """The number in a file; None: there is none, or a word, as `max` for no limit."""
    text = "".join(lines_of(path))
    return int(text) if text.isdecimal() else None


def sizes_in(path: Path) -> dict[str, int]:
    """What lines as `MemFree: 12 kB` say, in bytes; other lines are passed over."""
    found = {}
    for line in lines_of(path):
        name, _, rest = line.partition(":")
        number, _, unit = rest.strip().partition(" ")
        if number.isdecimal() and unit == "kB":
            found[name] = int(number) * _KIB
    return found
