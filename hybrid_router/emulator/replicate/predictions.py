"""The predictions that were made, and the files that went in and came out."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from hybrid_router.api.gallery import media_type
from hybrid_router.api.openai.vectors import floats
from hybrid_router.core import ids
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Batch, Embedding, Heard, Picture, Segment, Sound, Text, Usage
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.stage import interrupted, invalid

Document: TypeAlias = dict[str, Any]
CANCELED = "canceled"
KEPT_COUNT = 1000
SHELF_BYTES = 256 * 2**20
CREATED_AT = "2026-01-01T00:00:00.000Z"


class Stored(Struct, frozen=True):
    """A file."""

    content: bytes
    media_type: str


class Shelf:
    """Files by their names.  When it is full, the oldest make room."""

    def __init__(self, most_bytes: int = SHELF_BYTES) -> None:
        self._most_bytes = most_bytes
        self._files: dict[str, Stored] = {}
        self._size_bytes = 0

    def put(self, file: Stored) -> str:
        """Its new name."""
        self._size_bytes += len(file.content)
        while self._files and self._size_bytes > self._most_bytes:
            self.take(next(iter(self._files)))
        name = ids.new("")
        self._files[name] = file
        return name

    def find(self, name: str) -> Stored | None:
        """A file, if it is here."""
        return self._files.get(name)

    def take(self, name: str) -> Stored | None:
        """The same, which is then not here any more."""
        if (found := self._files.pop(name, None)) is not None:
            self._size_bytes -= len(found.content)
        return found


class Prediction(Struct, kw_only=True):
    """One run of a model.  `looks_left`: so often it is told to be on its way."""

    id: str
    call: Call
    given: Document
    stream: bool
    fault: Fault
    looks_left: int = 0
    status: str = "starting"
    output: Any = None
    usage: Usage | None = None

    @property
    def ended(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status not in {"starting", "processing"}

    def end(self, status: str) -> None:
        """Let go of its files.  What has ended stays as it is."""
        if self.ended:
            return
        for upload in self.call.uploads:
            upload.close()
        self.status = status


class Shop:
    """All of an account: the newest predictions, and files."""

    def __init__(self, kept_count: int = KEPT_COUNT) -> None:
        self._kept_count = kept_count
        self._predictions: dict[str, Prediction] = {}
        self.inputs = Shelf()
        self.outputs = Shelf()

    def add(self, made: Prediction) -> None:
        """Keep a prediction; the oldest one makes room for it."""
        self._predictions[made.id] = made
        if len(self._predictions) > self._kept_count:
            self._predictions.pop(next(iter(self._predictions))).end(CANCELED)

    def find(self, id_: str) -> Prediction:
        """Raises Refusal: there is none."""
        if (found := self._predictions.get(id_)) is None:
            raise invalid("The requested resource could not be found.", 404)
        return found

    def input(self, address: str) -> bytes | None:
        """A file that was put here, by its address."""
        found = self.inputs.find(address.rpartition("/")[2])
        return None if found is None else found.content

    def close(self) -> None:
        """Let go of what has not ended."""
        for made in self._predictions.values():
            made.end(CANCELED)

    def document(self, made: Prediction, root: str) -> Document:
        """A prediction as it is told."""
        base = f"{root}/v1/predictions/{made.id}"
        urls = {"get": base, "cancel": f"{base}/cancel"}
        if made.stream:
            urls["stream"] = f"{root}/v1/streams/{made.id}"
        counted = made.usage
        metrics = (
            {}
            if counted is None
            else {
                "input_token_count": counted.prompt_tokens,
                "output_token_count": counted.completion_tokens,
            }
        )
        return {
            "id": made.id,
            "model": made.call.alias,
            "version": "hidden",
            "input": made.given,
            "status": made.status,
            "output": made.output,
            "error": None,
            "logs": " 50%|█████     | 1/2" if made.status == "processing" else "",
            "metrics": metrics,
            "created_at": CREATED_AT,
            "urls": urls,
        }

    async def finish(self, made: Prediction, batches: AsyncGenerator[Batch], root: str) -> None:
        """Have it done, once."""
        if made.ended:
            await batches.aclose()
            return
        async with aclosing(batches):
            events = [event async for batch in batches for event in batch]
        made.usage = next((event for event in events if isinstance(event, Usage)), None)
        made.output = self._output(made.call.operation, events, root)
        made.end("succeeded")

    def _output(self, operation: Operation, events: Batch, root: str) -> Any:
        match operation:
            case Operation.IMAGE:
                pictures = [event.content for event in events if isinstance(event, Picture)]
                return [self._kept(content, media_type(content), root) for content in pictures]
            case Operation.SPEAK:
                content = b"".join(event.content for event in events if isinstance(event, Sound))
                return self._kept(content, "audio/mpeg", root)
            case Operation.EMBED:
                return [{"embedding": floats(each.values)} for each in events if isinstance(each, Embedding)]
            case Operation.TRANSCRIBE:
                return _transcript(events)
        return [event.text for event in events if isinstance(event, Text)]

    def _kept(self, content: bytes, kind: str, root: str) -> str:
        return f"{root}/delivery/{self.outputs.put(Stored(content, kind))}/out"


def _transcript(events: Batch) -> Document:
    segments = [event for event in events if isinstance(event, Segment)]
    heard = next((event for event in events if isinstance(event, Heard)), None)
    return {
        "transcription": "".join(segment.text for segment in segments),
        "segments": [{"start": each.start_s, "end": each.end_s, "text": each.text} for each in segments],
        "detected_language": "" if heard is None else heard.language,
    }


def frame(name: str, data: str) -> bytes:
    """A named event.  Each line of its data stands in a line of its own."""
    lines = "".join(f"data: {line}\n" for line in data.split("\n"))
    return f"event: {name}\nid: 1:0\n{lines}\n".encode()


def error_frame(fault: Fault) -> bytes:
    """An error as an event."""
    return frame("error", msgspec.json.encode({"detail": interrupted(fault).message}).decode())


async def frames(made: Prediction, batches: AsyncGenerator[Batch]) -> AsyncGenerator[bytes]:
    """A prediction as a stream, up to its end or until it is cancelled; of one that has ended, its output."""
    if made.ended:
        for text in made.output or ():
            yield frame("output", text)
        yield _done(made)
        return
    said: list[str] = []
    made.status = "processing"
    async with aclosing(batches):
        async for batch in batches:
            for event in batch:
                if made.status == CANCELED:
                    yield _done(made)
                    return
                if isinstance(event, Text) and event.text:
                    said.append(event.text)
                    yield frame("output", event.text)
                elif isinstance(event, Usage):
                    made.usage = event
    made.output = said
    made.end("succeeded")
    yield _done(made)


def _done(made: Prediction) -> bytes:
    return frame("done", '{"reason": "canceled"}' if made.status == CANCELED else "{}")
