"""Embeddings and relevance from GGUF: against the arithmetic in numpy, and under many calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gguf
import msgspec
import numpy as np
import pytest
import tiny_gguf
from gguf_models import CLS, CONTEXT, SEP, UNK, WIDTH, WORDS, Bert, Floats, bert, causal_reranker
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.call import Message, Operation
from hybrid_router.core.event import Embedding, Event, Finish, Relevance, Usage
from hybrid_router.engines.llama.embedding import EmbeddingEngine
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.passages import shortened
from hybrid_router.engines.opening import open_engine
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import (
    Answer,
    EngineFailed,
    Output,
    Refused,
    Task,
)

TEXTS = (
    "the cat sat on the mat",
    "the dog ran far",
    "red sun",
    "bird flew home on the sea the red sun",
    "mat",
)
# tiny_gguf's, but for the space: it is spelled in bytes.
SPELLED = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "b", "a", "c"]
POOLINGS = (gguf.PoolingType.MEAN, gguf.PoolingType.CLS, gguf.PoolingType.LAST)


def settings(path: Path, purpose: str = "embed", **chosen: Any) -> LlamaSettings:
    """A tiny model, opened for this, with batches of 64 tokens."""
    plain = LlamaSettings(path=str(path), context=None, parallel=None, threads=1, prefill_chunk=64)
    return msgspec.structs.replace(plain, purpose=purpose, **chosen)


def embed(task_id: int, *texts: str | tuple[int, ...], **chosen: Any) -> Task:
    return Task(id=task_id, operation=Operation.EMBED, prompts=texts, **chosen)


def rerank(task_id: int, query: str, *documents: str | tuple[int, ...]) -> Task:
    return Task(id=task_id, operation=Operation.RERANK, query=query, prompts=documents)


def drained(engine: EmbeddingEngine) -> list[Answer]:
    answers: list[Answer] = []
    while engine.busy:
        answers += engine.step()
    return answers


def events_of(answers: Sequence[Answer], task_id: int) -> list[Event]:
    """All that was said for a task that succeeded."""
    mine = [answer for answer in answers if answer.id == task_id]
    assert all(isinstance(answer, Output) for answer in mine), mine
    assert [answer.last for answer in mine if isinstance(answer, Output)] == [False] * (len(mine) - 1) + [
        True
    ]
    return [event for answer in mine if isinstance(answer, Output) for event in answer.events]


def run(engine: EmbeddingEngine, task: Task) -> list[Event]:
    assert engine.begin(task) == []
    return events_of(drained(engine), task.id)


def vectors(events: Sequence[Event]) -> list[Floats]:
    """By index."""
    found = {event.index: event.values for event in events if isinstance(event, Embedding)}
    assert sorted(found) == list(range(len(found)))
    return [np.frombuffer(found[index], "<f4") for index in range(len(found))]


def scores(events: Sequence[Event]) -> list[float]:
    """By index."""
    return [e.score for e in sorted((e for e in events if isinstance(e, Relevance)), key=lambda e: e.index)]


def refusal(answers: Sequence[Answer]) -> Refused:
    (answer,) = answers
    assert isinstance(answer, Refused)
    return answer


def unit(row: Floats) -> Floats:
    return row / np.linalg.norm(row)


def marked(text: str) -> list[int]:
    return [CLS, *Bert.words(text), SEP]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gguf")


@pytest.fixture(scope="module")
def mean_bert(folder: Path) -> Bert:
    return bert(folder / "mean.gguf", gguf.PoolingType.MEAN)


@pytest.fixture(scope="module")
def engine(mean_bert: Bert) -> Iterator[EmbeddingEngine]:
    opened = EmbeddingEngine(settings(mean_bert.path))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def ranking_bert(folder: Path) -> Bert:
    return bert(folder / "rank.gguf", gguf.PoolingType.RANK, head=True)


@pytest.fixture(scope="module")
def ranker(ranking_bert: Bert) -> Iterator[EmbeddingEngine]:
    opened = EmbeddingEngine(settings(ranking_bert.path, "rerank"))
    yield opened
    opened.close()


@pytest.mark.parametrize("pooling", [*POOLINGS, None], ids=["mean", "cls", "last", "unsaid"])
def test_a_vector_is_what_the_arithmetic_says(tmp_path: Path, pooling: gguf.PoolingType | None) -> None:
    """As the file pools; a file that does not say and sees both ways: the mean.  Each of length 1."""
    model = bert(tmp_path / "model.gguf", pooling)
    engine = EmbeddingEngine(settings(model.path))

    found = vectors(run(engine, embed(1, *TEXTS)))
    engine.close()

    for text, vector in zip(TEXTS, found, strict=True):
        hidden = model.hidden(marked(text))
        pooled = {gguf.PoolingType.CLS: hidden[0], gguf.PoolingType.LAST: hidden[-1]}
        wanted = pooled.get(pooling, hidden.mean(axis=0)) if pooling is not None else hidden.mean(axis=0)
        assert unit(wanted) @ vector > 0.9999
        assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)


def test_a_call_says_what_it_cost(engine: EmbeddingEngine) -> None:
    """One end for each text, then its tokens, the special ones with them, and nothing written."""
    events = run(engine, embed(1, *TEXTS))

    usage = events[-1]
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.completion_tokens) == (sum(len(marked(text)) for text in TEXTS), 0)
    assert usage.queue_s is not None
    assert usage.prefill_s is not None
    assert min(usage.queue_s, usage.prefill_s) >= 0
    assert sorted(e.index for e in events if isinstance(e, Finish)) == list(range(len(TEXTS)))


def test_many_texts_together_are_what_they_are_alone(engine: EmbeddingEngine) -> None:
    """64 of them, in a few batches: neighbours leave no trace."""
    numbers = np.random.default_rng(3)
    texts = [" ".join(numbers.choice(WORDS, size=numbers.integers(1, 12))) for _ in range(64)]

    together = vectors(run(engine, embed(1, *texts)))

    alone = [vectors(run(engine, embed(2, text)))[0] for text in texts]
    assert all(one @ other > 0.9999 for one, other in zip(together, alone, strict=True))


def test_token_ids_are_taken_as_they_are(engine: EmbeddingEngine) -> None:
    """They get no marks: who sends ids has put them there."""
    text, ids, bare = vectors(run(engine, embed(1, TEXTS[0], tuple(marked(TEXTS[0])), (7, 8))))

    assert text @ ids > 0.99999
    assert abs(text @ bare) < 0.99


def test_what_the_model_is_is_told(engine: EmbeddingEngine) -> None:
    """Its width and how long a text may be."""
    opened = engine.opened()

    assert (opened.width, opened.context, opened.has_template) == (WIDTH, CONTEXT, False)
    assert opened.can == frozenset()


@pytest.mark.parametrize(
    ("task", "code", "says"),
    [
        (embed(1, "red sun", "sun " * CONTEXT), "context_length_exceeded", "text 1 has 66 tokens.*takes 64"),
        (embed(1, "red sun", ""), "invalid_request_error", "text 1 is empty"),
        (embed(1, "red sun", ()), "invalid_request_error", "text 1 is empty"),
        (embed(1), "invalid_request_error", "list of texts is empty"),
        (embed(1, (1, 99)), "invalid_request_error", "text 0 holds a token id outside 0 to 18"),
        (embed(1, (-1,)), "invalid_request_error", "outside 0 to 18"),
        (rerank(1, "sun", "red"), "unsupported_parameter", "embeds texts.*purpose: rerank"),
        (
            Task(id=1, operation=Operation.CHAT, messages=(Message(role="user", content="hi"),)),
            "unsupported_parameter",
            "embeds texts.*purpose: generate",
        ),
    ],
)
def test_an_impossible_call_is_refused_by_name(
    engine: EmbeddingEngine, task: Task, code: str, says: str
) -> None:
    """Which text, and why; nothing is computed, and who is on the way goes on."""
    assert engine.begin(embed(2, *TEXTS)) == []

    refused = refusal(engine.begin(task))

    assert (refused.code, refused.by_call) == (code, True)
    assert re.search(says, refused.message)
    assert refused.param == ("input[1]" if code == "context_length_exceeded" else None)
    assert len(vectors(events_of(drained(engine), 2))) == len(TEXTS)


def test_a_text_as_long_as_the_context_is_taken(engine: EmbeddingEngine, mean_bert: Bert) -> None:
    """To the last token."""
    text = " ".join(["sun", "sea"] * ((CONTEXT - 2) // 2))

    (vector,) = vectors(run(engine, embed(1, text)))

    assert unit(mean_bert.hidden(marked(text)).mean(axis=0)) @ vector > 0.9999


@pytest.mark.parametrize("truncate", ["oldest", "middle"])
def test_a_long_text_is_shortened_if_asked_for(
    engine: EmbeddingEngine, mean_bert: Bert, truncate: str
) -> None:
    """Its marks stay where they were."""
    words = ["cat"] * 40 + ["sun"] * 40 + ["sea"] * 40

    (vector,) = vectors(run(engine, embed(1, " ".join(words), truncate=truncate)))

    kept = words[-62:] if truncate == "oldest" else words[:31] + words[-31:]
    assert unit(mean_bert.hidden(marked(" ".join(kept))).mean(axis=0)) @ vector > 0.9999


@given(
    st.lists(st.integers(2, 9), max_size=30), st.booleans(), st.booleans(), st.integers(3, 20), st.booleans()
)
def test_a_shortened_text_fits_and_keeps_its_order(
    inner: list[int], first: bool, last: bool, room_count: int, middle: bool
) -> None:
    """Whatever it begins and ends with."""
    tokens = [0] * first + inner + [1] * last
    if len(tokens) <= room_count:
        tokens += [5] * room_count

    kept = shortened(tokens, room_count, frozenset({0, 1}), middle=middle)

    assert len(kept) == room_count
    remaining = iter(tokens)
    assert all(token in remaining for token in kept)
    assert kept[-1] == tokens[-1]
    assert kept[0] == tokens[0] or not (first or middle)


def test_calls_take_turns(engine: EmbeddingEngine) -> None:
    """A short call behind a long one is answered with the first batch."""
    engine.begin(embed(1, *["the cat sat on the mat"] * 200))
    engine.begin(embed(2, "red sun", "red sea"))

    first = engine.step()

    assert len(vectors(events_of(first, 2))) == 2
    assert len(vectors(events_of([*first, *drained(engine)], 1))) == 200


def test_a_cancelled_call_is_forgotten_between_batches(engine: EmbeddingEngine) -> None:
    """Its neighbour's vectors are what they would have been, and no place is lost."""
    alone = vectors(run(engine, embed(2, *TEXTS * 8)))
    places_count = len(engine._free_slots)
    engine.begin(embed(1, *["the dog ran far"] * 100))
    engine.begin(embed(2, *TEXTS * 8))
    before = engine.step()
    engine.cancel(1)
    engine.cancel(77)

    after = drained(engine)

    assert {answer.id for answer in after} == {2}
    found = vectors(events_of([a for a in [*before, *after] if a.id == 2], 2))
    assert all(one @ other > 0.9999 for one, other in zip(found, alone, strict=True))
    assert len(engine._free_slots) == places_count
    assert not engine.busy


