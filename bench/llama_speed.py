"""Tokens a second, and how even they come while a long prompt is computed beside them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from bench.llama_asks import Ask, Opening, Told, body, prompt, words
from bench.llama_client import Said, Server, Stream, attempts, session
from bench.llama_figures import BARE, ENGINE, Goal, Samples, Section, in_turn
from bench.llama_subjects import Setup, Shape, servers
from bench.processes import BenchError, Child, python

_SLOTS, _STREAMS = 8, (1, 8, 32)
_ASK_S = 600.0
_QUIET_TEXTS = 24  # a stream has so many before the long prompt comes
_ENOUGH = 2000  # tokens that no stream reaches while the long prompt is computed


def throughput(setup: Setup) -> Section:
    """One stream, eight, thirty-two in eight slots; `Llama` and our engine alone for comparison."""
    samples, numbers = Samples(), count()
    shape = Shape(256 + setup.tokens_count, _SLOTS)
    with servers(setup, shape) as listening, _children(setup, shape) as children:
        for child in children.values():
            _asked(child, 1, 8, numbers)  # the first call touches every page of the weights
        for number in range(setup.rounds_count):
            for streams in _STREAMS:
                for name in in_turn((*listening, *children), number):
                    setup.say(f"throughput, round {number + 1}: {streams} at {name}")
                    if name in children:
                        if streams <= _SLOTS:
                            told = _asked(children[name], streams, setup.tokens_count, numbers)
                            _note(samples, streams, name, told)
                    else:
                        _measure(samples, listening[name], streams, setup.tokens_count, numbers)
    goals = {
        _rate_of(1): Goal(at_least=1.0),
        _rate_of(8): Goal(at_least=1.05),
        "32 streams, failed": Goal(at_most=0, of_ratio=False),
    }
    return Section(
        name="throughput",
        title="Throughput",
        rows=samples.rows(goals),
        notes=[
            f"{setup.tokens_count} tokens a stream, greedy, {_SLOTS} slots of {shape.context} tokens, no "
            "prompt twice; tokens of all streams together over the time from the first question to the last "
            "token, prompts included. First token: the latest of the streams. "
            "`Llama` answers one call at a time, so its eight streams are one after the other."
        ],
    )


def _rate_of(streams: int) -> str:
    return f"{streams} stream{'s'[: streams - 1]}, tokens/s"


def _measure(
    samples: Samples, server: Server, streams: int, tokens_count: int, numbers: Iterator[int]
) -> None:
    said = attempts(server, [body(prompt(next(numbers)), tokens_count) for _ in range(streams)])
    whole = [one for one in said if one.error is None]
    if not whole:
        raise BenchError(f"{server.name}: {said[0].error}")
    seconds = max(one.ended_s for one in whole) - min(one.sent_s for one in said)
    told = Told(
        seconds=seconds,
        tokens_count=sum(one.tokens_count for one in whole),
        ttfts_s=[one.ttft_s for one in whole],
    )
    _note(samples, streams, server.name, told)
    if streams > _SLOTS:
        samples.add(f"{streams} streams, failed", server.name, len(said) - len(whole))


def _note(samples: Samples, streams: int, name: str, told: Told) -> None:
    samples.add(_rate_of(streams), name, told.tokens_count / told.seconds)
    samples.add(f"{streams} stream{'s'[: streams - 1]}, first token s", name, max(told.ttfts_s))


def _asked(child: Child, streams: int, tokens_count: int, numbers: Iterator[int]) -> Told:
    ask = Ask(prompts=[prompt(next(numbers)) for _ in range(streams)], tokens_count=tokens_count)
    return child.ask(ask, Told, _ASK_S)


@contextmanager
def _children(setup: Setup, shape: Shape) -> Iterator[dict[str, Child]]:
    """Subjects that no server stands before, in processes of their own."""
    opening = Opening(
        path=str(setup.path), context=shape.context, threads=setup.threads, parallel=shape.slots_count
    )
    packed, cores = msgspec.json.encode(opening).decode(), os.sched_getaffinity(0)
    modules = {ENGINE: "bench.llama_engine", BARE: "bench.llama_bare"}
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        yield {
            name: stack.enter_context(Child(python(module, packed), cores=cores, stderr=Path(folder, module)))
            for name, module in modules.items()
        }


def evenness(setup: Setup) -> Section:
    """Eight streams, quiet and while a long prompt is computed in a ninth slot."""
    samples = Samples()
    shape = Shape(setup.long_count + 256, _SLOTS + 1)
    quiet, beside, ratio = "quiet, ITL p99 ms", "beside the prompt, ITL p99 ms", "beside ÷ quiet, p99"
    with servers(setup, shape) as listening:
        for number in range(setup.rounds_count):
            for name in in_turn(listening, number):
                setup.say(f"evenness, round {number + 1}: {name}")
                long = body(words(setup.long_count, f"long {number}"), 4)
                gaps, pressed, said = asyncio.run(_beside(listening[name], number, long))
                samples.add("quiet, ITL p50 ms", name, 1000 * _quantile(gaps, 0.5))
                samples.add(quiet, name, 1000 * _quantile(gaps, 0.99))
                samples.add(beside, name, 1000 * _quantile(pressed, 0.99))
                samples.add("beside the prompt, longest gap ms", name, 1000 * max(pressed))
                samples.add(ratio, name, _quantile(pressed, 0.99) / _quantile(gaps, 0.99))
                samples.add("the prompt's first token s", name, said.ttft_s)
    return Section(
        name="evenness",
        title="Evenness: eight streams beside a long prompt",
        rows=samples.rows({ratio: Goal(at_most=3.0, of_ratio=False)}),
        notes=[
            f"{_SLOTS} streams in {shape.slots_count} slots of {shape.context} tokens; after "
            f"{_QUIET_TEXTS} tokens of each comes a prompt of {setup.long_count} tokens. ITL: between two "
            "arrivals of one stream's text, all streams together; a gap counts as beside the prompt if any "
            "of it lies between that call and its first token."
        ],
    )


async def _beside(
    server: Server, number: int, long: dict[str, object]
) -> tuple[list[float], list[float], Said]:
    """The gaps of the streams before the long prompt and beside it, and its own stream."""
    calls = [body(prompt(100 * number + i), _ENOUGH) for i in range(_SLOTS)]
    streams = [Stream(server, call, _QUIET_TEXTS) for call in calls]
    async with session() as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one.run(client)) for one in streams]
        for one in streams:
            await one.begun.wait()
        said = await Stream(server, long).run(client)
        for task in tasks:
            task.cancel()
    if error := next((one.error for one in (said, *(one.said for one in streams)) if one.error), None):
        raise BenchError(f"{server.name}: {error}")
    start_s = max(one.said.arrivals_s[0] for one in streams)
    gaps = [gap for one in streams for gap in pairwise(one.said.arrivals_s)]
    quiet = [b - a for a, b in gaps if a >= start_s and b < said.sent_s]
    beside = [b - a for a, b in gaps if b >= said.sent_s and a < said.arrivals_s[0]]
    return quiet, beside, said


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that so large a share does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
