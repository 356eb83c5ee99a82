"""The real all-MiniLM-L6-v2 and a tiny cross-encoder, against what sentence-transformers itself says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import pytest
from encoder_folders import cross_encoder, linked, minilm
from sentence_transformers import CrossEncoder, SentenceTransformer

from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.event import Embedding, Event, Relevance, Usage
from hybrid_router.engines.opening import open_engine
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.task import Engine, EngineFailed, Output, Task

pytestmark = pytest.mark.timeout(120)  # the library alone takes seconds to import

TEXTS = (
    "A man is eating food.",
    "Überraschend: 3 wörter & 日本語 😀",
    "x",
    "The quick brown fox jumps over the lazy dog. " * 5,
    "long " * 400,
)
DOCUMENTS = ("the sea is deep", "red", "a bird flew home over the sea " * 20, "sun and moon")
# For passes of one text there are other kernels than for many: the last digits differ.
CLOSE = 1e-5


def opened(path: Path, **chosen: Any) -> Engine:
    settings = EncoderSettings(path=str(path), parallel=None)
    return open_engine(msgspec.structs.replace(settings, **chosen))


def run(engine: Engine, operation: Operation, *prompts: str | tuple[int, ...], **chosen: Any) -> list[Event]:
    task = Task(id=1, operation=operation, prompts=prompts, truncate="end", **chosen)
    answers = engine.begin(task)
    while engine.busy:
        answers += engine.step()
    assert all(isinstance(answer, Output) for answer in answers), answers
    return [event for answer in answers if isinstance(answer, Output) for event in answer.events]


def vectors(events: Sequence[Event]) -> npt.NDArray[np.float32]:
    """By index."""
    found = {event.index: event.values for event in events if isinstance(event, Embedding)}
    return np.array([np.frombuffer(found[index], "<f4") for index in range(len(found))])


def scores(events: Sequence[Event]) -> list[float]:
    """By index."""
    return [e.score for e in sorted((e for e in events if isinstance(e, Relevance)), key=lambda e: e.index)]


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    made = opened(minilm())
    yield made
    made.close()


@pytest.fixture(scope="module")
def library() -> SentenceTransformer:
    return SentenceTransformer(str(minilm()), device="cpu", local_files_only=True)


def test_vectors_are_the_librarys_own(engine: Engine, library: SentenceTransformer) -> None:
    """Alone and in a batch, the truncated one too; the usage counts what was computed."""
    wanted = library.encode(list(TEXTS))

    together = run(engine, Operation.EMBED, *TEXTS)
    alone = [vectors(run(engine, Operation.EMBED, text))[0] for text in TEXTS]

    assert np.abs(vectors(together) - wanted).max() < CLOSE
    assert np.abs(np.array(alone) - wanted).max() < CLOSE
    usage = together[-1]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens == int(library.preprocess(list(TEXTS))["attention_mask"].sum())
    assert [e.truncated for e in together if isinstance(e, Embedding) and e.index == 4] == [True]


def test_a_text_as_token_ids_is_the_same_text(engine: Engine, library: SentenceTransformer) -> None:
    """The ids of the model's own tokenizer, marks included."""
    ids = library.tokenizer(TEXTS[0])["input_ids"]

    found = vectors(run(engine, Operation.EMBED, tuple(ids), TEXTS[0]))

    assert np.abs(found[0] - found[1]).max() < CLOSE


def test_the_model_says_what_it_is(engine: Engine) -> None:
    """Width, context and vocabulary from its own files."""
    told = engine.opened()

    assert (told.width, told.context, told.vocabulary_count) == (384, 256, 30_522)
    assert told.can == {Feature.PROMPTS}
    assert "bert, 23 M parameters" in told.description


def test_prompts_are_the_models_own(tmp_path: Path) -> None:
    """By purpose and by name, left out of the vector where its files say so."""
    prompts = {"query": "search for: ", "document": "", "odd": "odd one "}
    place = linked(
        tmp_path / "prompted",
        config_sentence_transformers_json={"prompts": prompts, "default_prompt_name": "odd"},
        **{
            "1_Pooling__config_json": {
                "word_embedding_dimension": 384,
                "pooling_mode_mean_tokens": True,
                "include_prompt": False,
            }
        },
    )
    library = SentenceTransformer(str(place), device="cpu", local_files_only=True)
    made = opened(place)

    asks = [Encoding(purpose="query"), Encoding(prompt_name="odd"), None]
    found = [vectors(run(made, Operation.EMBED, *TEXTS[:4], ask=ask)) for ask in asks]
    made.close()

    for mine, name in zip(found, ["query", "odd", None], strict=True):
        assert np.abs(mine - library.encode(list(TEXTS[:4]), prompt_name=name)).max() < CLOSE
    assert np.abs(found[0] - found[1]).max() > 0.01
    assert np.array_equal(found[1], found[2])


def test_scores_are_the_librarys_own(tmp_path: Path) -> None:
    """Through the activation that is the model's, each pair alone or in a batch."""
    place = cross_encoder(tmp_path / "judge")
    library = CrossEncoder(str(place), device="cpu", local_files_only=True)
    wanted = library.predict([("the red sun", document) for document in DOCUMENTS])
    made = opened(place, purpose="rerank")

    found = scores(run(made, Operation.RERANK, *DOCUMENTS, query="the red sun"))
    alone = [scores(run(made, Operation.RERANK, one, query="the red sun"))[0] for one in DOCUMENTS]
    made.close()

    assert found == pytest.approx(wanted, abs=CLOSE)
    assert alone == pytest.approx(wanted, abs=CLOSE)
    assert len(set(found)) == len(DOCUMENTS)


def test_a_context_is_what_the_model_can_take(tmp_path: Path) -> None:
    """More than its files say where the weights allow it; else it says so, and does not open."""
    made = opened(minilm(), context=300)
    (found,) = vectors(run(made, Operation.EMBED, "long " * 290))
    made.close()

    assert np.linalg.norm(found) == pytest.approx(1)
    with pytest.raises(EngineFailed, match="cannot take 600 tokens; lower `context`"):
        opened(minilm(), context=600)
    with pytest.raises(EngineFailed, match="gives 3 scores"):
        opened(cross_encoder(tmp_path / "classes", labels_count=3), purpose="rerank")


@pytest.mark.parametrize("damage", ["weights", "config", "tokenizer"])
def test_a_damaged_folder_is_named(tmp_path: Path, damage: str) -> None:
    """With the library's reason, and without a trace of the library."""
    place = cross_encoder(tmp_path / "judge")
    name = {"weights": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}[damage]
    whole = (place / name).read_bytes()
    (place / name).write_bytes(whole[: len(whole) // 2])

    with pytest.raises(EngineFailed, match=r"judge: .*cannot open it"):
        opened(place, purpose="rerank")