def test_the_order_of_documents_is_what_the_arithmetic_says(
    ranker: EmbeddingEngine, ranking_bert: Bert
) -> None:
    """Query and document in one sequence, parted as llama-server parts them; scores are the model's own."""
    query, documents = "the red sun", [*TEXTS, "sea", "home home home", ""]

    events = run(ranker, rerank(1, query, *documents))

    wanted = [
        ranking_bert.score([CLS, *Bert.words(query), SEP, *Bert.words(document)]) for document in documents
    ]
    assert scores(events) == pytest.approx(wanted, abs=0.01)
    assert list(np.argsort(scores(events))) == list(np.argsort(wanted))
    assert sorted(e.index for e in events if isinstance(e, Finish)) == list(range(len(documents)))
    assert isinstance(events[-1], Usage)
    assert ranker.opened().width == 0


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (rerank(1, "", "red"), "query is empty"),
        (rerank(1, "sun", "red", (5, 6)), "not token ids"),
        (rerank(1, "sun", "red", "sea " * CONTEXT), "text 1 with the query has 67 tokens"),
        (embed(1, "sun"), "ranks documents.*purpose: embed"),
    ],
)
def test_an_impossible_ranking_is_refused_by_name(ranker: EmbeddingEngine, task: Task, says: str) -> None:
    """And the client is told what is wrong with it."""
    refused = refusal(ranker.begin(task))

    assert refused.by_call
    assert re.search(says, refused.message)
    assert not ranker.busy


