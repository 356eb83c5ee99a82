"""Who shares a forward pass, whom a bad text harms, and which folders are not opened at all."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from encoder_folders import linked
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Embedding, Finish, Usage
from hybrid_router.engines.encoders import folder
from hybrid_router.engines.encoders.computing import ComputeFailed
from hybrid_router.engines.encoders.engine import EncoderEngine
from hybrid_router.engines.encoders.passage import Passage, passes
from hybrid_router.engines.settings import EncoderSettings
from hybrid_router.engines.tally import Found
from hybrid_router.engines.task import Answer, EngineFailed, Output, Refused, Task

MARK = 1
lengths = st.lists(st.integers(1, 60), min_size=1, max_size=60)


class Letters:
    """A text as the tokenizer below reads it: a mark, a token for each letter, a mark."""

    def __init__(self, text: str, query: str | None) -> None:
        before = [MARK] if query is None else [MARK, *map(ord, query), MARK]
        self.ids = [*before, *map(ord, text), MARK]
        self.type_ids = [0] * len(before) + [int(query is not None)] * (len(text) + 1)
        part = 0 if query is None else 1
        middle = [] if query is None else [*[0] * len(query), None]
        self.sequence_ids: list[int | None] = [None, *middle, *[part] * len(text), None]


class Recording:
    """A model that remembers its passes.  `!` fails with everybody in its pass, `?` is no number."""

    description, width, vocabulary_count = "letters", 2, 256
    default_prompt_name: str | None = None

    def __init__(self, context: int = 100, prompts: dict[str, str] | None = None) -> None:
        self.context = context
        self.prompts = prompts or {}
        self.pools_prompts = True
        self.pass_cost_tokens = 8
        self.passes: list[list[str]] = []
        self.read_count = 0

    def read(self, texts: Sequence[str], query: str | None = None) -> list[Letters]:
        self.read_count += len(texts)
        return [Letters(text, query) for text in texts]

    def compute(self, passages: Sequence[Passage]) -> list[Found | None]:
        texts = ["".join(chr(token) for token in one.tokens if token != MARK) for one in passages]
        self.passes.append(texts)
        if any("!" in text for text in texts):
            raise ComputeFailed("RuntimeError")
        return [
            None if "?" in text else Embedding(text.encode(), one.index, one.truncated)
            for one, text in zip(passages, texts, strict=True)
        ]


def opened(model: Recording, **chosen: Any) -> EncoderEngine:
    settings = EncoderSettings(path="", parallel=None, batch_tokens=64)
    return EncoderEngine(msgspec.structs.replace(settings, **chosen), model)


def embed(task_id: int, *texts: str | tuple[int, ...], **chosen: Any) -> Task:
    return Task(id=task_id, operation=Operation.EMBED, prompts=texts, **chosen)


def drained(engine: EncoderEngine) -> list[Answer]:
    answers: list[Answer] = []
    while engine.busy:
        answers += engine.step()
    return answers


def texts_of(answers: Sequence[Answer], task_id: int) -> list[str]:
    """What each text of a task that succeeded was when it was computed, by index."""
    mine = [answer for answer in answers if answer.id == task_id]
    assert all(isinstance(answer, Output) for answer in mine), mine
    events = [event for answer in mine if isinstance(answer, Output) for event in answer.events]
    found = {event.index: event.values.decode() for event in events if isinstance(event, Embedding)}
    assert sorted(found) == list(range(len(found)))
    assert sum(isinstance(event, Finish) for event in events) == len(found)
    assert isinstance(events[-1], Usage)
    return [found[index] for index in range(len(found))]


def refusal(answers: Sequence[Answer]) -> Refused:
    (answer,) = answers
    assert isinstance(answer, Refused)
    return answer


@given(lengths, st.integers(1, 200), st.integers(0, 50))
def test_passes_hold_everything_once_and_little_padding(
    found: list[int], batch_tokens: int, cost_tokens: int
) -> None:
    """Each text is in one pass; a pass of several holds at most `batch_tokens`, and wastes little."""
    passages = [Passage(0, index, [0] * length) for index, length in enumerate(found)]

    divided = list(passes(passages, batch_tokens, cost_tokens))

    assert sorted(one.index for together in divided for one in together) == list(range(len(found)))
    for together in divided:
        longest = max(one.length for one in together)
        assert len(together) == 1 or len(together) * longest <= batch_tokens
        assert sum(longest - one.length for one in together) <= cost_tokens


def test_calls_share_a_pass() -> None:
    """What came while nobody computed is computed together, whoever asked, and each gets its own."""
    model = Recording()
    engine = opened(model)
    for number, text in enumerate(["abc", "de", "fgh"]):
        assert engine.begin(embed(number, text, principal=f"p{number}")) == []
    answers = drained(engine)

    assert [sorted(one) for one in model.passes] == [["abc", "de", "fgh"]]
    assert [texts_of(answers, number) for number in range(3)] == [["abc"], ["de"], ["fgh"]]


def test_a_pass_is_sorted_by_length() -> None:
    """Long and short texts of different calls do not pad each other."""
    model = Recording()
    engine = opened(model, batch_tokens=1000)
    engine.begin(embed(1, "a" * 40, "b"))
    engine.begin(embed(2, "c" * 40, "d"))
    drained(engine)

    assert model.passes == [["a" * 40, "c" * 40], ["b", "d"]]


def test_a_short_call_does_not_wait_for_a_long_one() -> None:
    """A call of many texts gives way after a step; so does a principal of many calls."""
    model = Recording()
    engine = opened(model)
    engine.begin(embed(1, *["a" * 18] * 50, principal="ann"))
    for number in range(2, 6):
        engine.begin(embed(number, "b" * 18, principal="ann"))
    engine.begin(embed(6, "c", principal="bob"))

    first = engine.step()
    assert 6 in {answer.id for answer in first}
    later = engine.step() + engine.step()
    assert {2, 3, 4, 5} & {answer.id for answer in later}
    assert len(texts_of(first + later + drained(engine), 1)) == 50


def test_a_text_that_breaks_its_pass_harms_nobody_else() -> None:
    """The others of the pass are computed one by one; the one at fault is named, and ends its task alone."""
    model = Recording()
    engine = opened(model)
    engine.begin(embed(1, "ab", "cd"))
    engine.begin(embed(2, "ef", "g!"))
    engine.begin(embed(3, "h?", "ij"))
    answers = drained(engine)

    assert texts_of(answers, 1) == ["ab", "cd"]
    told = {answer.id: answer.message for answer in answers if isinstance(answer, Refused)}
    assert told == {
        2: "text 1 cannot be computed (RuntimeError)",
        3: "text 0 cannot be computed (what comes of it is no number)",
    }
    assert not engine.busy


def test_a_cancelled_call_is_not_computed() -> None:
    """Nor read on, nor answered; unknown ids change nothing."""
    model = Recording()
    engine = opened(model)
    engine.begin(embed(1, "abc"))
    engine.begin(embed(2, *["d" * 5_000] * 20, truncate="end"))
    engine.begin(embed(3, "ef"))
    for number in (1, 2, 9):
        engine.cancel(number)
    read_count = model.read_count

    assert {answer.id for answer in drained(engine)} == {3}
    assert model.passes == [["ef"]]
    assert model.read_count == read_count < 22


def test_much_text_is_read_bit_by_bit() -> None:
    """Others are answered while a call of a megabyte is read; it is refused before any of it is answered."""
    model = Recording(context=200)
    engine = opened(model)
    assert engine.begin(embed(1, *["a" * 100] * 10_000, "b" * 300)) == []
    assert model.read_count < 500
    engine.begin(embed(2, "c"))

    assert texts_of(engine.step(), 2) == ["c"]
    refused = refusal(drained(engine))
    assert "text 10000 has 302 tokens" in refused.message
    assert refused.param == "input[10000]"


def test_an_endless_text_is_not_even_read() -> None:
    """Of a text that cannot fit, as much is read as shows it."""
    model = Recording(context=10)
    told = refusal(opened(model).begin(embed(1, "a" * 8_000_000)))

    assert told.code == "context_length_exceeded"
    assert told.by_call
    assert "1282 tokens, this model takes 10" in told.message


@pytest.mark.parametrize(
    ("truncate", "kept"), [("end", "abcdefgh"), ("oldest", "mnopqrst"), ("middle", "abcdqrst")]
)
def test_what_is_cut_is_told(truncate: str, kept: str) -> None:
    """The marks stay; what is left out is what the call said, and the event of that text says it."""
    engine = opened(Recording(context=10))
    engine.begin(embed(1, "abcdefghijklmnopqrst", "short", truncate=truncate))
    answers = drained(engine)

    assert texts_of(answers, 1) == [kept, "short"]
    events = [event for answer in answers if isinstance(answer, Output) for event in answer.events]
    assert {e.index: e.truncated for e in events if isinstance(e, Embedding)} == {0: True, 1: False}


def test_token_ids_are_taken_as_they_are() -> None:
    """Without marks or prompts of ours; only ids that the vocabulary has."""
    engine = opened(Recording(prompts={"query": "q:"}))
    engine.begin(embed(1, (MARK, 97, 98, MARK), ask=Encoding(purpose="query")))

    assert texts_of(drained(engine), 1) == ["ab"]
    assert "outside 0 to 255" in refusal(engine.begin(embed(2, (97, 256)))).message


@pytest.mark.parametrize(
    ("ask", "chosen", "read"),
    [
        (None, {}, "x"),
        (Encoding(purpose="query"), {}, "query: x"),
        (Encoding(purpose="document"), {}, "passage: x"),
        (Encoding(purpose="clustering"), {}, "x"),
        (Encoding(prompt_name="odd"), {}, "odd x"),
        (Encoding(purpose="query"), {"query_prompt": "Q "}, "Q x"),
        (Encoding(purpose="query"), {"query_prompt": ""}, "x"),
    ],
)
def test_prompts_stand_before_texts(ask: Encoding | None, chosen: dict[str, str], read: str) -> None:
    """The model's own by purpose or name, unless router.yaml says another; none where there is none."""
    engine = opened(Recording(prompts={"query": "query: ", "passage": "passage: ", "odd": "odd "}), **chosen)
    engine.begin(embed(1, "x", ask=ask))

    assert texts_of(drained(engine), 1) == [read]


