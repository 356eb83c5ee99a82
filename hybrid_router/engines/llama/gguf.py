"""A GGUF's header: metadata and the list of tensors, read before llama.cpp sees the file.

llama.cpp trusts what a file claims and may end the process over it.  Here every claim is held against the
file's size before it is believed; what is not needed is stepped over, not decoded.

Source: docs/gguf.md of ggml; gguf.cpp of llama.cpp as llama-cpp-python 0.3.36 wraps it.
"""

from __future__ import annotations

import mmap
import os
import stat
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeAlias

from hybrid_router.engines.task import EngineFailed

# Far above what real files have, and little enough to be stepped over in seconds.
_MOST_KEYS = 1 << 16
_MOST_TENSORS = 1 << 16
_MOST_TEXTS = 1 << 22
_KEY_BYTES = (1 << 16) - 1
_TEXT_BYTES = 1 << 22
_NAME_BYTES = 63  # GGML_MAX_NAME, with its end
_MOST_DIMENSIONS = 4
_HEADER_BYTES = 1 << 29
_SHORT_COUNT = 1024  # arrays of numbers up to this length are read: a number for each layer
_DEFAULT_ALIGNMENT = 32
_MOST_ALIGNMENT = 1 << 20
_MOST_ELEMENTS = (1 << 63) - 1

_VOCABULARY = "tokenizer.ggml.tokens"
_ARRAY_HEAD_BYTES = 16  # types of the value and of its items, and how many there are
_TEXT, _ARRAY, _BOOL = 8, 9, 7
_NUMBERS: Mapping[int, struct.Struct] = MappingProxyType(
    {code: struct.Struct("<" + letter) for code, letter in enumerate("BbHhIif?") if code != _BOOL}
    | {code: struct.Struct("<" + letter) for code, letter in ((10, "Q"), (11, "q"), (12, "d"))}
    | {_BOOL: struct.Struct("<B")}
)
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")

# ggml_type → numbers in a block, bytes of a block.
BLOCKS: Mapping[int, tuple[int, int]] = MappingProxyType(
    {
        0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34), 9: (32, 36),
        10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210), 15: (256, 292),
        16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18), 21: (256, 110),
        22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4), 27: (1, 8), 28: (1, 8),
        29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17), 40: (64, 36),
        41: (128, 18), 42: (64, 18),
    }
)  # fmt: skip


@dataclass(frozen=True)
class Array:
    """An array of the metadata.  `values` are there if it is short and holds numbers.

    `kind` is the code of its items' type.
    """

    kind: int
    count: int
    values: tuple[int | float, ...] | None = None


Value: TypeAlias = int | float | bool | str | Array


@dataclass(frozen=True)
class Tensor:
    """One tensor: its shape, fastest dimension first, its ggml type, and its bytes in the file."""

    name: str
    shape: tuple[int, ...]
    kind: int
    offset: int
    size_bytes: int


@dataclass(frozen=True)
class Gguf:
    """What a GGUF says of itself.

    Attributes:
        metadata: key → value.
        tensors: in the file's order.
        size_bytes: of the whole file.
    """

    metadata: dict[str, Value]
    tensors: tuple[Tensor, ...]
    size_bytes: int


class _Wrong(Exception):
    """What is wrong with the file, without its name."""


def read(path: str | Path) -> Gguf:
    """Read the header of a file and check that everything it speaks of is there.

    Raises:
        EngineFailed: it cannot be read, is no GGUF, is damaged or cut off; `path: reason`.
    """
    try:
        with _opened(Path(path)) as view:
            return _Reader(view).gguf()
    except OSError as error:
        raise EngineFailed(f"{path}: cannot be read ({error.strerror})") from error
    except _Wrong as wrong:
        raise EngineFailed(f"{path}: {wrong}") from None


