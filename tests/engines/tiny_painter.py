"""A Stable Diffusion of some ten thousand random numbers, in the form that diffusers saves.

`tiny_painter.json` holds its configuration files and its tensors' shapes, as diffusers wrote them: so a test
that only needs the files does not import diffusers, which takes seconds.
"""

from __future__ import annotations

import json
import math
import random
from array import array
from pathlib import Path

SIDE = 32  # what it was made for: 16 latents of two pixels

_OUTLINE = Path(__file__).with_suffix(".json")


def write(folder: Path) -> Path:
    """Write one; returns the folder."""
    outline = json.loads(_OUTLINE.read_text())
    for name, content in {**outline["files"], "tokenizer/vocab.json": _vocabulary()}.items():
        _place(folder / name).write_text(json.dumps(content))
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    chance = random.Random(7)  # noqa: S311 - a model, no secret
    for name, shapes in outline["tensors"].items():
        _place(folder / name).write_bytes(_safetensors(shapes, chance))
    return folder


def _place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _vocabulary() -> dict[str, int]:
    """CLIP's form of a vocabulary, whose words are letters."""
    letters = [chr(code) for code in range(33, 127)]
    tokens = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{letter}</w>" for letter in letters)]
    return {token: number for number, token in enumerate(tokens)}


def _safetensors(shapes: dict[str, list[int]], chance: random.Random) -> bytes:
    """A file of tensors: the length of its head, the head, the numbers."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    numbers = array("f")
    for name, shape in shapes.items():
        begin = len(numbers) * numbers.itemsize
        numbers.extend(_numbers(name, shape, chance))
        end = len(numbers) * numbers.itemsize
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [begin, end]}
    written = json.dumps(head).encode()
    return len(written).to_bytes(8, "little") + written + numbers.tobytes()


def _numbers(name: str, shape: list[int], chance: random.Random) -> list[float]:
    """As a new network has them: norms leave what they get as it is, the rest keeps its scale."""
    count = math.prod(shape)
    if len(shape) == 1:
        return [float(name.endswith("weight"))] * count
    spread = 1 / math.sqrt(math.prod(shape[1:]))
    return [chance.gauss(0, spread) for _ in range(count)]
