"""Translation: a real m2m100 of random weights for the way of a text; the parts, for what it is cut into."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_translator import WORDS, tiny_translator

from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Event, Finish, Label, Text, Usage
from hybrid_router.engines.opening import open_engine
from hybrid_router.engines.settings import TranslatorSettings
from hybrid_router.engines.task import Answer, Engine, EngineFailed, Output, Refused, Task
from hybrid_router.engines.translate.languages import Languages, bare
from hybrid_router.engines.translate.pieces import begins_word, opened_pieces
from hybrid_router.engines.translate.sentences import portions, sentences

SENTENCE = " ".join(WORDS[:8]) + "."
ENGLISH = "The weather is beautiful today, and we would like to walk along the river before dinner."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model's folder."""
    return tiny_translator(tmp_path_factory.mktemp("translator"))


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    """As a child opens it."""
    opened = open_engine(settings(folder))
    yield opened
    opened.close()


def settings(folder: Path, source: str | None = None, target: str | None = None) -> TranslatorSettings:
    return TranslatorSettings(
        path=str(folder), threads=1, device="cpu", beam_size=1, source=source, target=target
    )


def answered(engine: Engine, *texts: str, target: str = "de", source: str | None = "en") -> list[Answer]:
    ask = Translation(target=target, source=source)
    answers = engine.begin(Task(id=1, operation=Operation.TRANSLATE, prompts=texts, ask=ask))
    while engine.busy:
        answers += engine.step()
    return answers


def events(answers: list[Answer]) -> list[Event]:
    """Of an answer that is whole."""
    assert not [answer for answer in answers if isinstance(answer, Refused)]
    return [event for answer in answers if isinstance(answer, Output) for event in answer.events]


def texts(answers: list[Answer], index: int = 0) -> str:
    return "".join(e.text for e in events(answers) if isinstance(e, Text) and e.index == index)


def refused(answers: list[Answer]) -> Refused:
    [no] = answers
    assert isinstance(no, Refused)
    return no


def test_every_text_is_answered(engine: Engine) -> None:
    """In the order of the inputs, each finished once, with the tokens that were read and written."""
    found = events(answered(engine, SENTENCE, f"{SENTENCE} {SENTENCE}"))

    assert [event for event in found if isinstance(event, Finish)] == [Finish("stop", 0), Finish("stop", 1)]
    indices = [event.index for event in found if isinstance(event, Text)]
    assert indices == sorted(indices)
    assert set(indices) == {0, 1}
    usage = found[-1]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0


def test_a_sentence_is_translated_alike_wherever_it_stands(engine: Engine) -> None:
    """A document is its sentences' translations, with what stood between them."""
    alone = texts(answered(engine, SENTENCE))

    assert texts(answered(engine, f"{SENTENCE}\n\n{SENTENCE}")) == f"{alone}\n\n{alone}"
    assert texts(answered(engine, f"{SENTENCE} {SENTENCE}")) == f"{alone} {alone}"
    assert texts(answered(engine, "one.", SENTENCE), 1) == alone


def test_the_language_that_is_wanted_matters(engine: Engine) -> None:
    """The model is told both languages: another one is another text."""
    assert texts(answered(engine, SENTENCE, target="de")) != texts(answered(engine, SENTENCE, target="es"))
    assert texts(answered(engine, SENTENCE, target="de-AT")) == texts(answered(engine, SENTENCE, target="de"))


def test_a_language_that_nobody_named_is_told(engine: Engine) -> None:
    """It is found out for each text by itself, and said before its translation."""
    german = "Das Wetter ist heute schön, und wir möchten vor dem Essen am Fluss spazieren gehen."
    found = events(answered(engine, ENGLISH, german, target="fr", source=None))

    told = [event for event in found if isinstance(event, Label)]
    assert [(label.label, label.index) for label in told] == [("en", 0), ("de", 1)]
    assert all(label.score > 0.5 for label in told)


def test_what_is_in_the_language_already_stays(engine: Engine) -> None:
    """To the letter."""
    assert texts(answered(engine, ENGLISH, target="en", source=None)) == ENGLISH
    assert texts(answered(engine, "  a\n b", target="en")) == "  a\n b"


@pytest.mark.parametrize(("field", "asked"), [("target", ("xx", "en")), ("source", ("de", "xx"))])
def test_an_unknown_language_is_the_callers_fault(engine: Engine, field: str, asked: tuple[str, str]) -> None:
    """Refused before anything is computed, by the field's name."""
    no = refused(answered(engine, SENTENCE, target=asked[0], source=asked[1]))

    assert (no.by_call, no.param) == (True, field)
    assert "'xx'" in no.message


