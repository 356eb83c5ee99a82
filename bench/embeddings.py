"""Embeddings through the service beside one bare `SentenceTransformer.encode` of the same texts."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path

import aiohttp
import msgspec

from bench.llama_figures import Goal, Row, Section
from bench.models_setup import MANIFEST, Service, Setup, compared, router
from bench.processes import BenchError, Child, python

_CALLERS_COUNT = 32
_TEXTS_COUNT = 256
_ALONE_COUNT = 48
# Words of a text, each of which is a token, and how far they stray: people's questions differ by more than
# pieces into which documents were cut.
_LENGTHS = {"questions of 8 words": (8, 0.5), "passages of 60 words": (60, 0.2)}
_OF_BARE, _OF_ALONE = Goal(at_least=0.8), Goal(at_least=3)
_BARE, _ALONE = "bare encode", "one at a time"
_SILENCE_S = 600.0
_SEED = 7
_WORDS = ("time", "year", "people", "way", "day", "man", "thing", "woman", "life", "child", "world", "school")


def measure(setup: Setup) -> Section:
    """Each length of text: 32 callers of one text at a time, one caller, and the library in one call."""
    rows: list[Row] = []
    path = MANIFEST.parent / "minilm-l6-v2"
    if not path.exists():
        raise BenchError("minilm-l6-v2 is not placed: run `hybrid-router models place minilm-l6-v2`")
    with (
        router(
            f"{{ weights: minilm-l6-v2, engine: sentence_transformers, threads: {setup.threads} }}"
        ) as ours,
        _bare(path, setup.threads) as bare,
    ):
        for name, (words_count, spread) in _LENGTHS.items():
            texts = _texts(words_count, spread, _TEXTS_COUNT)
            rows += _rows(setup, ours, bare, name, texts)
    notes = [
        f"all-MiniLM-L6-v2, {setup.threads} threads, {_TEXTS_COUNT} texts; texts a second. `{_BARE}`: one "
        "call with all of them, in a process that does nothing else; the router's callers wait for each "
        "answer. The client runs on the same cores."
    ]
    return Section(name="embeddings", title="Embeddings", rows=rows, notes=notes)


def _rows(setup: Setup, ours: Service, bare: Child, name: str, texts: list[str]) -> list[Row]:
    asyncio.run(_asked(ours.url, texts[:_CALLERS_COUNT], _CALLERS_COUNT))  # it loads the model, and warms up
    _encoded(bare, texts[:_CALLERS_COUNT])
    together, alone, plain = [], [], []
    for round_number in range(setup.rounds_count):
        setup.say(f"embeddings, {name}, round {round_number + 1}")
        plain.append(_TEXTS_COUNT / _encoded(bare, texts))
        together.append(_TEXTS_COUNT / asyncio.run(_asked(ours.url, texts, _CALLERS_COUNT)))
        alone.append(_ALONE_COUNT / asyncio.run(_asked(ours.url, texts[:_ALONE_COUNT], 1)))
    return [
        compared(f"{name}, {_CALLERS_COUNT} callers", together, _BARE, plain, _OF_BARE),
        compared(f"{name}, {_CALLERS_COUNT} callers", together, _ALONE, alone, _OF_ALONE),
    ]


async def _asked(url: str, texts: Sequence[str], callers_count: int) -> float:
    """Seconds until so many callers, each with one text at a time, have all vectors."""
    waiting = list(texts)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S)
    async with aiohttp.ClientSession(timeout=timeout) as session:

        async def caller() -> None:
            while waiting:
                asked = {"model": "default", "input": waiting.pop(), "encoding_format": "base64"}
                body = msgspec.json.encode(asked)
                headers = {"content-type": "application/json"}
                async with session.post(f"{url}/v1/embeddings", data=body, headers=headers) as reply:
                    if reply.status != HTTPStatus.OK:
                        raise BenchError(f"{reply.status}: {(await reply.text())[:500]}")
                    await reply.read()

        started_s = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(callers_count):
                group.create_task(caller())
        return time.perf_counter() - started_s


def _bare(path: Path, threads: int) -> Child:
    return Child(python("bench.embeddings_bare", path, threads), cores=os.sched_getaffinity(0))


def _encoded(bare: Child, texts: Sequence[str]) -> float:
    """Seconds that the library takes."""
    return bare.ask(list(texts), float, _SILENCE_S)


def _texts(words_count: int, spread: float, count: int) -> list[str]:
    """Texts of words that the vocabulary has, about as long as each other."""
    chosen = random.Random(_SEED)  # noqa: S311 - the same texts in every run
    lengths = [max(1, round(words_count * chosen.uniform(1 - spread, 1 + spread))) for _ in range(count)]
    return [" ".join(chosen.choice(_WORDS) for _ in range(length)) for length in lengths]
