"""Which files were already verified, so that a start does not read gigabytes again.

A stamp is the file's identity at the moment it was verified.  Writing to a file, replacing it or linking
it anew changes one of these numbers, and then it is read again.  Whoever may write the models folder may
forge a stamp; he may as well write the manifest beside it.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

STAMPS_FILE = ".verified.json"


class Stamp(Struct, frozen=True, kw_only=True):
    """A file as it was when its digest was taken."""

    sha256: str
    device: int
    inode: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int


def stamp_of(found: os.stat_result, sha256: str) -> Stamp:
    """The stamp of a file whose digest is `sha256`."""
    return Stamp(
        sha256=sha256,
        device=found.st_dev,
        inode=found.st_ino,
        size_bytes=found.st_size,
        mtime_ns=found.st_mtime_ns,
        ctime_ns=found.st_ctime_ns,
    )


def read(models_dir: Path) -> dict[str, Stamp]:
    """The stamps by file name; none if they cannot be read: then everything is verified anew."""
    try:
        return msgspec.json.decode((models_dir / STAMPS_FILE).read_bytes(), type=dict[str, Stamp])
    except (OSError, msgspec.DecodeError):
        return {}


def remember(models_dir: Path, fresh_stamps: Mapping[str, Stamp]) -> None:
    """Add stamps.  A folder that cannot be written (a service's read-only tree) costs a re-read."""
    if not fresh_stamps:
        return
    stamps = {**read(models_dir), **fresh_stamps}
    # Beside it, then renamed, so that nobody ever reads half of it; a name of its own for each writer.
    fresh = models_dir / f"{STAMPS_FILE}.{secrets.token_hex(4)}"
    try:
        fresh.write_bytes(msgspec.json.format(msgspec.json.encode(stamps)))
        fresh.replace(models_dir / STAMPS_FILE)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink()