def test_too_much_text_is_refused(engine: Engine) -> None:
    """Before it is cut."""
    assert "200000 characters" in refused(answered(engine, "a" * 100_000, "b" * 100_001)).message


def test_a_folder_without_tokenizer_is_named(folder: Path, tmp_path: Path) -> None:
    """With what belongs into it."""
    copied = shutil.copytree(folder, tmp_path / "copied")
    (copied / "sentencepiece.bpe.model").unlink()

    with pytest.raises(EngineFailed, match=r"copied: its tokenizer is missing.*sentencepiece\.bpe\.model"):
        open_engine(settings(copied))


@pytest.mark.parametrize("damage", ["cut", "no_vocabulary", "absent"])
def test_what_is_no_model_is_named(folder: Path, tmp_path: Path, damage: str) -> None:
    """By its folder."""
    copied = tmp_path / "copied"
    if damage != "absent":
        shutil.copytree(folder, copied)
    if damage == "cut":
        (copied / "model.bin").write_bytes((folder / "model.bin").read_bytes()[:1000])
    if damage == "no_vocabulary":
        (copied / "shared_vocabulary.json").unlink()

    with pytest.raises(EngineFailed, match="copied"):
        open_engine(settings(copied))


@given(st.lists(st.sampled_from(["Hello.", "How are you?", "Dr. Who came.", "好。", "\n", "\n\n", " "])))
def test_nothing_is_lost_between_sentences(parts: list[str]) -> None:
    """Sentences with what is before them are the text again, but for single spaces."""
    text = "".join(parts)

    found = sentences(text)

    joined = "".join(sentence.before + sentence.text for sentence in found)
    assert "".join(joined.split()) == "".join(text.split())
    assert joined.count("\n") == text.strip().count("\n")
    assert all(sentence.text.strip() == sentence.text != "" for sentence in found)


def test_sentences_end_where_they_do() -> None:
    """Not behind a short form, and in scripts that have no space between them."""
    found = sentences("Dr. Who e.g. came. “Really?” she asked! 今天好。明天呢？ 3.5 is z. B. a number.")

    assert [sentence.text for sentence in found] == [
        "Dr. Who e.g. came.",
        "“Really?”",
        "she asked!",
        "今天好。",
        "明天呢？",
        "3.5 is z. B. a number.",
    ]


@given(st.lists(st.sampled_from(["▁a", "b", "▁c"]), max_size=80), st.integers(2, 20))
def test_long_sentences_come_in_portions(pieces: list[str], most: int) -> None:
    """All of them, none too long, cut before a word if there is one in the second half."""
    found = portions(pieces, most, begins_word)

    assert [piece for portion in found for piece in portion] == pieces
    assert all(1 <= len(portion) <= most for portion in found)


def test_pieces_are_the_text_again(folder: Path) -> None:
    """What the tokenizer cuts it joins."""
    pieces = opened_pieces(folder)

    assert pieces.joined(pieces.cut(SENTENCE)) == SENTENCE


@pytest.mark.parametrize(
    ("vocabulary", "family", "asked", "token"),
    [
        (["a", "__de__", "__en__"], "m2m100", "de-CH", "__de__"),
        (["a", "__no__", "__en__"], "m2m100", "nb", "__no__"),
        (["a", "deu_Latn", "eng_Latn"], "nllb", "de", "deu_Latn"),
        (["a", "deu_Latn", "eng_Latn"], "nllb", "eng_Latn", "eng_Latn"),
        (["a", ">>deu<<", ">>fra<<"], "opus", "fr", ">>fra<<"),
        (["a", ">>pt_br<<", ">>fr<<"], "opus", "fr", ">>fr<<"),
        (["a", "b"], "opus", "de", None),
    ],
)
def test_each_family_writes_languages_its_own_way(
    vocabulary: list[str], family: str, asked: str, token: str | None
) -> None:
    """ISO 639 names, with or without a region, and the model's own are understood."""
    languages = Languages(vocabulary)

    assert languages.family == family
    assert languages.token(asked) == token


def test_a_language_is_itself_in_any_spelling() -> None:
    """Region and script aside."""
    assert {bare("zh-TW"), bare("zho_Hans"), bare("ZH")} == {"zh"}
