"""Models that are folders, through the real service: a translator, a classifier of pictures, guards.

The tests write them: the shape of real ones, few and random weights.  What the service says is compared with
what the library says of the same folder.
"""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import ctranslate2
import openai
import pytest
import sentencepiece
import tiny_classifiers
import torch
from manifest_entries import folder_entry
from openai.types import ModerationImageURLInputParam
from PIL import Image
from router_process import Router, stopped_at_end
from tiny_translator import WORDS, tiny_translator
from transformers import ViTForImageClassification, ViTImageProcessorPil

# Each worker imports torch and transformers, which takes seconds where others compute too.
pytestmark = pytest.mark.timeout(180)

SENTENCE = " ".join(WORDS[:8]) + "."
LABELS = ["a house", "a tree", "a boat"]
FOLDERS = {"polyglot": "translate", "seer": "classify", "words": "moderate", "looks": "moderate"}
POLICY = """
server: { listen: 127.0.0.1:0, drain: 5s }
manifest: MANIFEST
timeouts: { connect: 5s, load: 100s, first_token: 100s, between_tokens: 100s, total: 150s }
backends:
  local:
    type: local
    models:
      polyglot: { engine: translate, beam_size: 1, compute_type: float32, threads: 1, preload: false }
      seer: { engine: classify, threads: 1, device: cpu, preload: false }
      words: { engine: moderate, threads: 1, device: cpu, preload: false }
      looks: { engine: moderate, threads: 1, device: cpu, preload: false }
aliases:
  polyglot: { try: local/polyglot }
  seer: { try: local/seer }
  omni-moderation-latest: { try: local/words }
  looks: { try: local/looks }
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models' folders and their manifest."""
    folder = tmp_path_factory.mktemp("folders")
    tiny_translator(folder / "made").rename(folder / "polyglot")
    tiny_classifiers.of_images(folder / "seer", LABELS)
    tiny_classifiers.of_texts(folder / "words", ["safe", "toxic", "violence/graphic"])
    tiny_classifiers.of_images(folder / "looks", ["normal", "nsfw"])
    entries = {name: folder_entry(folder / name, engine) for name, engine in FOLDERS.items()}
    (folder / "manifest.yaml").write_text(json.dumps({"models": entries}))  # JSON is YAML
    return folder


@pytest.fixture(scope="module")
def service(models: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Router]:
    """A router with all of them, each loaded when it is asked."""
    policy = POLICY.replace("MANIFEST", str(models / "manifest.yaml"))
    started = Router(policy, tmp_path_factory.mktemp("folder_router"))
    with stopped_at_end(started):
        yield started


@pytest.fixture
def client(service: Router) -> Iterator[openai.OpenAI]:
    """It never tries twice by itself."""
    with openai.OpenAI(base_url=service.url + "/v1", api_key="any", max_retries=0, timeout=150) as made:
        yield made


def post(service: Router, path: str, asked: dict[str, Any]) -> tuple[int, Any]:
    connection = HTTPConnection(urlsplit(service.url).netloc, timeout=150)
    try:
        connection.request("POST", path, json.dumps(asked), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def picture() -> Image.Image:
    return Image.linear_gradient("L").resize((48, 40)).convert("RGB")


def data_url() -> str:
    file = io.BytesIO()
    picture().save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def own_translation(folder: Path, target: str) -> str:
    """What CTranslate2 itself makes of the sentence, asked as m2m100 is; it never comes to an end."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(folder / "sentencepiece.bpe.model"))
    source = ["__en__", *pieces.encode(SENTENCE, out_type=str), "</s>"]
    translator = ctranslate2.Translator(str(folder), compute_type="float32", inter_threads=1, intra_threads=1)
    [found] = translator.translate_batch([source], target_prefix=[[f"__{target}__"]], beam_size=1)
    return str(pieces.decode(found.hypotheses[0][1:]))


def test_a_translator_translates(service: Router, models: Path) -> None:
    """Each text as the library alone would, in the order of the inputs, and into each language anew."""
    asked = {"model": "polyglot", "input": [SENTENCE, f"{SENTENCE}\n{SENTENCE}"], "source": "en"}

    status, german = post(service, "/v1/translate", {**asked, "target": "de"})
    _, spanish = post(service, "/v1/translate", {**asked, "target": "es"})

    assert (status, german["object"], german["model"]) == (200, "translation", "polyglot")
    for told, target in ((german, "de"), (spanish, "es")):
        first, second = (one["text"] for one in told["translations"])
        assert len(first) > 100
        assert own_translation(models / "polyglot", target).startswith(first)
        assert second == f"{first}\n{first}"
        assert told["usage"]["completion_tokens"] > 0
    assert german["translations"] != spanish["translations"]


def test_a_translator_says_which_language_it_lacks(service: Router) -> None:
    """By the field's name, as the caller's mistake."""
    asked = {"model": "polyglot", "input": SENTENCE, "target": "tlh", "source": "en"}

    status, told = post(service, "/v1/translate", asked)

    assert (status, told["error"]["param"]) == (400, "target")
    assert "tlh" in told["error"]["message"]


def test_a_classifier_tells_its_own_labels(service: Router, models: Path) -> None:
    """With the scores that the library gives them, the likeliest first, and no more than were asked for."""
    network = ViTForImageClassification.from_pretrained(models / "seer")
    pixels = ViTImageProcessorPil.from_pretrained(models / "seer")(images=picture(), return_tensors="pt")
    with torch.inference_mode():
        own = network(**pixels).logits[0].softmax(-1).tolist()
    wanted = sorted(zip(own, LABELS, strict=True), reverse=True)[:2]

    status, told = post(service, "/v1/classify", {"model": "seer", "image": data_url(), "top_k": 2})

    assert status == 200, told
    assert [one["label"] for one in told["labels"]] == [label for _, label in wanted]
    assert [one["score"] for one in told["labels"]] == pytest.approx([score for score, _ in wanted], abs=1e-4)


def test_a_guard_of_texts_gives_verdicts(client: openai.OpenAI) -> None:
    """One for each text, in OpenAI's categories, and in the package's own types."""
    kind, rude, grim = client.moderations.create(input=["kind", "rude", "grim"]).results

    assert (kind.flagged, rude.flagged, grim.flagged) == (False, True, True)
    assert rude.categories.harassment
    assert not rude.categories.violence_graphic
    assert grim.categories.violence_graphic
    assert grim.category_scores.violence_graphic > 0.9 > kind.category_scores.violence_graphic
    assert rude.category_applied_input_types.harassment == ["text"]


def test_a_guard_of_images_gives_verdicts(client: openai.OpenAI) -> None:
    """Of what it looks at, and says that it was an image; a text is not its business."""
    part: ModerationImageURLInputParam = {"type": "image_url", "image_url": {"url": data_url()}}

    [found] = client.moderations.create(model="looks", input=[part]).results

    assert 0 < found.category_scores.sexual < 1
    assert found.flagged == (found.category_scores.sexual >= 0.5)
    assert found.category_applied_input_types.sexual == ["image"]
    with pytest.raises(openai.BadRequestError, match="images only") as refused:
        client.moderations.create(model="looks", input="a text")
    assert refused.value.param == "input"
