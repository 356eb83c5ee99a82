"""models/manifest.yaml → entries, or a list of everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias, get_args

import msgspec
import yaml

from hybrid_router.models.entry import (
    AnySource,
    EngineName,
    Entry,
    FileEntry,
    FolderEntry,
    HubSource,
    Listed,
    Name,
    OllamaSource,
    OwnSource,
    RelativePath,
    Source,
)
from hybrid_router.models.errors import ModelFileError

Problems: TypeAlias = list[tuple[int, str]]

_HINTS: Mapping[str, str] = MappingProxyType(
    {
        "file": "a path below the models folder, without '..'",
        "folder": "a path below the models folder, without '..'",
        "files": "the folder's files: path → sha256 and size_bytes",
        "path": "a path inside the package, without '..'",
        "parts": "a list of 'package' and 'path'",
        "sha256": "64 hexadecimal digits in lower case, as sha256sum prints them",
        "size_bytes": "a whole number of bytes above 0",
        "engine": "one of " + ", ".join(get_args(EngineName)),
        "licence": "a text",
        "package": "'name==version'",
        "source": "'package' and 'path'",
        "optional": "true or false",
        "repo": "'owner/name' of a model hub",
        "revision": "a commit: 40 hexadecimal digits",
        "hub": "an address",
        "ollama": "'name:tag'",
        "origin": "a text",
    }
)
# What a source is, by the key that only it has.
_SOURCES: Mapping[str, type[AnySource]] = MappingProxyType(
    {"repo": HubSource, "ollama": OllamaSource, "origin": OwnSource}
)


def read(path: Path) -> dict[str, Entry]:
    """The manifest's entries by name.

    Raises:
        ModelFileError: no such file, or something in it is wrong; `detail` holds every problem, one a
            line, each as `path:line: key: what`.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as e:
        raise ModelFileError("the manifest of model files cannot be read", detail=f"{path}: {e}") from e
    entries, problems = parse(text)
    if problems:
        listed = "\n".join(f"{path}:{line}: {what}" for line, what in sorted(problems))
        raise ModelFileError("the manifest of model files is wrong", detail=listed)
    return entries


def parse(text: str) -> tuple[dict[str, Entry], Problems]:
    """The entries that are right, and (line, problem) for everything that is not."""
    problems: Problems = []
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as e:
        return {}, [(e.problem_mark.line + 1 if e.problem_mark else 1, f"not YAML: {e.problem}")]
    except yaml.YAMLError as e:
        return {}, [(1, f"not YAML: {e}")]
    models = _models(root, problems)
    found = {name: _entry(node, f"models.{name}", problems) for name, node in models.items()}
    return {name: entry for name, entry in found.items() if entry is not None}, problems


def _models(root: yaml.Node | None, problems: Problems) -> dict[str, yaml.Node]:
    """Each well-named entry's node."""
    if root is None:
        problems.append((1, "models: missing"))
        return {}
    top = _children(root, "", problems)
    problems += [(_line(node), f"{key}: unknown key") for key, node in top.items() if key != "models"]
    if "models" not in top:
        problems.append((1, "models: missing"))
        return {}
    named = _children(top["models"], "models", problems)
    for name, node in named.items():
        if not _fits(name, Name):
            problems.append(
                (_line(node), f"models.{name}: not a name: letters, digits and . _ : @ - (128 at most)")
            )
    return named


def _entry(node: yaml.Node, key: str, problems: Problems) -> Entry | None:
    """A model that is a folder says so; any other is a file."""
    entry: Entry | None = _struct(FolderEntry if "folder" in _keys(node) else FileEntry, node, key, problems)
    return entry


def _struct(kind: type[Any], node: yaml.Node, key: str, problems: Problems) -> Any:
    """`kind` made from a mapping, or None with what is wrong added to `problems`."""
    before = len(problems)
    given = _children(node, key, problems)
    fields = {field.name: field for field in msgspec.structs.fields(kind)}
    values: dict[str, Any] = {}
    for name, child in given.items():
        if name in fields:
            values[name] = _value(name, fields[name].type, child, f"{key}.{name}", problems)
        else:
            problems.append((_line(child), f"{key}.{name}: unknown key"))
    for name, field in fields.items():
        if field.required and name not in given:
            problems.append((_line(node), f"{key}.{name}: missing: {_HINTS[name]}"))
    return kind(**values) if len(problems) == before else None


def _value(name: str, kind: Any, node: yaml.Node, key: str, problems: Problems) -> Any:
    """One field's value."""
    match name:
        case "source":
            known = _keys(node)
            made_of = next((made for own, made in _SOURCES.items() if own in known), Source)
            return _struct(made_of, node, key, problems)
        case "parts":
            return _parts(node, key, problems)
        case "files":
            return _files(node, key, problems)
    value = _plain(node)
    if not _fits(value, kind):
        problems.append((_line(node), f"{key}: must be {_HINTS[name]}"))
    return value


def _parts(node: yaml.Node, key: str, problems: Problems) -> tuple[Any, ...]:
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        problems.append((_line(node), f"{key}: must be {_HINTS['parts']}"))
        return ()
    return tuple(
        _struct(Source, child, f"{key}[{index}]", problems) for index, child in enumerate(node.value)
    )


def _files(node: yaml.Node, key: str, problems: Problems) -> dict[str, Any]:
    """The files of a folder, none of which is a folder of another."""
    given = _children(node, key, problems)
    if isinstance(node, yaml.MappingNode) and not given:
        problems.append((_line(node), f"{key}: must be {_HINTS['files']}"))
    for path, child in given.items():
        if not _fits(path, RelativePath):
            problems.append((_line(child), f"{key}.{path}: not a path below the folder, without '..'"))
        elif any(other.startswith(f"{path}/") for other in given):
            problems.append((_line(child), f"{key}.{path}: both a file and a folder"))
    return {path: _struct(Listed, child, f"{key}.{path}", problems) for path, child in given.items()}


def _keys(node: yaml.Node) -> frozenset[str]:
    """The keys of a mapping; none of what is no mapping."""
    if not isinstance(node, yaml.MappingNode):
        return frozenset()
    return frozenset(str(name.value) for name, _ in node.value)


def _children(node: yaml.Node, key: str, problems: Problems) -> dict[str, yaml.Node]:
    """A mapping's values by key; the second of two equal keys is a problem."""
    if not isinstance(node, yaml.MappingNode):
        problems.append((_line(node), f"{key or 'the file'}: must be a mapping"))
        return {}
    found: dict[str, yaml.Node] = {}
    for name_node, child in node.value:
        name = str(name_node.value)
        if name in found:
            problems.append((_line(name_node), f"{key}.{name}".lstrip(".") + ": twice"))
        found[name] = child
    return found


def _plain(node: yaml.Node) -> Any:
    """A scalar's value as YAML's core types have it; None for what is no scalar."""
    if not isinstance(node, yaml.ScalarNode):
        return None
    if node.tag in {"tag:yaml.org,2002:int", "tag:yaml.org,2002:bool"}:
        return yaml.safe_load(node.value)
    return node.value if node.tag == "tag:yaml.org,2002:str" else None


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1