def test_marks_in_a_document_are_words(ranker: EmbeddingEngine, ranking_bert: Bert) -> None:
    """A document cannot end itself and begin another query."""
    (score,) = scores(run(ranker, rerank(1, "sun", "[SEP] sea")))

    assert score == pytest.approx(
        ranking_bert.score([CLS, *Bert.words("sun"), SEP, UNK, UNK, UNK, *Bert.words("sea")]), abs=0.01
    )


def test_the_files_own_rerank_template_is_used(tmp_path: Path) -> None:
    """Both are put in at once: a query that names the other's place gets nothing there."""
    model = bert(
        tmp_path / "own.gguf", gguf.PoolingType.RANK, head=True, template="cat {query} dog {document} sea"
    )
    engine = EmbeddingEngine(settings(model.path, "rerank"))

    found = scores(run(engine, rerank(1, "sun {document}", "mat", "home")))
    engine.close()

    for score, document in zip(found, ["mat", "home"], strict=True):
        query = [*Bert.words("sun"), UNK, UNK, UNK]
        tokens = [*Bert.words("cat"), *query, *Bert.words(f"dog {document} sea")]
        assert score == pytest.approx(model.score(tokens), abs=0.01)


def test_a_vocabulary_that_ends_texts_ends_query_and_document(tmp_path: Path) -> None:
    """As llama-server does; where there is no token for an end, the one between texts serves."""
    model = bert(tmp_path / "ends.gguf", gguf.PoolingType.RANK, head=True, ends=True)
    engine = EmbeddingEngine(settings(model.path, "rerank"))

    (score,) = scores(run(engine, rerank(1, "sun", "sea")))
    engine.close()

    tokens = [CLS, *Bert.words("sun"), SEP, SEP, *Bert.words("sea"), SEP]
    assert score == pytest.approx(model.score(tokens), abs=0.01)


