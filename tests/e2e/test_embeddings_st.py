"""sentence-transformers through the real service: the real all-MiniLM-L6-v2, OpenAI's own package."""

from __future__ import annotations

import base64
import importlib.util
import json
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import openai
import pytest
from encoder_folders import cross_encoder, linked
from manifest_entries import folder_entry
from recordings import whisper_tiny, words
from router_process import Router, stopped_at_end

from bench.sentences import TEN

# Each worker imports torch and the library, which takes many seconds where others compute too.
pytestmark = pytest.mark.timeout(180)

WITHIN_S = 150
POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
timeouts: { load: 150s, first_token: 160s, total: 200s }
backends:
  local:
    type: local
    models:
      minilm: { engine: sentence_transformers, threads: 1 }
      judge: { engine: sentence_transformers, purpose: rerank, threads: 1, preload: false }
      voice: { engine: speech, threads: 1, preload: false }
      ears: { engine: whisper, threads: 1, preload: false }
aliases:
  minilm: { try: local/minilm }
  judge: { try: local/judge }
  voice: { try: local/voice }
  ears: { try: local/ears }
"""
ENGINES = {
    "minilm": "sentence_transformers",
    "judge": "sentence_transformers",
    "voice": "speech",
    "ears": "whisper",
}
DOCUMENTS = ["the sea is deep", "red", "a bird flew home", "sun and moon"]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with both, a voice, and ears."""
    models = tmp_path_factory.mktemp("encoders")
    prompts = {"prompts": {"query": "search for: ", "odd": "odd one "}}
    linked(models / "minilm", config_sentence_transformers_json=prompts)
    cross_encoder(models / "judge")
    starter_voice(models / "voice")
    (models / "ears").mkdir()
    for file in whisper_tiny().iterdir():
        (models / "ears" / file.name).symlink_to(file)
    entries = {name: folder_entry(models / name, engine) for name, engine in ENGINES.items()}
    (models / "manifest.yaml").write_text(json.dumps({"models": entries}))  # JSON is YAML
    started = Router(
        POLICY.replace("MANIFEST", str(models / "manifest.yaml")), tmp_path_factory.mktemp("router")
    )
    with stopped_at_end(started):
        yield started


def starter_voice(folder: Path) -> None:
    """The voice as its package installs it."""
    spec = importlib.util.find_spec("hibari")
    assert spec is not None, "the starter voice is not installed: run `make test`"
    assert spec.origin is not None
    folder.mkdir()
    (folder / "hibari.onnx").symlink_to(Path(spec.origin).parent / "assets" / "hibari.onnx")


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=WITHIN_S) as made:
        yield made


def vector(client: openai.OpenAI, text: str | list[int], **fields: Any) -> list[float]:
    """Of one input."""
    given = text if isinstance(text, str) else [text]
    return client.embeddings.create(model="minilm", input=given, extra_body=fields).data[0].embedding


def likeness(one: list[float], other: list[float]) -> float:
    """The cosine, for vectors of length 1."""
    return sum(a * b for a, b in zip(one, other, strict=True))


def ranked(service: Router, **fields: Any) -> Any:
    body = json.dumps({"model": "judge", "query": "the red sun", "documents": DOCUMENTS, **fields})
    request = Request(  # noqa: S310 - our own address
        service.url + "/v1/rerank", body.encode(), {"content-type": "application/json"}
    )
    with urlopen(request, timeout=WITHIN_S) as reply:  # noqa: S310
        return json.load(reply)


def test_meanings_are_near_each_other(client: openai.OpenAI) -> None:
    """A question is nearer to its answer than to anything else; vectors have length 1 and 384 numbers."""
    question = vector(client, "How tall is the Eiffel Tower?")
    answer = vector(client, "The tower in Paris rises to 330 metres.")
    other = vector(client, "Bake the bread for forty minutes.")

    assert len(question) == 384
    assert likeness(question, question) == pytest.approx(1, abs=1e-5)
    assert likeness(question, answer) > 0.5
    assert likeness(question, other) < 0.2


def test_what_is_said_is_heard_and_means_the_same(client: openai.OpenAI) -> None:
    """Ten sentences read aloud, written down without a wrong word, and near themselves in meaning."""
    sound = client.audio.speech.create(model="voice", voice="alloy", input=TEN, response_format="flac").read()

    heard = client.audio.transcriptions.create(model="ears", file=("ten.flac", sound)).text

    assert words(heard) == words(TEN)
    assert likeness(vector(client, heard), vector(client, TEN)) > 0.99


