"""Node tree → structs of the schema, by their type hints, noting every problem on the way.

A bad value is left out and the walk goes on, so that one run names everything there is to mend.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

import yaml
from msgspec import Struct

from hybrid_router.config.hints import Field, Hint, fields, is_struct, tag, tag_key
from hybrid_router.config.marks import NonEmpty, NotHere, Short, Unit, Untagged
from hybrid_router.config.problems import KeyPath, Place, Problems, did_you_mean
from hybrid_router.config.scalars import Unfit, scalar
from hybrid_router.config.schema import MISPLACED

BAD: Final = object()
_KINDS: Final[Mapping[type, str]] = MappingProxyType(
    {bool: "true or false", int: "a whole number", float: "a number"}
)
_NULL = "tag:yaml.org,2002:null"
_EMPTY = "is empty: give it a value or remove the key"


def walk(node: yaml.Node, hint: Hint, path: KeyPath, problems: Problems) -> object:
    """The value at `node`, or `BAD` after noting why."""
    problems.place(path, _place(node), None)
    return _Walk(problems).value(node, hint, path)


def _place(node: yaml.Node) -> Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


class _Walk:
    def __init__(self, problems: Problems) -> None:
        self._problems = problems

    def value(self, node: yaml.Node, hint: Hint, path: KeyPath) -> object:
        if isinstance(node, yaml.ScalarNode) and node.tag == _NULL and node.style is None:
            return self._bad(path, _EMPTY)
        if hint.is_list:
            return self._list(node, hint, path)
        if hint.is_mapping:
            return self._mapping(node, hint, path)
        if isinstance(node, yaml.MappingNode) and hint.structs:
            return self._one_of(node, hint, path)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, hint, path)
        return self._bad(path, f"wants {wanted(hint)}, not {_written(node)}")

    def _bad(self, path: KeyPath, message: str, *, at_key: bool = False) -> object:
        self._problems.add(path, message, at_key=at_key)
        return BAD

    def _scalar(self, node: yaml.ScalarNode, hint: Hint, path: KeyPath) -> object:
        short = hint.note(Short)
        if short is not None:
            return self._short(node, hint.structs[0], short.key, path)
        plain = [member for member in hint.members if not is_struct(member.base)]
        if not plain:
            elsewhere = hint.note(NotHere)
            return self._bad(
                path, elsewhere.text if elsewhere else f"wants {wanted(hint)}, not {_written(node)}"
            )
        try:
            return _one_of(node, plain)
        except Unfit as unfit:
            return self._bad(path, str(unfit))

    def _short(self, node: yaml.ScalarNode, struct: type[Struct], key: str, path: KeyPath) -> object:
        """A struct written as just the value of one of its keys."""
        found = next(field for field in fields(struct) if field.key == key)
        value = self._scalar(node, found.hint, path)
        return value if value is BAD else struct(**{found.attribute: value})

    def _list(self, node: yaml.Node, hint: Hint, path: KeyPath) -> object:
        if isinstance(node, yaml.ScalarNode) and (hint.item.has(Short) or not is_struct(hint.item.base)):
            nodes = [node]  # one word needs no brackets
        elif isinstance(node, yaml.SequenceNode):
            nodes = node.value
        else:
            return self._bad(path, f"wants {wanted(hint)}, not {_written(node)}")
        if not nodes and hint.has(NonEmpty):
            return self._bad(path, "is an empty list: name something or remove the key")
        values = {}
        for index, item in enumerate(nodes):
            below = (*path, index)
            self._problems.place(below, _place(item))
            if (value := self.value(item, hint.item, below)) is not BAD:
                values[index] = value
        self._problems.keep(path, tuple(values))
        return tuple(values.values())

    def _mapping(self, node: yaml.Node, hint: Hint, path: KeyPath) -> object:
        if not isinstance(node, yaml.MappingNode):
            return self._bad(path, f"wants {wanted(hint)}, not {_written(node)}")
        if not node.value and hint.has(NonEmpty):
            return self._bad(path, "is empty: name something or remove the key")
        values = {}
        for name, item in self._entries(node, path).items():
            below = (*path, name)
            try:
                scalar(yaml.ScalarNode("", name), hint.key)
            except Unfit as unfit:
                self._bad(below, f"the name {unfit}", at_key=True)
            if (value := self.value(item, hint.item, below)) is not BAD:
                values[name] = value
        return values

    def _entries(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, yaml.Node]:
        """Keys as written, each once, each with its place noted."""
        entries: dict[str, yaml.Node] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._bad(path, "a key must be a word")
            elif key.value in entries:
                first = entries[key.value].start_mark.line + 1
                self._problems.place((*path, key.value), _place(key))
                self._bad((*path, key.value), f"is written twice; the other one is in line {first}")
            else:
                self._problems.place((*path, key.value), _place(value), _place(key))
                entries[key.value] = value
        return entries

    def _one_of(self, node: yaml.MappingNode, hint: Hint, path: KeyPath) -> object:
        """A mapping that is one of several structs; its `type`, or `engine`, says which."""
        entries = self._entries(node, path)
        structs = hint.structs
        if len(structs) == 1 and tag(structs[0]) is None:
            return self._struct(entries, structs[0], path)
        key = tag_key(structs[0])
        known = {str(tag(struct)): struct for struct in structs}
        written = entries.pop(key, None)
        if written is None:
            untagged = hint.note(Untagged)
            if untagged is None:
                return self._bad(path, f"needs `{key}`: one of {', '.join(known)}")
            return self._struct(entries, untagged.struct, path)
        if not isinstance(written, yaml.ScalarNode):
            return self._bad((*path, key), f"wants one of {', '.join(known)}, not {_written(written)}")
        if written.value not in known:
            return self._bad((*path, key), _unknown_kind(written.value, key, known))
        return self._struct(entries, known[written.value], path)

    def _struct(self, entries: dict[str, yaml.Node], struct: type[Struct], path: KeyPath) -> object:
        expected = {field.key: field for field in fields(struct)}
        values: dict[str, object] = {}
        for key, node in entries.items():
            if key in expected:
                values[expected[key].attribute] = self.value(node, expected[key].hint, (*path, key))
            else:
                self._bad((*path, key), _unknown(key, struct, expected), at_key=True)
        missing = [field for field in expected.values() if field.required and field.attribute not in values]
        for field in missing:
            self._bad(path, f"needs `{field.key}`: {wanted(field.hint)}")
        required = {field.attribute for field in expected.values() if field.required}
        if missing or any(values[attribute] is BAD for attribute in required):
            return BAD
        return struct(**{name: value for name, value in values.items() if value is not BAD})


def _one_of(node: yaml.ScalarNode, members: list[Hint]) -> object:
    """A word that stands for itself, as `auto`, or else the one value that is measured or counted.

    Raises:
        Unfit: neither.
    """
    words = [word for member in members for word in member.choices]
    values = [member for member in members if not member.choices]
    if not values or node.value in words:
        return scalar(node, next(member for member in members if member.choices or not values))
    try:
        return scalar(node, values[0])
    except Unfit as unfit:
        raise Unfit(f"{unfit}, or {' or '.join(words)}" if words else str(unfit)) from None


def _unknown_kind(kind: str, key: str, known: Iterable[str]) -> str:
    if not kind:
        return f"is empty: write one of {', '.join(known)}"
    return f"{kind!r} is no {'type of backend' if key == 'type' else key}{did_you_mean(kind, known)}"


def _unknown(key: str, struct: type[Struct], expected: dict[str, Field]) -> str:
    """What to do about a key that does not exist here."""
    if key == "<<":
        return "merge keys are not read here: write the values out"
    elsewhere = MISPLACED.get((struct, key))
    return elsewhere or f"no such key{did_you_mean(key, expected)}"


def wanted(hint: Hint) -> str:
    """What a key holds, in a few words."""
    if hint.is_list:
        return "a list"
    if hint.is_mapping:
        return "a mapping"
    if hint.choices:
        return f"one of {', '.join(hint.choices)}"
    words = []
    for member in hint.members:
        if not is_struct(member.base):
            words.append(_single(member))
        elif tag(member.base) is None:
            words.append(f"a mapping of {', '.join(field.key for field in fields(member.base))}")
        else:
            words.append(f"a mapping with {tag_key(member.base)}: {tag(member.base)}")
    return " or ".join(words)


def _single(member: Hint) -> str:
    """What a single value may be."""
    if member.choices:
        return " or ".join(member.choices)
    unit = member.note(Unit)
    if unit is not None:
        return "a duration, as in 30s" if unit.name == "duration" else "a size, as in 8MiB"
    return _KINDS.get(member.base, "text")


def _written(node: yaml.Node) -> str:
    match node:
        case yaml.MappingNode():
            return "a mapping"
        case yaml.SequenceNode():
            return "a list"
        case _:
            return "a single value"
