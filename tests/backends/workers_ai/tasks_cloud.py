"""A server that answers by what it is asked, and calls of every task that is no text."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from scripted_cloud import CLOSE, HOLD, Reply, listening, make, plain, received

from hybrid_router.backends.workers_ai import WorkersAI
from hybrid_router.backends.workers_ai.tasks.task import Asked
from hybrid_router.catalogue import workers_ai as catalogue
from hybrid_router.catalogue.families import family
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.core.asks import Classification, Moderation, Translation
from hybrid_router.core.call import Call, ImagePart, Message, Operation, TextPart
from hybrid_router.core.upload import Upload, upload_of

BGE = "@cf/baai/bge-base-en-v1.5"
M3 = "@cf/baai/bge-m3"
QWEN = "@cf/qwen/qwen3-embedding-0.6b"
GEMMA = "@cf/google/embeddinggemma-300m"
RERANKER = "@cf/baai/bge-reranker-base"
RESNET = "@cf/microsoft/resnet-50"
DETR = "@cf/facebook/detr-resnet-50"
DISTILBERT = "@cf/huggingface/distilbert-sst-2-int8"
LLAVA = "@cf/llava-hf/llava-1.5-7b-hf"
UFORM = "@cf/unum/uform-gen2-qwen-500m"
M2M100 = "@cf/meta/m2m100-1.2b"
INDICTRANS = "@cf/ai4bharat/indictrans2-en-indic-1B"
BART = "@cf/facebook/bart-large-cnn"
GUARD = "@cf/meta/llama-guard-3-8b"

PICTURE = b"\x89PNG not looked at"
Answer = Callable[[Any], Reply]


def result(found: object) -> Reply:
    """An envelope around what was found."""
    return plain({"result": found, "success": True, "errors": [], "messages": []})


class Server:
    """Answers each request by its body: parsed, or bytes where it is no JSON.

    `asked` holds the bodies in the order in which they came, `most_count` how many there were at once.
    """

    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._running_count = 0
        self.asked: list[Any] = []
        self.paths: list[str] = []
        self.media_types: list[str] = []
        self.most_count = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, kept alive until a reply ends it."""
        while await self._one(reader, writer):
            pass

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        line, headers, asked = await received(reader)
        self._running_count += 1
        self.most_count = max(self.most_count, self._running_count)
        self.media_types.append(headers["content-type"])
        self.paths.append(line.split()[1].partition("/ai/")[2])
        self.asked.append(asked)
        await asyncio.sleep(0)  # others may come in between
        pieces = self._answer(asked)
        self._running_count -= 1
        for piece in pieces:
            if piece == CLOSE:
                return False
            if piece == HOLD:
                await reader.read()
                return False
            assert isinstance(piece, bytes)
            writer.write(piece)
            await writer.drain()
        return True


@asynccontextmanager
async def tasks_cloud(answer: Answer, **config: Any) -> AsyncIterator[tuple[WorkersAI, Server]]:
    """A backend that asks a server on a free port, and that server."""
    server = Server(answer)
    async with listening(server.serve) as port:
        backend = make(f"http://127.0.0.1:{port}/client/v4", **config)
        try:
            yield backend, server
        finally:
            await backend.close()


def asked_of(model: str, call: Call, **config: Any) -> Asked:
    """What a task is given."""
    models = catalogue.load().by_id()
    known = models[model]
    settings = WorkersAIBackend(account_id="0" * 32, token=SecretSource(), **config)
    return Asked(call=call, model=model, family=family(known), known=known, config=settings, models=models)


def embed(*prompts: str | tuple[int, ...], **more: Any) -> Call:
    """Texts to embed."""
    return Call(id="c1", operation=Operation.EMBED, alias="a", prompts=prompts, **more)


def rerank(query: str, *documents: str | tuple[int, ...], **more: Any) -> Call:
    """Documents to rank."""
    return Call(id="c1", operation=Operation.RERANK, alias="a", query=query, prompts=documents, **more)


def classify(*, uploads: tuple[Upload, ...] = (), prompts: tuple[str, ...] = (), top_k: int = 5) -> Call:
    """Something to classify."""
    ask = Classification(top_k=top_k)
    return Call(id="c1", operation=Operation.CLASSIFY, alias="a", uploads=uploads, prompts=prompts, ask=ask)


def picture(content: bytes = PICTURE) -> Upload:
    """A file."""
    return upload_of(content, media_type="image/png")


def translate(*prompts: str, target: str = "de", source: str | None = "en") -> Call:
    """Texts to translate."""
    ask = Translation(target=target, source=source)
    return Call(id="c1", operation=Operation.TRANSLATE, alias="a", prompts=prompts, ask=ask)


def moderate(*prompts: str, uploads: tuple[Upload, ...] = ()) -> Call:
    """Texts to judge."""
    return Call(
        id="c1", operation=Operation.MODERATE, alias="a", prompts=prompts, uploads=uploads, ask=Moderation()
    )


def shown(text: str = "What is this?", content: bytes = PICTURE) -> Message:
    """What a user says of a picture."""
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    return Message(role="user", content=[TextPart(text=text), ImagePart(image_url={"url": url})])


def talk(*messages: Message, **more: Any) -> Call:
    """A chat."""
    return Call(id="c1", operation=Operation.CHAT, alias="a", messages=messages, **more)
