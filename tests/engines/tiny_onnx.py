"""ONNX models of a few nodes, written by hand: onnxruntime reads them, and nothing here needs onnx."""

from __future__ import annotations

from pathlib import Path

FLOAT, INT32, INT64 = 1, 6, 7
Tensors = dict[str, tuple[int, tuple[int | str, ...]]]  # name → element type, shape
_INT, _INTS = 2, 7  # kinds of attributes


def _number(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of protobuf: a number, or anything with a length."""
    if isinstance(value, int):
        return _number(number << 3) + _number(value)
    content = value.encode() if isinstance(value, str) else value
    return _number(number << 3 | 2) + _number(len(content)) + content


def node(kind: str, given: list[str], made: str, **attributes: int | list[int]) -> bytes:
    """An operator, with attributes that are numbers or lists of them."""
    out = b"".join(_field(1, name) for name in given) + _field(2, made) + _field(4, kind)
    for name, value in attributes.items():
        if isinstance(value, int):
            out += _field(5, _field(1, name) + _field(3, value) + _field(20, _INT))
        else:
            values = b"".join(_field(8, each) for each in value)
            out += _field(5, _field(1, name) + values + _field(20, _INTS))
    return out


def _tensor(name: str, kind: int, shape: tuple[int | str, ...]) -> bytes:
    dims = b"".join(_field(1, _field(1 if isinstance(dim, int) else 2, dim)) for dim in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, kind) + _field(2, dims)))


def write(path: Path, nodes: list[bytes], given: Tensors, made: Tensors) -> Path:
    """A model file."""
    graph = b"".join(_field(1, each) for each in nodes) + _field(2, "tiny")
    graph += b"".join(_field(11, _tensor(name, *kind)) for name, kind in given.items())
    graph += b"".join(_field(12, _tensor(name, *kind)) for name, kind in made.items())
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(1, "") + _field(2, 13)))
    return path


def kokoro(path: Path, tokens: str = "tokens", pace: int = FLOAT) -> Path:
    """What Kokoro takes and gives: each token makes a sample of token × mean style ÷ pace."""
    nodes = [
        node("Cast", [tokens], "numbers", to=FLOAT),
        node("Cast", ["speed"], "pace", to=FLOAT),
        node("ReduceMean", ["style"], "loudness", axes=[1], keepdims=1),
        node("Mul", ["numbers", "loudness"], "loud"),
        node("Div", ["loud", "pace"], "waveform"),
    ]
    given: Tensors = {tokens: (INT64, (1, "L")), "style": (FLOAT, (1, 256)), "speed": (pace, (1,))}
    return write(path, nodes, given, {"waveform": (FLOAT, (1, "L"))})