def test_a_text_may_have_more_tokens_than_bytes(tmp_path: Path) -> None:
    """Some vocabularies write a single sign out as many; that is no reason to fail."""
    path = tiny_gguf.write(tmp_path / "spaces.gguf", tokenizer__ggml__tokens=SPELLED)
    engine = EmbeddingEngine(settings(path))

    events = run(engine, embed(1, "x x x x x x x x x x x x x"))
    engine.close()

    usage = events[-1]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens == 1 + 13 + 13 * 3  # a beginning, letters, and three bytes for each space


def test_a_long_document_is_ranked_in_parts(tmp_path: Path) -> None:
    """A model that reads causally gives the same score, however its batches cut the text."""
    path = causal_reranker(tmp_path / "causal.gguf", "q {query} d {document}?")
    documents = ["a long tale of the sea and the sun ", "short", "another one, of some length, to be cut"]
    found = []
    for chunk in (16, 256):
        engine = EmbeddingEngine(settings(path, "rerank", prefill_chunk=chunk))
        found.append(scores(run(engine, rerank(1, "sun", *documents))))
        engine.close()

    assert found[0] == pytest.approx(found[1], abs=1e-3)
    assert all(0 < score < 1 for score in found[0])
    assert len(set(found[0])) == len(documents)


def test_a_long_text_is_embedded_in_parts(tmp_path: Path) -> None:
    """Others pass between its parts, and a call that goes away in its middle leaves room for the next."""
    path = tiny_gguf.write(tmp_path / "causal.gguf")
    text = "a" * 100
    whole = EmbeddingEngine(settings(path, prefill_chunk=256))
    (wanted,) = vectors(run(whole, embed(1, text)))
    whole.close()
    engine = EmbeddingEngine(settings(path, prefill_chunk=16))
    engine.begin(embed(1, text))
    assert engine.step() == []
    engine.cancel(1)
    assert not engine.busy

    engine.begin(embed(2, text, "a a"))
    engine.begin(embed(3, "aa"))
    answers = drained(engine)
    engine.close()

    assert vectors(events_of(answers, 2))[0] @ wanted > 0.9999
    assert len(vectors(events_of(answers, 3))) == 1


def test_a_causal_model_may_pool_the_mean(tmp_path: Path) -> None:
    """Then a text is in one batch, however small batches are."""
    path = tiny_gguf.write(tmp_path / "mean.gguf", llama__pooling_type=int(gguf.PoolingType.MEAN))
    found = []
    for chunk in (16, 256):
        engine = EmbeddingEngine(settings(path, prefill_chunk=chunk))
        found.append(vectors(run(engine, embed(1, "a" * 100, "aa", "a" * 50))))
        engine.close()

    assert all(one @ other > 0.9999 for one, other in zip(*found, strict=True))