def test_a_prompt_is_not_cut_away() -> None:
    """What is left out is the text's own."""
    engine = opened(Recording(context=10, prompts={"query": "q:"}))
    engine.begin(embed(1, "abcdefghijklmnop", ask=Encoding(purpose="query"), truncate="oldest"))

    assert texts_of(drained(engine), 1) == ["q:klmnop"]


def test_an_unknown_prompt_is_refused_by_name() -> None:
    """With those that there are."""
    engine = opened(Recording(prompts={"query": "q", "document": "d"}))
    told = refusal(engine.begin(embed(1, "x", ask=Encoding(prompt_name="web"))))

    assert (told.param, told.message) == ("prompt_name", "prompt_name: this model knows document, query")


def test_only_the_document_of_a_pair_is_cut() -> None:
    """A query that leaves no room for a document is refused."""
    engine = opened(Recording(context=10), purpose="rerank")
    rank = Task(id=1, operation=Operation.RERANK, query="abc", prompts=("defghijk",), truncate="end")
    engine.begin(rank)

    assert texts_of(drained(engine), 1) == ["abcdefg"]
    told = refusal(engine.begin(msgspec.structs.replace(rank, query="a" * 10)))
    assert "with the query" in told.message


@pytest.mark.parametrize(
    ("task", "says"),
    [
        (embed(1), "list of texts is empty"),
        (embed(1, "a", ""), "text 1 is empty"),
        (Task(id=1, operation=Operation.RERANK, query="q", prompts=("a",)), "this model embeds texts"),
    ],
)
def test_what_the_model_cannot_do_is_refused(task: Task, says: str) -> None:
    """At once, as the caller's fault."""
    told = refusal(opened(Recording()).begin(task))

    assert told.by_call
    assert says in told.message


