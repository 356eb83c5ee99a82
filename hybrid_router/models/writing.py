"""Adding entries to the manifest and taking them out: all other text stays as it is."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from hybrid_router.models import manifest
from hybrid_router.models.entry import Entry
from hybrid_router.models.errors import ModelFileError

_HEAD = """\
# Model files: the name that router.yaml uses, and what the file must be.
#
# Only files listed here are loaded, and only if their SHA-256 is the one written here.

models:
"""
_WIDTH = 100_000  # no line is folded
_INDENT = 2


def add(path: Path, entries: dict[str, Entry]) -> None:
    """Append entries to the manifest, which is made if there is none.

    Raises:
        ModelFileError: it is wrong already, has one of the names, or cannot be written.
    """
    with _held(path):
        before = manifest.read(path) if path.exists() else {}
        taken = sorted(before.keys() & entries.keys())
        if taken:
            raise ModelFileError(
                f"models/manifest.yaml has a model {taken[0]!r} already: "
                "choose another name (--name), or remove that one first"
            )
        text = path.read_text(encoding="utf-8") if path.exists() else _HEAD
        _write(path, _appended(text, entries), before | entries)


def remove(path: Path, name: str) -> None:
    """Take an entry's lines out of the manifest.

    Raises:
        ModelFileError: there is no such entry, it shares its lines with others, or it cannot be written.
    """
    with _held(path):
        before = manifest.read(path)
        text = path.read_text(encoding="utf-8")
        first, last = _lines_of(text, name)
        lines = text.splitlines(keepends=True)
        # With the entry goes one of the blank lines around it, as adding one brought one.
        if last < len(lines) and not lines[last].strip():
            last += 1
        elif not lines[first - 1].strip():
            first -= 1
        left = "".join((*lines[:first], *lines[last:]))
        if len(before) == 1:
            left = (
                left.replace("models:", "models: {}", 1) if yaml.safe_load(left)["models"] is None else left
            )
        _write(path, left, {key: entry for key, entry in before.items() if key != name})


def rendered(entries: dict[str, Entry], indent: int) -> str:
    """Entries as they stand in a manifest."""
    plain = {name: _plain(entry) for name, entry in entries.items()}
    blocks = (
        yaml.safe_dump({name: fields}, sort_keys=False, allow_unicode=True, width=_WIDTH)
        for name, fields in plain.items()
    )
    lines = (line for block in blocks for line in ("\n", *block.splitlines(keepends=True)))
    return "".join(" " * indent + line if line.strip() else line for line in lines)


def _plain(entry: Entry) -> dict[str, Any]:
    """What is not as it would be anyway; the engine always."""
    fields: dict[str, Any] = msgspec.to_builtins(entry, builtin_types=())
    left_out: dict[str, Any] = {"source": None, "parts": [], "optional": False, "path": None}
    kept = {"engine": entry.engine} | _without(fields, left_out)
    if "files" in kept:
        kept["files"] = {path: _without(listed, left_out) for path, listed in kept["files"].items()}
    return kept


def _without(fields: dict[str, Any], usual: dict[str, Any]) -> dict[str, Any]:
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in fields.items()
        if value not in ((), usual.get(key, ...))
    }


def _appended(text: str, entries: dict[str, Entry]) -> str:
    """The text with entries behind the last one."""
    models = _models(text)
    if isinstance(models, yaml.MappingNode) and models.value and not models.flow_style:
        lines = text.splitlines(keepends=True)
        if not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        indent = models.value[0][0].start_mark.column
        at = _end(models) + 1
        return "".join((*lines[:at], rendered(entries, indent), *lines[at:]))
    if models is None or not getattr(models, "value", None):
        empty = text.replace("models: {}", "models:", 1)
        return empty.rstrip("\n") + "\n" + rendered(entries, _INDENT).removeprefix("\n")
    raise ModelFileError(
        "models/manifest.yaml has its models in braces: write each on lines of its own, then try again"
    )


def _models(text: str) -> yaml.Node | None:
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    if not isinstance(root, yaml.MappingNode):
        return None
    return next((node for key, node in root.value if key.value == "models"), None)


def _lines_of(text: str, name: str) -> tuple[int, int]:
    """Where an entry begins, and the line behind it."""
    models = _models(text)
    if isinstance(models, yaml.MappingNode) and not models.flow_style:
        for key, node in models.value:
            if key.value == name:
                return key.start_mark.line, _end(node) + 1
    raise ModelFileError(
        f"models/manifest.yaml has no model {name!r} on lines of its own: take it out by hand"
    )


def _end(node: yaml.Node) -> int:
    """The last line that belongs to a node.  A block's own mark is where the next thing begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.line)


def _write(path: Path, text: str, expected: dict[str, Entry]) -> None:
    """Replace the manifest by a text that means what is expected."""
    found, problems = manifest.parse(text)
    if problems or found != expected:
        detail = "\n".join(f"{line}: {what}" for line, what in problems)
        raise ModelFileError(
            "models/manifest.yaml cannot be changed by itself: edit it by hand", detail=detail
        )
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fresh.write_text(text, encoding="utf-8")
        if path.exists():
            fresh.chmod(stat.S_IMODE(path.stat().st_mode))
        fresh.replace(path.resolve())
    except OSError as e:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise ModelFileError(
            "models/manifest.yaml cannot be written", detail=f"{path}: {e.strerror}; nothing was changed"
        ) from e


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    """Two commands at once write one after the other."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as e:
        raise ModelFileError(
            "the models folder cannot be opened", detail=f"{path.parent}: {e.strerror}"
        ) from e
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