@pytest.mark.parametrize(
    ("purpose", "pooling", "head", "says"),
    [
        ("embed", gguf.PoolingType.RANK, True, "bad.gguf: this model ranks documents; set `purpose: rerank`"),
        ("rerank", gguf.PoolingType.MEAN, False, r"bad.gguf: this model cannot rank documents"),
    ],
)
def test_a_model_for_something_else_is_not_opened(
    tmp_path: Path, purpose: str, pooling: gguf.PoolingType, head: bool, says: str
) -> None:
    """It would answer with numbers that mean nothing."""
    model = bert(tmp_path / "bad.gguf", pooling, head=head)

    with pytest.raises(EngineFailed, match=says):
        EmbeddingEngine(settings(model.path, purpose))


def test_a_longer_context_than_the_models_is_refused(mean_bert: Bert) -> None:
    """There are no positions beyond it."""
    with pytest.raises(EngineFailed, match="trained for 64 tokens"):
        EmbeddingEngine(settings(mean_bert.path, context=100))


def broken(path: Path, token: int) -> Path:
    """The model, with numbers for one token that are none."""
    reader = gguf.GGUFReader(path, "r+")
    table = next(tensor for tensor in reader.tensors if tensor.name == "token_embd.weight")
    table.data[token] = np.nan
    reader.data.flush()
    return path


@pytest.mark.parametrize("caches", [False, True])
def test_a_vector_that_is_none_ends_its_call_alone(tmp_path: Path, caches: bool) -> None:
    """A model that is broken for one word: that call is refused, those in its batch are answered as ever."""
    path = tmp_path / "broken.gguf"
    if caches:
        good, bad, token = "a a", "x", 3 + ord("x")
        tiny_gguf.write(path)
    else:
        good, bad, token = "red sun", "the sea", Bert.words("sea")[0]
        bert(path, gguf.PoolingType.MEAN)
    engine = EmbeddingEngine(settings(path))
    (wanted,) = vectors(run(engine, embed(1, good)))
    engine.close()
    engine = EmbeddingEngine(settings(broken(path, token)))
    engine.begin(embed(1, good, bad, *[good] * 50))
    engine.begin(embed(2, good))

    answers = drained(engine)
    later = vectors(run(engine, embed(3, good)))
    engine.close()

    (refused,) = (answer for answer in answers if isinstance(answer, Refused))
    assert (refused.id, refused.code, refused.by_call) == (1, "backend_error", False)
    assert refused.message == "text 1 cannot be computed: the model's answer is not a number"
    (found,) = vectors(events_of([answer for answer in answers if answer.id == 2], 2))
    assert found @ wanted > 0.9999
    assert later[0] @ wanted > 0.9999


def test_a_model_that_writes_can_embed(model_settings: LlamaSettings) -> None:
    """The starter model with `purpose: embed`: what is alike is near."""
    engine = EmbeddingEngine(msgspec.structs.replace(model_settings, purpose="embed"))
    cat, kitten, tax = vectors(
        run(engine, embed(1, "A cat sat on the mat.", "A kitten lay on the rug.", "Pay the tax by Friday!"))
    )
    engine.close()

    assert cat @ kitten > max(cat @ tax, kitten @ tax)


def test_the_engine_is_chosen_by_purpose(mean_bert: Bert, ranking_bert: Bert, tmp_path: Path) -> None:
    """One name opens them all."""
    chat = settings(tiny_gguf.write(tmp_path / "chat.gguf"), "generate", parallel=1)
    wanted: list[tuple[LlamaSettings, type[object]]] = [
        (settings(mean_bert.path), EmbeddingEngine),
        (settings(ranking_bert.path, "rerank"), EmbeddingEngine),
        (chat, LlamaEngine),
    ]

    for chosen, kind in wanted:
        opened = open_engine(chosen)
        assert type(opened) is kind
        opened.close()


def test_a_cut_text_is_told(engine: EmbeddingEngine) -> None:
    """`end` keeps the beginning, between the special tokens; the event of that text says that it was cut."""
    events = run(engine, embed(1, "sun " * (CONTEXT + 5), "sun", truncate="end"))

    assert [e.truncated for e in events if isinstance(e, Embedding)] == [True, False]
    assert shortened([1, 5, 6, 7, 8, 2], 4, frozenset({1, 2}), middle=False, end=True) == [1, 5, 6, 2]
