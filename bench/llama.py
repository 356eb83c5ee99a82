"""The llama part: the router's local engine beside llama-server and llama-cpp-python's own class."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from bench.llama_drafting import drafting
from bench.llama_figures import Section
from bench.llama_forms import schemas, tools
from bench.llama_reuse import prefix, turns
from bench.llama_room import cancelling, leaks, memory
from bench.llama_same import same
from bench.llama_speed import evenness, throughput
from bench.llama_subjects import WEIGHTS, Setup
from bench.processes import ROOT, BenchError
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.weights import weights

LEAK = "leak"
SECTIONS: Mapping[str, Callable[[Setup], Section]] = {
    "throughput": throughput,
    "evenness": evenness,
    "prefix": prefix,
    "turns": turns,
    "memory": memory,
    "cancel": cancelling,
    "same": same,
    "schemas": schemas,
    "tools": tools,
    "drafting": drafting,
    LEAK: leaks,
}


class Llamas(Struct, kw_only=True):
    """The whole part."""

    sections: list[Section]
    rounds_count: int
    threads: int


def model() -> Path:
    """The starter model.

    Raises:
        BenchError: it cannot be measured; says why.
    """
    if importlib.util.find_spec("llama_cpp") is None:
        raise BenchError("llama-cpp-python is not installed")
    try:
        return weights(ROOT / "models" / "manifest.yaml", WEIGHTS)
    except ModelFileError as error:
        raise BenchError(error.message) from None


def measure(
    setup: Setup, names: Sequence[str], done: Callable[[Llamas], None] = lambda _so_far: None
) -> Llamas:
    """The sections of these names, one after the other.  One that fails says so in its place.

    `done` is told after each, since the whole takes long: the newest section is the last.
    """
    llamas = Llamas(sections=[], rounds_count=setup.rounds_count, threads=setup.threads)
    for name in names:
        try:
            llamas.sections.append(SECTIONS[name](setup))
        except BenchError as error:
            llamas.sections.append(Section(name=name, title=name, notes=[f"Not measured: {error}"]))
        done(llamas)
    return llamas