def _opened(path: Path) -> mmap.mmap:
    """The file's bytes, none of them read yet."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a pipe would be waited for
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise _Wrong("not a regular file")
        if found.st_size == 0:
            raise _Wrong("the file is empty")
        return mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    finally:
        os.close(descriptor)


def _shown(raw: bytes) -> str:
    """A name from the file in an error: short, and nothing a terminal would act on."""
    text = raw[:64].decode("utf-8", "replace")
    return "'" + "".join(c if c.isprintable() else "?" for c in text) + ("…" if len(raw) > 64 else "") + "'"  # noqa: PLR2004


class _Reader:
    """Walks through a file's header.  `at` is where it is; whatever moves it stays inside the file."""

    def __init__(self, view: mmap.mmap) -> None:
        self._view = view
        self._size = len(view)
        self._limit = min(self._size, _HEADER_BYTES)
        self._at = 0
        self._texts_count = 0

    def gguf(self) -> Gguf:
        tensors_count, keys_count = self._head()
        metadata: dict[str, Value] = {}
        for _ in range(keys_count):
            self._entry(metadata)
        alignment = _alignment(metadata)
        described = [self._described(index) for index in range(tensors_count)]
        _unique(described)
        start = _padded(self._at, alignment) if described else self._at
        tensors = tuple(_placed(described, start, alignment))
        end = max((tensor.offset + tensor.size_bytes for tensor in tensors), default=start)
        if end > self._size:
            raise _Wrong(f"cut off: its tensors need {end} bytes, the file has {self._size}")
        return Gguf(metadata, tensors, self._size)

    def _head(self) -> tuple[int, int]:
        """Magic and version; how many tensors and keys there are."""
        magic = self._view[:4]
        if magic != b"GGUF":
            raise _Wrong(f"not a GGUF file (it begins with {magic!r})")
        self._at = 4
        version = self._number(_U32, "its version")
        if version & 0xFFFF == 0:
            raise _Wrong("written for machines of the other byte order")
        if version not in {2, 3}:
            raise _Wrong(f"GGUF version {version}; versions 2 and 3 are read")
        tensors_count = self._number(_U64, "the number of tensors")
        keys_count = self._number(_U64, "the number of keys")
        if tensors_count > _MOST_TENSORS:
            raise _Wrong(f"claims {tensors_count} tensors; at most {_MOST_TENSORS} are read")
        if keys_count > _MOST_KEYS:
            raise _Wrong(f"claims {keys_count} keys; at most {_MOST_KEYS} are read")
        return tensors_count, keys_count

    def _number(self, form: struct.Struct, what: str) -> Any:
        at = self._step(form.size, what)
        return form.unpack_from(self._view, at)[0]

    def _step(self, count: int, what: str) -> int:
        """Go on by `count` bytes; where it was before."""
        at = self._at
        if count > self._limit - at:
            if self._limit < self._size:
                raise _Wrong(f"its header is over {_HEADER_BYTES} bytes long")
            raise _Wrong(f"cut off: {what} at byte {at} would end at {at + count}, the file at {self._size}")
        self._at = at + count
        return at

    def _text(self, most_bytes: int, what: str) -> bytes:
        length = self._number(_U64, what)
        if length > most_bytes:
            raise _Wrong(f"{what} claims {length} bytes; at most {most_bytes} are read")
        at = self._step(length, what)
        return self._view[at : at + length]

    def _entry(self, metadata: dict[str, Value]) -> None:
        """One key and its value."""
        raw = self._text(_KEY_BYTES, f"key {len(metadata)}")
        if not raw or b"\0" in raw:
            raise _Wrong(f"key {len(metadata)} is not a name")
        name = raw.decode("utf-8", "replace")
        if name in metadata:
            raise _Wrong(f"key {_shown(raw)} is there twice")
        begun_at = self._at
        value = metadata[name] = self._value(f"key {_shown(raw)}")
        if name == _VOCABULARY and isinstance(value, Array) and value.kind == _TEXT:
            self._check_distinct(begun_at + _ARRAY_HEAD_BYTES, value.count)

    def _check_distinct(self, at: int, count: int) -> None:
        """A vocabulary with one text twice ends llama.cpp's process.  Empty ones are told apart by it."""
        seen = set(self._texts(at, count))
        if len(seen) == count:
            return
        seen.clear()
        for text in self._texts(at, count):
            if text in seen and text:
                raise _Wrong(f"its vocabulary has {_shown(text)} twice")
            seen.add(text)

    def _texts(self, at: int, count: int) -> Iterator[bytes]:
        """Texts that were stepped over before."""
        view, length_at = self._view, _U64.unpack_from
        for _ in repeat(None, count):
            begin = at + 8
            at = begin + length_at(view, at)[0]
            yield view[begin:at]

    def _value(self, what: str) -> Value:
        kind = self._number(_U32, what)
        if kind == _TEXT:
            return self._text(_TEXT_BYTES, what).decode("utf-8", "replace")
        if kind == _ARRAY:
            return self._array(what)
        if kind not in _NUMBERS:
            raise _Wrong(f"{what} has a value of unknown type {kind}")
        number: int | float = self._number(_NUMBERS[kind], what)
        return _truth(number, what) if kind == _BOOL else number

    def _array(self, what: str) -> Array:
        kind, count = self._number(_U32, what), self._number(_U64, what)
        if kind == _TEXT:
            self._skip_texts(count, what)
            return Array(kind, count)
        if kind not in _NUMBERS:
            raise _Wrong(f"{what} is an array of unknown type {kind}" if kind != _ARRAY else f"{what} nests")
        at = self._step(count * _NUMBERS[kind].size, what)
        if count > _SHORT_COUNT:
            return Array(kind, count)
        form = _NUMBERS[kind]
        values = tuple(form.unpack_from(self._view, at + i * form.size)[0] for i in range(count))
        return Array(kind, count, values)

    def _skip_texts(self, count: int, what: str) -> None:
        """Step over so many texts: a vocabulary has hundreds of thousands, so nothing else is done here."""
        self._texts_count += count
        if self._texts_count > _MOST_TEXTS:
            raise _Wrong(f"{what} claims {count} texts; at most {_MOST_TEXTS} are read")
        if count * _U64.size > self._limit - self._at:
            self._step(count * _U64.size, what)
        at, view, length_at = self._at, self._view, _U64.unpack_from
        try:
            for _ in repeat(None, count):
                at += 8 + length_at(view, at)[0]
        except (struct.error, OverflowError):
            at = self._size + 1
        self._step(at - self._at, what)

    def _described(self, index: int) -> Tensor:
        """One tensor as the header describes it, its offset still that within the tensors' bytes."""
        raw = self._text(_NAME_BYTES, f"the name of tensor {index}")
        what = f"tensor {_shown(raw)}"
        count = self._number(_U32, what)
        if count > _MOST_DIMENSIONS:
            raise _Wrong(f"{what} has {count} dimensions; at most {_MOST_DIMENSIONS} are read")
        shape = tuple(self._number(_U64, what) for _ in range(count))
        kind = self._number(_U32, what)
        offset = self._number(_U64, what)
        return Tensor(raw.decode("utf-8", "replace"), shape, kind, offset, _size_bytes(shape, kind, what))


