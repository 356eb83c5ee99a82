"""Reading a GGUF's header: what is right is read, what is wrong is named."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_cpp._ggml import libggml
from tiny_gguf import Forged, header_bytes, write

from hybrid_router.engines.llama import gguf
from hybrid_router.engines.llama.outline import Outline, outline
from hybrid_router.engines.task import EngineFailed

PAGE_BYTES = 4096
HEAD_BYTES = 2 * 2**20
HUGE = 2**63 + 5


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model."""
    return write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")


def outlined(path: Path) -> Outline:
    return outline(str(path), gguf.read(path))


def reason(path: Path, read: Callable[[Path], object] = gguf.read) -> str:
    """What is said to be wrong with a file, without its name, which stands before."""
    with pytest.raises(EngineFailed) as failed:
        read(path)
    name, _, why = str(failed.value).partition(": ")
    assert name == str(path)
    return why


def test_a_models_header_tells_what_it_is(tiny: Path) -> None:
    """Sizes as they were written, KV cells by layer, weights by layer; the output is the input once more."""
    found = outlined(tiny)

    assert (found.architecture, found.layers_count, found.context, found.width) == ("llama", 2, 128, 32)
    assert found.cells == ((16, 16), (16, 16))
    assert found.vocabulary_count == 262
    assert found.has_template
    assert len(set(found.layer_bytes)) == 1
    assert found.output_bytes == (262 * 32 + 32) * 4
    assert sum(found.layer_bytes) + found.output_bytes + header_bytes(tiny) == found.size_bytes


@pytest.mark.model
def test_the_starter_model_is_read(model_path: Path) -> None:
    """Its vocabulary is stepped over, its tensors are all there."""
    found = outlined(model_path)

    assert (found.layers_count, found.context, found.width) == (30, 8192, 576)
    assert found.cells == ((192, 192),) * 30
    assert found.vocabulary_count == 49152
    assert len(gguf.read(model_path).tensors) == 272


def test_sizes_of_blocks_are_the_librarys() -> None:
    """Every type that the library knows is known here, with the same sizes: a newer one has to be added."""
    libggml.ggml_blck_size.restype = libggml.ggml_type_size.restype = int
    known = {}
    for kind in range(43):
        if size_bytes := libggml.ggml_type_size(kind):
            known[kind] = (libggml.ggml_blck_size(kind), size_bytes)

    assert dict(gguf.BLOCKS) == known


def test_layers_may_differ(tmp_path: Path) -> None:
    """Heads by layer, layers without any, and layers that use another's cells."""
    by_layer = write(tmp_path / "a.gguf", llama__attention__head_count_kv=[2, 0])
    shared = write(tmp_path / "b.gguf", llama__attention__shared_kv_layers=1)
    sliding = write(
        tmp_path / "c.gguf",
        llama__attention__key_length_swa=4,
        llama__attention__value_length_swa=4,
        llama__attention__sliding_window_pattern=[True, False],
        llama__attention__sliding_window=64,
    )

    assert outlined(by_layer).cells == ((16, 16), (0, 0))
    assert outlined(shared).cells == ((16, 16), (0, 0))
    assert outlined(sliding).cells == ((8, 8), (16, 16))
    assert outlined(sliding).window == 64


