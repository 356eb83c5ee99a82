"""Embeddings and relevance through the real service: tiny models in real children, OpenAI's own package."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal
from urllib.request import Request, urlopen

import gguf
import numpy as np
import openai
import pytest
from gguf_models import CLS, SEP, WIDTH, Bert, bert
from router_process import Router, stopped_at_end

pytestmark = pytest.mark.timeout(60)

TEXTS = ["the cat sat on the mat", "the dog ran far", "red sun"]
DOCUMENTS = ["mat", "the sea", "bird flew home", "red red sun"]
ENCODINGS: tuple[Literal["float", "base64"], ...] = ("float", "base64")
POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
backends:
  local:
    type: local
    models:
      finder: { purpose: embed, threads: 1 }
      judge: { purpose: rerank, threads: 1 }
aliases:
  finder: { try: local/finder }
  judge: { try: local/judge }
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bert]:
    """One that embeds and one that ranks."""
    folder = tmp_path_factory.mktemp("tiny")
    return {
        "finder": bert(folder / "finder.gguf", gguf.PoolingType.MEAN),
        "judge": bert(folder / "judge.gguf", gguf.PoolingType.RANK, head=True),
    }


@pytest.fixture(scope="module")
def service(models: dict[str, Bert], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with both, and nothing else."""
    manifest = models["finder"].path.parent / "manifest.yaml"
    entries = {
        name: {
            "file": model.path.name,
            "sha256": hashlib.sha256(model.path.read_bytes()).hexdigest(),
            "size_bytes": model.path.stat().st_size,
        }
        for name, model in models.items()
    }
    manifest.write_text(json.dumps({"models": entries}))  # JSON is YAML
    started = Router(POLICY.replace("MANIFEST", str(manifest)), tmp_path_factory.mktemp("embedding_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=30) as made:
        yield made


def ranked(service: Router, **fields: Any) -> Any:
    body = json.dumps({"model": "judge", "query": "the red sun", "documents": DOCUMENTS, **fields})
    request = Request(  # noqa: S310 - our own address
        service.url + "/v1/rerank", body.encode(), {"content-type": "application/json"}
    )
    with urlopen(request, timeout=30) as reply:  # noqa: S310
        return json.load(reply)


def test_the_package_gets_vectors(client: openai.OpenAI, models: dict[str, Bert]) -> None:
    """In the order of the inputs, each what the model's arithmetic says, of length 1, with usage."""
    reply = client.embeddings.create(model="finder", input=TEXTS)

    assert [one.index for one in reply.data] == [0, 1, 2]
    for text, one in zip(TEXTS, reply.data, strict=True):
        wanted = models["finder"].hidden([CLS, *Bert.words(text), SEP]).mean(axis=0)
        assert np.dot(wanted, one.embedding) / np.linalg.norm(wanted) > 0.9999
        assert np.linalg.norm(one.embedding) == pytest.approx(1, abs=1e-5)
    counted = sum(len(text.split()) + 2 for text in TEXTS)
    assert (reply.usage.prompt_tokens, reply.usage.total_tokens) == (counted, counted)


def test_both_encodings_say_the_same(client: openai.OpenAI) -> None:
    """`base64` is the very numbers of `float`."""
    found: list[Any] = [
        client.embeddings.create(model="finder", input=TEXTS[0], encoding_format=form).data[0].embedding
        for form in ENCODINGS
    ]

    assert np.frombuffer(base64.b64decode(found[1]), "<f4") == pytest.approx(found[0])


def test_fewer_dimensions_are_a_vector_too(client: openai.OpenAI) -> None:
    """The first ones, at length 1 again; more than there are is the client's mistake."""
    whole = client.embeddings.create(model="finder", input=TEXTS[0]).data[0].embedding
    short = client.embeddings.create(model="finder", input=TEXTS[0], dimensions=8).data[0].embedding

    assert short == pytest.approx(np.array(whole[:8]) / np.linalg.norm(whole[:8]), abs=1e-5)
    with pytest.raises(openai.BadRequestError, match=str(WIDTH)):
        client.embeddings.create(model="finder", input=TEXTS[0], dimensions=WIDTH + 1)


def test_a_text_that_is_too_long_is_refused(client: openai.OpenAI) -> None:
    """By its place among the inputs, before anything is computed."""
    with pytest.raises(openai.BadRequestError, match=r"text 1 has 102 tokens") as refused:
        client.embeddings.create(model="finder", input=["sun", "sun " * 100])

    assert refused.value.code == "context_length_exceeded"


def test_documents_come_in_the_models_order(service: Router, models: dict[str, Bert]) -> None:
    """The most relevant first, with the model's own scores and, if wanted, their texts."""
    marks = [CLS, *Bert.words("the red sun"), SEP]
    scores = [models["judge"].score([*marks, *Bert.words(document)]) for document in DOCUMENTS]
    best = sorted(range(len(DOCUMENTS)), key=lambda index: -scores[index])

    reply = ranked(service, top_n=3, return_documents=True)

    assert [result["index"] for result in reply["results"]] == best[:3]
    for result in reply["results"]:
        assert result["relevance_score"] == pytest.approx(scores[result["index"]], abs=0.01)
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}
    assert reply["usage"]["prompt_tokens"] > 0


def test_calls_at_the_same_time_get_their_own_vectors(client: openai.OpenAI) -> None:
    """However they share batches."""
    inputs = [[f"{text} {word}" for text in TEXTS] for word in ("sun", "sea", "mat", "dog", "home", "far")]

    def vectors(texts: list[str]) -> list[list[float]]:
        return [one.embedding for one in client.embeddings.create(model="finder", input=texts).data]

    alone = [vectors(texts) for texts in inputs]
    with ThreadPoolExecutor(len(inputs)) as pool:
        together = list(pool.map(vectors, inputs))

    assert np.array(together) == pytest.approx(np.array(alone), abs=1e-3)


def test_a_model_that_embeds_does_not_chat(client: openai.OpenAI) -> None:
    """The client is told by name that nobody can do this."""
    with pytest.raises(openai.APIStatusError) as refused:
        client.chat.completions.create(model="finder", messages=[{"role": "user", "content": "hi"}])

    assert refused.value.code == "unsupported_parameter"