def _truth(number: float, what: str) -> bool:
    if number not in {0, 1}:
        raise _Wrong(f"{what} is neither true nor false ({number})")
    return number == 1


def _alignment(metadata: dict[str, Value]) -> int:
    """What every tensor's offset is a multiple of."""
    value = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(value, int) or not 0 < value <= _MOST_ALIGNMENT or value & (value - 1):
        raise _Wrong(f"general.alignment is no power of two up to {_MOST_ALIGNMENT}")
    return value


def _size_bytes(shape: tuple[int, ...], kind: int, what: str) -> int:
    """Bytes of a tensor."""
    if kind not in BLOCKS:
        raise _Wrong(f"{what} has type {kind}, which this llama.cpp does not know")
    elements_count = 1
    for dimension in shape:
        if dimension == 0:
            raise _Wrong(f"{what} has a dimension of 0")
        elements_count *= dimension
    if elements_count > _MOST_ELEMENTS:
        raise _Wrong(f"{what} claims {elements_count} numbers")
    block_count, block_bytes = BLOCKS[kind]
    if (shape[0] if shape else 1) % block_count:
        raise _Wrong(f"{what} has rows of {shape[0] if shape else 1} numbers in blocks of {block_count}")
    return elements_count // block_count * block_bytes


def _unique(tensors: list[Tensor]) -> None:
    seen: set[str] = set()
    for tensor in tensors:
        if tensor.name in seen:
            raise _Wrong(f"tensor {_shown(tensor.name.encode())} is there twice")
        seen.add(tensor.name)


def _padded(count: int, alignment: int) -> int:
    return -(-count // alignment) * alignment


def _placed(tensors: list[Tensor], start: int, alignment: int) -> Iterator[Tensor]:
    """Tensors with their offset in the file.  They lie one behind the other, as llama.cpp wants them."""
    expected = 0
    for tensor in tensors:
        if tensor.offset != expected:
            name = _shown(tensor.name.encode())
            raise _Wrong(f"tensor {name} lies at offset {tensor.offset}, {expected} was expected")
        yield Tensor(tensor.name, tensor.shape, tensor.kind, start + expected, tensor.size_bytes)
        expected += _padded(tensor.size_bytes, alignment)
