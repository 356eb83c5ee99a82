"""Calls with recordings and pictures, and small files for them."""

from __future__ import annotations

import io
import os
import wave
from typing import Any

from PIL import Image
from scripted_cloud import batches

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.core.asks import Painting, Speech, Transcription
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.event import Batch, Event
from hybrid_router.core.upload import Upload, upload_of

WHISPER = "@cf/openai/whisper"
TINY = "@cf/openai/whisper-tiny-en"
TURBO = "@cf/openai/whisper-large-v3-turbo"
NOVA = "@cf/deepgram/nova-3"
M2M100 = "@cf/meta/m2m100-1.2b"


def recording(seconds: float = 2.0, rate: int = 8000) -> bytes:
    """Silence, as WAV."""
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(b"\0\0" * int(seconds * rate))
    return file.getvalue()


async def answered(backend: WorkersAI, call: Call, model: str) -> list[Event]:
    """All events of an answer; the call's files are closed with it."""
    return [event for batch in await batched(backend, call, model) for event in batch]


async def batched(backend: WorkersAI, call: Call, model: str) -> list[Batch]:
    """The same by batch."""
    try:
        return await batches(backend, call, model)
    finally:
        for upload in call.uploads:
            upload.close()


def hole(size_bytes: int) -> Upload:
    """A file that is large and takes no memory."""
    fd = os.memfd_create("hole")
    os.ftruncate(fd, size_bytes)
    return Upload(fd=fd, size_bytes=size_bytes)


def hear(content: bytes | Upload | None = None, prompt: str = "", media_type: str = "", **ask: Any) -> Call:
    """A call for a transcript."""
    content = recording() if content is None else content
    upload = content if isinstance(content, Upload) else upload_of(content, "talk", media_type)
    return Call(
        id="c1",
        operation=Operation.TRANSCRIBE,
        alias="a",
        prompts=(prompt,) if prompt else (),
        ask=Transcription(**ask),
        uploads=(upload,),
    )


def speak(text: str = "Good morning.", **ask: Any) -> Call:
    """A call for speech."""
    return Call(
        id="c1", operation=Operation.SPEAK, alias="a", prompts=(text,), stream=True, ask=Speech(**ask)
    )


def paint(
    *files: bytes,
    n: int = 1,
    seed: int | None = None,
    stream: bool = False,
    prompt: str = "a cat",
    **ask: Any,
) -> Call:
    """A call for pictures, made from `files` if there are any."""
    return Call(
        id="c1",
        operation=Operation.IMAGE,
        alias="a",
        prompts=(prompt,) if prompt else (),
        n=n,
        stream=stream,
        sampling=Sampling(seed=seed),
        ask=Painting(**ask),
        uploads=tuple(upload_of(content) for content in files),
    )


def picture(kind: str = "PNG", size: tuple[int, int] = (16, 16), colour: str = "red", **how: Any) -> bytes:
    """A picture file of one colour."""
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, kind, **how)
    return file.getvalue()