WRONG: list[tuple[bytes, str]] = [
    (b"", "the file is empty"),
    (b"GG", "not a GGUF file (it begins with b'GG')"),
    (b"<!doctype html>" * 9, "not a GGUF file (it begins with b'<!do')"),
    (b"GGUF", "cut off: its version at byte 4 would end at 8, the file at 4"),
    (Forged(version=1).bytes(), "GGUF version 1; versions 2 and 3 are read"),
    (Forged(version=0x03000000).bytes(), "written for machines of the other byte order"),
    (Forged(tensors=HUGE).bytes(), f"claims {HUGE} tensors; at most 65536 are read"),
    (Forged(keys=HUGE).bytes(), f"claims {HUGE} keys; at most 65536 are read"),
    (Forged(keys=9).bytes(), "cut off: key 0 at byte 24 would end at 32, the file at 24"),
    (Forged(keys=1).text(b"k", HUGE).bytes(), f"key 0 claims {HUGE} bytes; at most 65535 are read"),
    (Forged(keys=1).text(b"").bytes(), "key 0 is not a name"),
    (Forged(keys=1).text(b"a\0b").bytes(), "key 0 is not a name"),
    (Forged(keys=1).text(b"k").raw("I", 77).bytes(), "key 'k' has a value of unknown type 77"),
    (Forged(keys=1).text(b"k").raw("IB", 7, 2).bytes(), "key 'k' is neither true nor false (2)"),
    (
        Forged(keys=2).text(b"k").raw("IB", 0, 1).text(b"k").raw("IB", 0, 1).bytes(),
        "key 'k' is there twice",
    ),
    (
        Forged(keys=1).text(b"k").raw("I", 8).text(b"", 2**40).bytes(),
        f"key 'k' claims {2**40} bytes; at most 4194304 are read",
    ),
    (Forged(keys=1).text(b"k").raw("IIQ", 9, 9, 1).bytes(), "key 'k' nests"),
    (Forged(keys=1).text(b"k").raw("IIQ", 9, 99, 1).bytes(), "key 'k' is an array of unknown type 99"),
    (
        Forged(keys=1).text(b"k").raw("IIQ", 9, 12, 2**60).bytes(),
        f"cut off: key 'k' at byte 49 would end at {2**63 + 49}, the file at 49",
    ),
    (
        Forged(keys=1).text(b"k").raw("IIQ", 9, 8, 2**40).bytes(),
        f"key 'k' claims {2**40} texts; at most 4194304 are read",
    ),
    (
        Forged(keys=1).text(b"k").raw("IIQ", 9, 8, 2).text(b"x").text(b"", HUGE).bytes(),
        "cut off: key 'k' at byte 49 would end at",
    ),
    (
        Forged(keys=1)
        .text(b"tokenizer.ggml.tokens")
        .raw("IIQ", 9, 8, 3)
        .text(b"a")
        .text(b"b")
        .text(b"a")
        .bytes(),
        "its vocabulary has 'a' twice",
    ),
    (
        Forged(keys=1).text(b"general.alignment").raw("II", 4, 24).bytes(),
        "general.alignment is no power of two up to 1048576",
    ),
    (
        Forged(keys=1).text(b"general.alignment").raw("II", 4, 0).bytes(),
        "general.alignment is no power of two up to 1048576",
    ),
    (Forged(tensors=1).text(b"n" * 64).bytes(), "the name of tensor 0 claims 64 bytes; at most 63 are read"),
    (Forged(tensors=1).tensor(shape=(1,) * 5).bytes(), "tensor 't' has 5 dimensions; at most 4 are read"),
    (Forged(tensors=1).tensor(shape=(32, 0)).bytes(), "tensor 't' has a dimension of 0"),
    (Forged(tensors=1).tensor(shape=(2**32, 2**32)).bytes(), f"tensor 't' claims {2**64} numbers"),
    (Forged(tensors=1).tensor(kind=4).bytes(), "tensor 't' has type 4, which this llama.cpp does not know"),
    (
        Forged(tensors=1).tensor(kind=2, shape=(48,)).bytes(),
        "tensor 't' has rows of 48 numbers in blocks of 32",
    ),
    (
        Forged(tensors=1).tensor(offset=32).bytes(999),
        "tensor 't' lies at offset 32, 0 was expected",
    ),
    (
        Forged(tensors=2).tensor().tensor(offset=128).bytes(999),
        "tensor 't' is there twice",
    ),
    (
        Forged(tensors=1).tensor(shape=(2**40,)).bytes(99),
        f"cut off: its tensors need {2**42 + 64} bytes, the file has 156",
    ),
    (
        Forged(tensors=1).text(b"\x1b[2J\xff").raw("I", 9).bytes(),
        "tensor '?[2J\N{REPLACEMENT CHARACTER}' has 9 dimensions; at most 4 are read",
    ),
]