def test_many_callers_get_their_own_vectors(client: openai.OpenAI) -> None:
    """Thirty-two at a time, of one text each: what they get alone, or in one call together."""
    texts = [f"sentence {number} is about the number {number} {'and more ' * number}" for number in range(32)]
    together = client.embeddings.create(model="minilm", input=texts)

    with ThreadPoolExecutor(len(texts)) as pool:
        apart = list(pool.map(lambda text: vector(client, text), texts))

    assert [one.index for one in together.data] == list(range(32))
    for one, mine in zip(together.data, apart, strict=True):
        assert one.embedding == pytest.approx(mine, abs=1e-5)


def test_both_encodings_and_fewer_dimensions(client: openai.OpenAI) -> None:
    """`base64` is the very numbers of `float`; the first ones alone have length 1 again."""
    plain = client.embeddings.create(model="minilm", input="a", encoding_format="float").data[0].embedding
    packed: Any = client.embeddings.create(model="minilm", input="a", encoding_format="base64")
    short = client.embeddings.create(model="minilm", input="a", dimensions=64).data[0].embedding

    written = struct.unpack("<384f", base64.b64decode(packed.data[0].embedding))
    assert written == pytest.approx(plain, abs=1e-6)
    assert len(short) == 64
    assert likeness(short, short) == pytest.approx(1, abs=1e-5)


def test_what_was_cut_is_told(client: openai.OpenAI) -> None:
    """Too long a text is refused by its place; with `truncate` it is cut, and the answer says which was."""
    texts = ["short", "long " * 500]
    with pytest.raises(
        openai.BadRequestError, match="text 1 has 502 tokens, this model takes 256"
    ) as refused:
        client.embeddings.create(model="minilm", input=texts)
    assert refused.value.code == "context_length_exceeded"

    reply = client.embeddings.create(model="minilm", input=texts, extra_body={"truncate": True})

    assert [getattr(one, "truncated", False) for one in reply.data] == [False, True]
    assert reply.usage.prompt_tokens == 3 + 256


def test_prompts_and_token_ids(client: openai.OpenAI) -> None:
    """`input_type` and `prompt_name` put the model's own prompts before a text; token ids are taken as they
    are."""
    assert vector(client, "sun", input_type="search_query") == pytest.approx(
        vector(client, "search for: sun"), abs=1e-5
    )
    assert vector(client, "sun", prompt_name="odd") == pytest.approx(vector(client, "odd one sun"), abs=1e-5)
    assert vector(client, [101, 3103, 102]) == pytest.approx(vector(client, "sun"), abs=1e-5)
    with pytest.raises(openai.BadRequestError, match="this model knows document, odd, query") as refused:
        vector(client, "sun", prompt_name="web")
    assert refused.value.param == "prompt_name"
    with pytest.raises(openai.BadRequestError, match="send one of them"):
        vector(client, "sun", prompt_name="odd", input_type="query")


def test_too_many_inputs_do_not_reach_the_worker(client: openai.OpenAI) -> None:
    """Nor an empty text; the next call is served."""
    with pytest.raises(openai.BadRequestError, match="at most 2048"):
        client.embeddings.create(model="minilm", input=["a"] * 2049)
    with pytest.raises(openai.BadRequestError, match="a text is empty"):
        client.embeddings.create(model="minilm", input=["a", ""])

    assert len(vector(client, "a")) == 384


def test_documents_come_in_the_models_order(service: Router) -> None:
    """By a cross-encoder, the most relevant first, whatever is asked beside it."""
    whole = ranked(service, return_documents=True)
    again = ranked(service, documents=DOCUMENTS[::-1], top_n=2)

    scores = [result["relevance_score"] for result in whole["results"]]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score < 1 for score in scores)
    assert len(set(scores)) == len(DOCUMENTS)
    assert [result["document"]["text"] for result in whole["results"][:2]] == [
        DOCUMENTS[::-1][result["index"]] for result in again["results"]
    ]
    assert whole["usage"]["prompt_tokens"] > 0


def test_a_long_document_is_ranked_by_its_beginning(service: Router) -> None:
    """Where the call allows it, and says so of that document; else it is refused."""
    documents = [*DOCUMENTS, "moon " * 200]
    with pytest.raises(HTTPError) as refused:
        ranked(service, documents=documents)
    with refused.value as reply:
        assert "text 4 with the query has" in json.load(reply)["error"]["message"]

    results = ranked(service, documents=documents, truncate="end")["results"]

    assert [result["index"] for result in results if result.get("truncated")] == [4]
