"""Transcription through the service beside bare faster-whisper: the same model, settings and recordings."""

from __future__ import annotations

import asyncio
import os
import time
from http import HTTPStatus
from pathlib import Path
from tempfile import TemporaryDirectory

import aiohttp
import msgspec
import numpy as np

from bench.llama_figures import Goal, Row, Section
from bench.models_setup import MANIFEST, Service, Setup, compared, router
from bench.processes import BenchError, Child, cpu_s, python
from bench.sentences import PLAIN

_MODEL = "whisper-tiny-en"
_BARE = "bare faster-whisper"
_OF_BARE = Goal(at_least=0.95)
_SILENCE_S = 600.0
_RATE_HZ = 24_000
_REPEATS = (1, 5)


def measure(setup: Setup) -> Section:
    """Ten sentences, and five times as many: seconds of sound heard in a second, and in a second of CPU."""
    path = MANIFEST.parent / _MODEL
    if not path.exists():
        raise BenchError(f"{_MODEL} is not placed: run `hybrid-router models place {_MODEL}`")
    rows: list[Row] = []
    with (
        TemporaryDirectory(prefix="bench-") as folder,
        router(f"{{ weights: {_MODEL}, engine: whisper, threads: {setup.threads} }}") as ours,
        Child(python("bench.transcription_bare", path, setup.threads), cores=os.sched_getaffinity(0)) as bare,
    ):
        for repeat in _REPEATS:
            rows += _rows(setup, ours, bare, Path(folder) / f"{repeat}.wav", repeat)
    notes = [
        f"{_MODEL}, int8, beam of 5, voice detection, {setup.threads} threads; seconds of sound a second. "
        "`CPU`: a second of all processors that worked for it, the router's and its child's. Bare: a file's "
        "path to the text, in a process that does nothing else. The router's client sends the file."
    ]
    return Section(name="transcription", title="Transcription", rows=rows, notes=notes)


def _rows(setup: Setup, ours: Service, bare: Child, path: Path, repeat: int) -> list[Row]:
    sound_s = _speak(path, repeat)
    asyncio.run(_asked(ours.url, path))  # it loads the model, and warms up
    _heard(bare, path)
    walls: tuple[list[float], list[float]] = ([], [])
    cpus: tuple[list[float], list[float]] = ([], [])
    same = True
    for number in range(setup.rounds_count):
        setup.say(f"transcription, {sound_s:.0f} s of speech, round {number + 1}")
        before = cpu_s(bare.pids), cpu_s(ours.child.pids)
        plain_s, plain_text = _heard(bare, path)
        served_s, served_text = asyncio.run(_asked(ours.url, path))
        same = same and plain_text.split() == served_text.split()
        walls[0].append(sound_s / served_s)
        walls[1].append(sound_s / plain_s)
        cpus[0].append(sound_s / (cpu_s(ours.child.pids) - before[1]))
        cpus[1].append(sound_s / (cpu_s(bare.pids) - before[0]))
    name = f"{sound_s:.0f} s of speech, {'the same words' if same else 'other words'}"
    return [
        compared(name, walls[0], _BARE, walls[1], _OF_BARE),
        compared(f"{name}, CPU", cpus[0], _BARE, cpus[1], _OF_BARE),
    ]


def _speak(path: Path, repeat: int) -> float:
    """Write a wav of the sentences, so many times, with pauses; how long it is."""
    from hibari import Hibari, write_wav  # noqa: PLC0415 - loading a voice is slow

    voice, pause = Hibari(), np.zeros(_RATE_HZ, np.float32)
    once = np.concatenate([part for text in PLAIN for part in (voice(text, seed=1), pause)])
    write_wav(str(path), np.tile(once, repeat))
    return float(len(once) * repeat / _RATE_HZ)


def _heard(bare: Child, path: Path) -> tuple[float, str]:
    return bare.ask(str(path), tuple[float, str], _SILENCE_S)


async def _asked(url: str, path: Path) -> tuple[float, str]:
    """Seconds until the transcript is there, and what it says."""
    timeout = aiohttp.ClientTimeout(total=None, sock_read=_SILENCE_S)
    content = path.read_bytes()  # noqa: ASYNC240 - nothing else runs
    async with aiohttp.ClientSession(timeout=timeout) as session:
        started_s = time.perf_counter()
        form = aiohttp.FormData({"model": "default"})
        form.add_field("file", content, filename="talk.wav", content_type="audio/wav")
        async with session.post(f"{url}/v1/audio/transcriptions", data=form) as reply:
            body = await reply.read()
            if reply.status != HTTPStatus.OK:
                raise BenchError(f"{reply.status}: {body[:500]!r}")
        return time.perf_counter() - started_s, msgspec.json.decode(body)["text"]
