"""Speech through the service beside bare hibari: the same voice, threads and text."""

from __future__ import annotations

import asyncio
import os
import time
from http import HTTPStatus

import aiohttp

from bench.llama_figures import Goal, Row, Section
from bench.models_setup import MANIFEST, Service, Setup, compared, router
from bench.processes import BenchError, Child, python
from bench.sentences import TEN

_MODEL = "hibari"
_BARE = "bare hibari"
_FIRST = Goal(at_most=2.0)
_WHOLE = Goal(at_least=0.9)
_SILENCE_S = 60.0
_SAMPLE_BYTES = 2
_RATE_HZ = 24_000


def measure(setup: Setup) -> Section:
    """Ten sentences: milliseconds to the first byte of sound, and seconds of sound made in a second."""
    if not (MANIFEST.parent / _MODEL).exists():
        raise BenchError(f"{_MODEL} is not placed: run `hybrid-router models place {_MODEL}`")
    with (
        router(f"{{ weights: {_MODEL}, engine: speech, threads: {setup.threads} }}") as ours,
        Child(python("bench.speech_bare", setup.threads), cores=os.sched_getaffinity(0)) as bare,
    ):
        rows = _rows(setup, ours, bare)
    notes = [
        f"{_MODEL}, {setup.threads} threads, raw samples (`pcm`). Bare: from the text to the first "
        "sentence's samples, in a process that does nothing else. The router's: from the request to the "
        "first byte of its answer's body."
    ]
    return Section(name="speech", title="Speech", rows=rows, notes=notes)


def _rows(setup: Setup, ours: Service, bare: Child) -> list[Row]:
    asyncio.run(_served(ours.url))  # it loads the model, and warms up
    _plain(bare)
    served, plain = [], []
    for number in range(setup.rounds_count):
        setup.say(f"speech, round {number + 1}")
        plain.append(_plain(bare))
        served.append(asyncio.run(_served(ours.url)))
    return [
        compared(
            "first sound of ten sentences, ms",
            [first_s * 1000 for first_s, _ in served],
            _BARE,
            [first_s * 1000 for first_s, _ in plain],
            _FIRST,
        ),
        compared(
            "seconds of sound made in a second",
            [rate for _, rate in served],
            _BARE,
            [rate for _, rate in plain],
            _WHOLE,
        ),
    ]


def _plain(bare: Child) -> tuple[float, float]:
    """Seconds until the first sound is there, and how many of it were made in a second."""
    first_s, took_s, sample_count = bare.ask(TEN, tuple[float, float, int], _SILENCE_S)
    return first_s, sample_count / _RATE_HZ / took_s


async def _served(url: str) -> tuple[float, float]:
    """The same, of an answer."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S)
    body = {"model": "default", "input": TEN, "response_format": "pcm"}
    async with aiohttp.ClientSession(timeout=timeout) as session:
        started_s = time.perf_counter()
        async with session.post(f"{url}/v1/audio/speech", json=body) as reply:
            if reply.status != HTTPStatus.OK:
                raise BenchError(f"{reply.status}: {(await reply.read())[:500]!r}")
            first = await reply.content.readany()
            first_s = time.perf_counter() - started_s
            size_bytes = len(first) + len(await reply.read())
        took_s = time.perf_counter() - started_s
        return first_s, size_bytes / _SAMPLE_BYTES / _RATE_HZ / took_s