MODULES = [{"type": "sentence_transformers.models.Transformer", "path": ""}]


@pytest.mark.parametrize(
    ("changed", "purpose", "says"),
    [
        ({"modules_json": [{"type": "evil.Thing", "path": ""}]}, "embed", "evil.Thing is code"),
        (
            {"modules_json": [*MODULES, {"type": "sentence_transformers.models.CNN", "path": "1"}]},
            "embed",
            "module 1 is CNN, which is not supported",
        ),
        ({"modules_json": [{**MODULES[0], "path": "../.."}]}, "embed", "outside the model's folder"),
        ({"modules_json": []}, "embed", "no module in it"),
        ({"modules_json": {"a": 1}}, "embed", "not a list of modules"),
        ({"modules_json": None, "config_json": ["x"]}, "embed", "not a JSON object"),
        ({"adapter_config_json": {}}, "embed", "merge it"),
        ({"config_sentence_transformers_json": {"model_type": "SparseEncoder"}}, "embed", "a SparseEncoder"),
        ({"config_sentence_transformers_json": {"model_type": "CrossEncoder"}}, "embed", "a CrossEncoder"),
        (
            {"modules_json": None, "config_json": {"architectures": ["BertForSequenceClassification"]}},
            "embed",
            "set `purpose: rerank`",
        ),
        ({}, "rerank", "set `purpose: embed`"),
    ],
)
def test_a_folder_that_may_run_code_is_not_opened(
    tmp_path: Path, changed: dict[str, Any], purpose: folder.Purpose, says: str
) -> None:
    """Nor one that is something else; the file and the reason are named."""
    place = linked(tmp_path / "model", **changed)

    with pytest.raises(EngineFailed, match=says):
        folder.check(place, purpose)


def test_a_pickle_is_refused_by_name(tmp_path: Path) -> None:
    """Wherever a module keeps its weights; what has none at all is told apart."""
    place = linked(tmp_path / "model")
    (place / "model.safetensors").rename(place / "pytorch_model.bin")
    with pytest.raises(EngineFailed, match=r"pytorch_model\.bin: a pickle"):
        folder.check(place, "embed")
    (place / "pytorch_model.bin").unlink()
    with pytest.raises(EngineFailed, match="there are no weights"):
        folder.check(place, "embed")
    with pytest.raises(EngineFailed, match="no such folder"):
        folder.check(tmp_path / "gone", "embed")


def test_a_folder_of_the_known_kinds_passes(tmp_path: Path) -> None:
    """The modules that do arithmetic alone."""
    modules = json.loads((linked(tmp_path / "model") / "modules.json").read_bytes())
    dense = tmp_path / "model" / "3_Dense"
    dense.mkdir()
    (dense / "model.safetensors").touch()
    modules.append({"type": "sentence_transformers.models.Dense", "path": "3_Dense"})
    (tmp_path / "model" / "modules.json").unlink()
    (tmp_path / "model" / "modules.json").write_text(json.dumps(modules))

    folder.check(tmp_path / "model", "embed")
