"""The llama part: tokens a second of the router, of its engine alone, and of llama-cpp-python's own class."""

from __future__ import annotations

import importlib.util
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
from msgspec import Struct

from bench.llama_asks import Ask, Opening, Told, prompt
from bench.processes import ROOT, BenchError, Child, free_port, python
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.weights import weights

BARE, ENGINE, ROUTER = "Llama, bare script", "engine, in process", "router, over HTTP"
STREAMS = (1, 2)
_WEIGHTS = "smollm2-135m-instruct"
_CONTEXT, _PARALLEL, _PREFILL_CHUNK = 2048, 2, 256
_ASK_S = 120.0

_ROUTER_YAML = """
server:
  listen: 127.0.0.1:{port}
manifest: {manifest}
backends:
  local:
    type: local
    models:
      smollm2: {{ weights: {weights}, context: {context}, parallel: {parallel}, threads: {threads} }}
aliases:
  default:
    try: local/smollm2
"""


class Row(Struct, kw_only=True):
    """One subject with so many streams: medians over the rounds.

    Attributes:
        tokens_per_s: of all streams together, prompt included in the time.
        ratio: `tokens_per_s` of the bare script's in the same round.
        first_s, last_s: TTFT of the stream that began first, and of the one that began last.
    """

    subject: str
    streams_count: int
    tokens_per_s: float
    ratio: float
    first_s: float
    last_s: float


class Llamas(Struct, kw_only=True):
    """The whole part."""

    rows: list[Row]
    rounds_count: int
    tokens_count: int
    threads: int
    context: int
    skipped: str | None = None


Round = dict[str, Told]


def measure(rounds_count: int, tokens_count: int, say: Callable[[str], None]) -> Llamas:
    """Measure one stream and two at once, one subject at a time, round by round.

    Raises:
        BenchError: something did not start, or did not answer.
    """
    threads = len(os.sched_getaffinity(0))
    llamas = Llamas(
        rows=[], rounds_count=rounds_count, tokens_count=tokens_count, threads=threads, context=_CONTEXT
    )
    path = _model()
    if isinstance(path, str):
        llamas.skipped = path
        return llamas
    rounds: dict[int, list[Round]] = {streams: [] for streams in STREAMS}
    numbers = count()
    with _subjects(path, threads) as subjects:
        for child in subjects.values():
            _ask(child, 1, 8, numbers)  # the first call touches every page of the weights
        for number in range(rounds_count):
            for streams in STREAMS:
                say(f"round {number + 1} of {rounds_count}: {streams} stream{'s'[: streams - 1]}")
                told = {name: _ask(child, streams, tokens_count, numbers) for name, child in subjects.items()}
                rounds[streams].append(told)
    llamas.rows = [_row(name, streams, rounds[streams]) for streams in STREAMS for name in rounds[1][0]]
    return llamas


def _model() -> Path | str:
    """The starter model, or why it cannot be measured."""
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed"
    try:
        return weights(ROOT / "models" / "manifest.yaml", _WEIGHTS)
    except ModelFileError as error:
        return error.message


def _ask(child: Child, streams: int, tokens_count: int, numbers: Iterator[int]) -> Told:
    ask = Ask(prompts=[prompt(next(numbers)) for _ in range(streams)], tokens_count=tokens_count)
    told = child.ask(ask, Told, _ASK_S)
    if told.tokens_count < streams * tokens_count // 2:
        raise BenchError(f"{told.tokens_count} tokens came, {streams} × {tokens_count} were asked for")
    return told


@contextmanager
def _subjects(path: Path, threads: int) -> Iterator[dict[str, Child]]:
    """All three with the model open; only one is asked at a time."""
    opening = Opening(path=str(path), context=_CONTEXT, threads=threads, parallel=_PARALLEL)
    packed = msgspec.json.encode(opening).decode()
    cores = os.sched_getaffinity(0)
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        bare = stack.enter_context(Child(python("bench.llama_bare", packed), cores=cores))
        engine = stack.enter_context(
            Child(python("bench.llama_engine", packed, _PREFILL_CHUNK), cores=cores, stderr=Path(folder, "e"))
        )
        port = _router(stack, Path(folder), threads)
        client = stack.enter_context(Child(python("bench.llama_client", port, "default"), cores=cores))
        yield {BARE: bare, ENGINE: engine, ROUTER: client}


def _router(stack: ExitStack, room: Path, threads: int) -> int:
    """The real service; the port it listens on."""
    port, config = free_port(), room / "router.yaml"
    config.write_text(
        _ROUTER_YAML.format(
            port=port,
            manifest=ROOT / "models" / "manifest.yaml",
            weights=_WEIGHTS,
            context=_CONTEXT,
            parallel=_PARALLEL,
            threads=threads,
        )
    )
    command = python("hybrid_router", "serve", "--config", config, "--log-format", "json")
    child = Child(command, cores=os.sched_getaffinity(0), stderr=room / "log")
    stack.enter_context(child).wait_for(port)
    return port


def _row(name: str, streams: int, rounds: list[Round]) -> Row:
    mine = [one[name] for one in rounds]
    return Row(
        subject=name,
        streams_count=streams,
        tokens_per_s=statistics.median(map(_rate, mine)),
        ratio=statistics.median(_rate(one[name]) / _rate(one[BARE]) for one in rounds),
        first_s=statistics.median(min(one.ttfts_s) for one in mine),
        last_s=statistics.median(max(one.ttfts_s) for one in mine),
    )


def _rate(told: Told) -> float:
    return told.tokens_count / told.seconds