@pytest.mark.parametrize(("content", "why"), WRONG, ids=[why[:40] for _, why in WRONG])
def test_what_is_wrong_is_named(tmp_path: Path, content: bytes, why: str) -> None:
    """With the file's name before it, and without believing, or reserving memory for, what it claims."""
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)

    assert reason(path).startswith(why)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"llama__block_count": 0}, "llama.block_count is not a whole number from 1 to 512"),
        ({"llama__block_count": 10**6}, "llama.block_count is not a whole number from 1 to 512"),
        ({"llama__block_count": "two"}, "llama.block_count is not a whole number from 1 to 512"),
        ({"llama__context_length": 0}, "llama.context_length is not a whole number"),
        ({"llama__attention__head_count_kv": [2.0, 2.5]}, "head_count_kv is not a list of whole numbers"),
        ({"llama__attention__head_count_kv": [2]}, None),
        ({"llama__attention__head_count_kv": [2] * 2000}, "head_count_kv is not a list of whole numbers"),
        ({"general__type": "adapter"}, "a LoRA adapter, not a model: name it under `adapters`"),
        ({"general__architecture": "clip"}, "a projector, not a model: name it as `projector`"),
        ({"general__architecture": "\x07"}, "its metadata has no general.architecture"),
        ({"general__architecture": "nonsense"}, "its metadata has no nonsense.block_count"),
        ({"split__count": 3}, "one of 3 parts of a model: join them with `llama-gguf-split --merge`"),
    ],
)
def test_what_no_model_says_is_named(tmp_path: Path, changed: dict[str, Any], why: str | None) -> None:
    """Numbers that llama.cpp would end its process over, and files that are no models of their own."""
    path = write(tmp_path / "odd.gguf", **changed)

    if why is None:
        assert outlined(path).layers_count == 2
    else:
        assert why in reason(path, outlined)


def test_a_vocabulary_alone_is_no_model(tmp_path: Path) -> None:
    """It is sound, and it cannot answer."""
    path = tmp_path / "vocabulary.gguf"
    path.write_bytes(Forged(keys=1).text(b"general.architecture").raw("I", 8).text(b"llama").bytes())

    assert gguf.read(path).tensors == ()
    assert "holds no tensors" in reason(path, outlined)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    """A pipe that nobody writes to, a folder, nothing at all."""
    os.mkfifo(tmp_path / "pipe")

    assert reason(tmp_path / "pipe") == "not a regular file"
    assert reason(tmp_path) == "not a regular file"
    assert reason(tmp_path / "none") == "cannot be read (No such file or directory)"


def test_a_header_of_any_length_is_cut_off(tiny: Path, tmp_path: Path) -> None:
    """Wherever a download stopped, also inside a number: never an answer, never another error."""
    path = tmp_path / "cut.gguf"
    content = tiny.read_bytes()
    lengths = [
        *range(5, header_bytes(tiny), 11),
        *range(header_bytes(tiny), len(content), 997),
        len(content) - 1,
    ]
    path.write_bytes(content)
    for length in sorted(lengths, reverse=True):
        os.truncate(path, length)

        assert reason(path).startswith("cut off: ")


@pytest.fixture(scope="module")
def starter(model_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The starter model's header, and behind it nothing but holes."""
    path = tmp_path_factory.mktemp("starter") / "starter.gguf"
    with model_path.open("rb") as whole, path.open("wb") as header:
        header.write(whole.read(HEAD_BYTES))
    os.truncate(path, model_path.stat().st_size)
    assert len(gguf.read(path).tensors) == 272
    yield path
    path.unlink()


@pytest.mark.model
def test_the_starter_model_cut_among_its_tensors(starter: Path, tmp_path: Path) -> None:
    """Any page may be the last one: sixty of them at random."""
    size_bytes = starter.stat().st_size
    chance = random.Random(4711)  # noqa: S311 - nobody guards anything with it
    pages = chance.sample(range(HEAD_BYTES // PAGE_BYTES, size_bytes // PAGE_BYTES), 60)
    path = tmp_path / "cut.gguf"
    shutil.copyfile(starter, path)
    for page in sorted(pages, reverse=True):
        os.truncate(path, page * PAGE_BYTES)

        assert reason(path).startswith("cut off: its tensors need ")


@pytest.mark.model
@pytest.mark.parametrize("quarter", range(4))
def test_the_starter_model_cut_at_every_page_of_its_header(
    starter: Path, tmp_path: Path, quarter: int
) -> None:
    """The first two MiB, where the vocabulary is."""
    path = tmp_path / "cut.gguf"
    with starter.open("rb") as whole:
        path.write_bytes(whole.read(HEAD_BYTES))
    for length in range(HEAD_BYTES - quarter * PAGE_BYTES, 0, -4 * PAGE_BYTES):
        os.truncate(path, length)

        assert reason(path).startswith("cut off: ")


@given(st.data())
def test_no_flipped_bit_does_more_than_be_named(tiny: Path, data: st.DataObject) -> None:
    """Whatever a damaged header says: a model, or `path: reason`; nothing else is raised."""
    content = bytearray(tiny.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, header_bytes(tiny) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = tiny.with_name("flipped.gguf")
    path.write_bytes(content)
    said = f"{path}: read"
    try:
        outlined(path)
    except EngineFailed as failed:
        said = str(failed)

    assert said.startswith(f"{path}: ")
