"""The schema's type hints, taken apart: what a key holds, and what is noted beside it."""

from __future__ import annotations

import types
import typing
from dataclasses import dataclass
from typing import Any, TypeVar

from msgspec import NODEFAULT, Struct
from msgspec.structs import FieldInfo
from msgspec.structs import fields as struct_fields

T = TypeVar("T")


@dataclass(frozen=True)
class Hint:
    """A type without its wrapping: `base` is a scalar type, Literal, tuple, dict, Struct or a union."""

    base: Any
    notes: tuple[object, ...] = ()

    def note(self, kind: type[T]) -> T | None:
        """The note of this kind, if there is one."""
        return next((note for note in self.notes if isinstance(note, kind)), None)

    def has(self, kind: type) -> bool:
        """Whether there is a note of this kind."""
        return any(isinstance(note, kind) for note in self.notes)

    @property
    def members(self) -> tuple[Hint, ...]:
        """The types a union allows; otherwise only this one."""
        if typing.get_origin(self.base) not in {typing.Union, types.UnionType}:
            return (self,)
        return tuple(hint_of(member, self.notes) for member in typing.get_args(self.base))

    @property
    def structs(self) -> tuple[type[Struct], ...]:
        """The structs among the members."""
        return tuple(hint.base for hint in self.members if is_struct(hint.base))

    @property
    def item(self) -> Hint:
        """What a tuple or a mapping holds."""
        return hint_of(typing.get_args(self.base)[0 if self.is_list else 1])

    @property
    def key(self) -> Hint:
        """What a mapping's keys look like."""
        return hint_of(typing.get_args(self.base)[0])

    @property
    def is_list(self) -> bool:
        return typing.get_origin(self.base) is tuple

    @property
    def is_mapping(self) -> bool:
        return typing.get_origin(self.base) is dict

    @property
    def choices(self) -> tuple[str, ...]:
        """The words a Literal allows."""
        return typing.get_args(self.base) if typing.get_origin(self.base) is typing.Literal else ()


@dataclass(frozen=True)
class Field:
    """One key of a struct: as written, as an attribute, and what it holds."""

    key: str
    attribute: str
    hint: Hint
    default: object
    required: bool


def is_struct(base: object) -> bool:
    return isinstance(base, type) and issubclass(base, Struct)


def hint_of(annotation: Any, notes: tuple[object, ...] = ()) -> Hint:
    """Take `Annotated` and `| None` off."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            annotation, *more = typing.get_args(annotation)
            notes = (*notes, *more)
        elif origin in {typing.Union, types.UnionType} and types.NoneType in typing.get_args(annotation):
            rest = [member for member in typing.get_args(annotation) if member is not types.NoneType]
            annotation = typing.Union[tuple(rest)]  # noqa: UP007 - a union built from a list
        else:
            return Hint(annotation, notes)


def fields(struct: type[Struct]) -> tuple[Field, ...]:
    """The keys of a struct, in the order of the schema."""
    annotations = typing.get_type_hints(struct, include_extras=True)
    return tuple(
        Field(
            key=each.encode_name,
            attribute=each.name,
            hint=hint_of(annotations[each.name]),
            default=_default(each),
            required=each.default is NODEFAULT and each.default_factory is NODEFAULT,
        )
        for each in struct_fields(struct)
    )


def _default(each: FieldInfo) -> object:
    """What a key is when it is not written."""
    if each.default is NODEFAULT and each.default_factory is not NODEFAULT:
        return each.default_factory()
    return each.default


def tag(struct: type[Struct]) -> str | None:
    """The word that stands for this struct in a union."""
    found = struct.__struct_config__.tag
    return None if found is None else str(found)


def tag_key(struct: type[Struct]) -> str:
    """The key that holds the word: `type` or `engine`."""
    return str(struct.__struct_config__.tag_field)
