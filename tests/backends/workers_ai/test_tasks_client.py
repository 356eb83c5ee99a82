"""Workers AI's tasks as a client sees them: through the real service, with OpenAI's own package."""

from __future__ import annotations

import base64
import math
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import openai
import pytest
import pytest_asyncio
from router_process import Router, stopped_at_end
from scripted_cloud import listening
from tasks_cloud import PICTURE, Server, result

pytestmark = [pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="module")]

POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
backends:
  cloudflare:
    type: workers_ai
    account_id: { env: CLOUDFLARE_ACCOUNT_ID }
    token: { env: CLOUDFLARE_API_TOKEN }
    base_url: http://127.0.0.1:PORT/client/v4
    pooling: cls
aliases:
  vectors: { try: cloudflare/@cf/baai/bge-small-en-v1.5 }
  rank: { try: cloudflare/@cf/baai/bge-reranker-base }
  omni-moderation-latest: { try: cloudflare/@cf/meta/llama-guard-3-8b }
  labels: { try: cloudflare/@cf/microsoft/resnet-50 }
  mood: { try: cloudflare/@cf/huggingface/distilbert-sst-2-int8 }
  look: { try: cloudflare/@cf/llava-hf/llava-1.5-7b-hf }
  german: { try: cloudflare/@cf/meta/m2m100-1.2b }
"""
SEEN = "data:image/png;base64," + base64.b64encode(PICTURE).decode()


def found(body: Any) -> object:
    """What Workers AI would find, told by the form of what it is asked."""
    match body:
        case bytes():
            return [{"label": "DOG", "score": 0.1}, {"label": "CAT", "score": 0.8}]
        case {"text": list(texts)}:
            return {"shape": [len(texts), 2], "data": [[3, 4]] * len(texts), "pooling": "cls"}
        case {"contexts": list(contexts)}:
            return {"response": [{"id": n, "score": 0.1 + n / 10} for n in range(len(contexts))][::-1]}
        case {"messages": [{"content": str(text)}]}:
            return {"response": "unsafe\nS10" if "hate" in text else "safe"}
    return _found_by_words(body)


def _found_by_words(body: dict[str, Any]) -> object:
    match body:
        case {"image": list(numbers), "prompt": str(prompt)}:
            return {"description": f"{prompt} {len(numbers)} bytes"}
        case {"target_lang": str(target)}:
            return {"translated_text": f"{target}: {body['text']}"}
    return [{"label": "NEGATIVE", "score": 0.1}, {"label": "POSITIVE", "score": 0.9}]


class Clients:
    """OpenAI's own, one for addresses that it does not know, and what came of both at the cloud."""

    def __init__(self, url: str, server: Server, session: aiohttp.ClientSession) -> None:
        self.openai = openai.AsyncOpenAI(base_url=url + "/v1", api_key="any", max_retries=0)
        self.server = server
        self._url = url
        self._session = session

    async def post(self, path: str, **body: Any) -> tuple[int, Any]:
        """Status and document."""
        async with self._session.post(self._url + path, json=body) as reply:
            return reply.status, await reply.json()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def clients(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Clients]:
    """Of a router in front of such a cloud."""
    server = Server(lambda body: result(found(body)))
    async with listening(server.serve) as port:
        router = Router(POLICY.replace("PORT", str(port)), tmp_path_factory.mktemp("tasks"))
        with stopped_at_end(router):
            async with aiohttp.ClientSession() as session:
                made = Clients(router.url, server, session)
                async with made.openai:
                    yield made


async def test_openais_client_embeds_judges_and_looks_through_workers_ai(clients: Clients) -> None:
    """A program written for OpenAI is answered by Cloudflare's models for these tasks."""
    client = clients.openai
    embedded = await client.embeddings.create(model="vectors", input=["a", "b"])
    shortened = await client.embeddings.create(model="vectors", input="a", dimensions=1)
    judged = await client.moderations.create(input=["I hate you", "I like you"])
    seen: Any = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": SEEN}},
    ]
    looked = await client.chat.completions.create(model="look", messages=[{"role": "user", "content": seen}])

    for one in embedded.data:
        assert math.isclose(math.hypot(*one.embedding), 1, rel_tol=1e-6)
    assert [one.index for one in embedded.data] == [0, 1]
    assert shortened.data[0].embedding == [1.0]
    assert [one.flagged for one in judged.results] == [True, False]
    assert (judged.results[0].categories.hate, judged.results[0].category_scores.hate) == (True, 1.0)
    assert looked.choices[0].message.content == f"What is this? {len(PICTURE)} bytes"
    assert looked.choices[0].finish_reason == "stop"
    assert {"text": ["a", "b"], "pooling": "cls"} in clients.server.asked


async def test_what_openai_has_no_address_for_is_done_through_workers_ai(clients: Clients) -> None:
    """Ranking, translation and classification, each at our own address."""
    _, ranked = await clients.post("/v1/rerank", model="rank", query="q", documents=["a", "b"])
    _, translated = await clients.post(
        "/v1/translate", model="german", input="house", source="en", target="de"
    )
    _, labelled = await clients.post("/v1/classify", model="labels", image=SEEN)
    _, felt = await clients.post("/v1/classify", model="mood", input="a joy", top_k=1)

    assert [one["index"] for one in ranked["results"]] == [1, 0]
    assert translated["translations"] == [{"index": 0, "text": "de: house", "source": "en"}]
    assert labelled["labels"][0] == {"label": "CAT", "score": 0.8}
    assert felt["labels"] == [{"label": "POSITIVE", "score": 0.9}]


async def test_what_no_model_can_do_is_said_to_the_client(clients: Clients) -> None:
    """With the field that is at fault, and without asking the cloud."""
    before = len(clients.server.asked)
    _, tokens = await clients.post("/v1/embeddings", model="vectors", input=[[1, 2]])
    status, strange = await clients.post(
        "/v1/translate", model="german", input="house", source="en", target="tlh"
    )
    with pytest.raises(openai.APIStatusError, match="chat"):
        await clients.openai.chat.completions.create(
            model="vectors", messages=[{"role": "user", "content": "Hi"}]
        )

    assert tokens["error"]["param"] == "input"
    assert (status, strange["error"]["param"]) == (400, "target")
    assert len(clients.server.asked) == before
