"""Model files that are damaged, or made to do harm: named, tried once, and nothing hangs."""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tiny_gguf import Forged, header_bytes, write

from hybrid_router.engines.llama.chat.template import Template
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import TaskRefused
from hybrid_router.workers.life import Dead, Loading, Resident, State
from hybrid_router.workers.worker import Worker

SCRIPT = Path(__file__).with_name("open_many.py")
FLIPS_COUNT = 250


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model."""
    path: Path = write(tmp_path_factory.mktemp("tiny") / "tiny.gguf")
    return path


def opened(*paths: Path) -> dict[str, str]:
    """What came of opening each file, as the child's engine does it."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, paths)],
        capture_output=True,
        check=True,
        timeout=60,
        text=True,
    )
    return dict(zip(map(str, paths), done.stdout.splitlines(), strict=True))


def test_no_flipped_bit_ends_the_process(tiny: Path, tmp_path: Path) -> None:
    """Hundreds of damaged headers: each is opened or named with a reason, by us or by llama.cpp."""
    chance = random.Random(4711)  # noqa: S311 - nobody guards anything with it
    paths = [tmp_path / f"{number}.gguf" for number in range(FLIPS_COUNT)]
    for path in paths:
        content = bytearray(tiny.read_bytes())
        content[chance.randrange(header_bytes(tiny))] ^= 1 << chance.randrange(8)
        path.write_bytes(content)

    said = opened(tiny, *paths)

    assert said.pop(str(tiny)) == "opened"
    assert {
        path: words
        for path, words in said.items()
        if words != "opened" and not words.startswith(f"failed: {path}: ")
    } == {}
    assert sum(words != "opened" for words in said.values()) > FLIPS_COUNT // 3


class Tried:
    """A worker of one file, and what it told."""

    def __init__(self, path: Path) -> None:
        self.states: list[State] = []
        self.lines: list[str] = []
        settings = LlamaSettings(path=str(path), context=64, parallel=1, threads=1, prefill_chunk=16)
        self.worker = Worker(settings, on_state=self.states.append, on_line=self.lines.append)


@asynccontextmanager
async def tried(path: Path) -> AsyncIterator[Tried]:
    """A worker with its real child, until nothing is being loaded."""
    made = Tried(path)
    made.worker.start(load=True)
    try:
        await made.worker.settled()
        yield made
    finally:
        await made.worker.close()


async def hopeless(path: Path) -> str:
    """Why a file is not opened.  It was tried once, and will not be again."""
    async with tried(path) as made:
        assert [type(state) for state in made.states] == [Loading, Dead], made.lines
        state = made.worker.state
        assert isinstance(state, Dead)
        assert state.until_s is None
        return state.reason


def spoilt(folder: Path, tiny: Path, way: str) -> Path:
    """A copy of the tiny model with something wrong about it."""
    path = folder / "bad.gguf"
    whole = tiny.read_bytes()
    path.write_bytes(
        {
            "empty": b"",
            "half": whole[: len(whole) // 2],
            "header": whole[: header_bytes(tiny) // 2],
            "text": b"a list of models\n" * 99,
            "counts": Forged(tensors=2**63, keys=2**63).bytes(99),
            "other order": b"GGUF\0\0\0\3" + whole[8:],
        }[way]
    )
    return path


@pytest.mark.parametrize(
    ("ways", "words"),
    [
        (("empty", "half"), ("the file is empty", "cut off: its tensors need")),
        (("header", "text"), ("cut off: ", "not a GGUF file (it begins with b'a li')")),
        (
            ("counts", "other order"),
            (f"claims {2**63} tensors", "written for machines of the other byte order"),
        ),
    ],
)
async def test_a_damaged_file_is_named_by_the_child(
    tmp_path: Path, tiny: Path, ways: tuple[str, ...], words: tuple[str, ...]
) -> None:
    """Through the real process, two at a time: file and reason, and no restart."""
    paths = []
    for way in ways:
        (tmp_path / way).mkdir()
        paths.append(spoilt(tmp_path / way, tiny, way))

    reasons = await asyncio.gather(*map(hopeless, paths))

    for path, reason, said in zip(paths, reasons, words, strict=True):
        assert reason.startswith(f"{path}: {said}")


@pytest.mark.parametrize(
    "templates",
    [
        ("{% for x in %}", "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}"),
        ("{% if 1 %}" * 3_000 + "{% endif %}" * 3_000, "{{ 9" + "9" * 100_000 + " }}"),
    ],
    ids=["syntax, parentheses", "blocks, digits"],
)
async def test_a_template_that_cannot_be_compiled_is_named_by_the_child(
    tmp_path: Path, templates: tuple[str, ...]
) -> None:
    """Not Jinja, or more of it than anybody means: the file is named, and tried once."""
    paths = [write(tmp_path / f"{number}.gguf", text) for number, text in enumerate(templates)]

    reasons = await asyncio.gather(*map(hopeless, paths))

    for path, reason in zip(paths, reasons, strict=True):
        assert reason.startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"llama__expert_count": 5000}, "n_expert <= LLAMA_MAX_EXPERTS"),
        ({"llama__rope__scaling__type": "odd"}, "GGML_ASSERT"),
    ],
)
async def test_a_file_that_ends_llama_cpp_is_opened_once(
    tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    """Its header is sound, and llama.cpp aborts over what it says: file, signal and last words are told."""
    path = write(tmp_path / "bad.gguf", **changed)

    reason = await hopeless(path)

    assert reason.startswith(f"{path}: worker was killed by SIGABRT while it opened this file: ")
    assert said in reason


def test_no_compiled_template_hangs_or_grows_without_end() -> None:
    """What renders for ever, or as large as it likes, is a refused task; the process keeps its size."""
    for source in (
        "{{ 10 ** 10 ** 10 }}",
        "{% set ns = namespace(s='a') %}{% for i in range(99) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
        "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}",
        "{{ 'a' * 10 ** 11 }}",
        "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}",
    ):
        template = Template(source, "", "")

        with pytest.raises(TaskRefused, match="chat template"):
            template.render([{"role": "user", "content": "x"}])


async def test_a_sound_file_is_opened(tiny: Path) -> None:
    """What the others are measured against."""
    async with tried(tiny) as made:
        state = made.worker.state
        assert isinstance(state, Resident), made.lines
        assert state.opened.context == 64
