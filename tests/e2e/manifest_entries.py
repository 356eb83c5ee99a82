"""Models of a test as a manifest lists them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any


def file_entry(path: Path) -> dict[str, Any]:
    """Weights that are one file."""
    return {"file": path.name, **_checked(path)}


def folder_entry(folder: Path, engine: str) -> dict[str, Any]:
    """A folder, with all that is in it."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    files = {str(path.relative_to(folder)): _checked(path) for path in paths}
    return {"folder": folder.name, "files": files, "engine": engine}


def _checked(path: Path) -> dict[str, Any]:
    return {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "size_bytes": path.stat().st_size}
