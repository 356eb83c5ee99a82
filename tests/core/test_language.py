"""Which languages a prompt is written in."""

from __future__ import annotations

import pytest

from hybrid_router.config.languages import LANGUAGES
from hybrid_router.config.load import loads
from hybrid_router.config.problems import ConfigErrors
from hybrid_router.config.schema import Condition
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.language import COMMON, detector, said_by_the_user
from hybrid_router.routing.conditions import compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.subject import Subject

GERMAN = "Bitte fasse mir diesen Vertrag in drei Sätzen zusammen."
TOLD = detector(frozenset({"de"}))


def chat(*said: str, role: str = "user") -> Call:
    """A chat of these messages."""
    messages = tuple(Message(role=role, content=text) for text in said)  # type: ignore[arg-type]
    return Call(id="x", operation=Operation.CHAT, alias="a", messages=messages)


def holds(names: tuple[str, ...], call: Call) -> bool:
    """Whether a call is written in one of these languages."""
    return compiled(Condition(language=names))(Subject(call, Facts()))


@pytest.mark.parametrize(
    ("text", "language"),
    [
        (GERMAN, "de"),
        ("Was ist los mit meinem Auto?", "de"),
        ("Can you summarise this for me?", "en"),
        ("Fix this error: TypeError undefined is not a function", "en"),
        ("Come si chiama tuo fratello?", "it"),
        ("dame una lista de frutas", "es"),
        ("Привет, как дела?", "ru"),
        ("这是中文，请翻译这个句子", "zh"),
        ("日本語で答えてください", "ja"),
        ("Mi a véleményed erről a könyvről?", "hu"),
    ],
)
def test_a_sentence_is_enough(text: str, language: str) -> None:
    """Of common languages, in any script."""
    assert language in TOLD.languages(text)


@pytest.mark.parametrize("text", ["", "Danke sehr!", "ok", "12 345 678 " * 50, "你好", "\ud800" * 30])
def test_a_few_letters_are_no_proof(text: str) -> None:
    """Below some 20 Latin, 10 Cyrillic or 7 Chinese letters nothing is said, and no rule holds."""
    assert TOLD.languages(text) == frozenset()
    assert not holds(tuple(sorted(COMMON)), chat(text))


@pytest.mark.parametrize(
    "code",
    [
        "def f(x):\n    return x + 1\n\nclass Foo(Bar):\n    def __init__(self): pass",
        "SELECT id, ts FROM rows WHERE id = 3;",
    ],
)
def test_code_is_in_no_foreign_language(code: str) -> None:
    """What looks like nothing is not taken for the least unlikely."""
    assert TOLD.languages(code) <= {"en"}


def test_a_prompt_may_be_in_two_languages() -> None:
    """A German question about an English text is both."""
    both = "Bitte übersetze diesen Text ins Deutsche: The quick brown fox jumps over the lazy dog and runs."

    assert TOLD.languages(both) == {"de", "en"}


def test_only_what_the_user_says_counts() -> None:
    """An English system prompt and English answers do not hide a German question."""
    english = Message(role="system", content="You are a helpful assistant. Answer every question politely.")
    call = Call(
        id="x",
        operation=Operation.CHAT,
        alias="a",
        messages=(english, Message(role="user", content=GERMAN), english),
    )

    assert holds(("de",), call)
    assert not holds(("en",), call)
    assert compiled(Condition(language=("de",), any=(Condition(language=("de",)),)))(Subject(call, Facts()))
    assert not holds(("de",), chat(GERMAN, role="system"))
    assert holds(("de",), Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=((1, 2), GERMAN)))


def test_only_the_beginning_is_read() -> None:
    """2,000 characters tell, however long the prompt is."""
    assert said_by_the_user(chat(GERMAN, "x" * 5_000)).startswith(GERMAN + "\nxx")
    assert len(said_by_the_user(chat(GERMAN, "x" * 5_000))) == 2_000


def test_a_language_that_is_named_is_told_from_the_common_ones() -> None:
    """Welsh is looked for only where a rule names it."""
    welsh = "Mae'r tywydd yn braf iawn heddiw yng Nghymru, on'd ydy?"

    assert holds(("cy",), chat(welsh))
    assert "cy" not in COMMON
    assert "cy" not in TOLD.languages(welsh)


def test_the_names_are_those_the_model_knows() -> None:
    """A rule cannot name what nobody can tell."""
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # type: ignore[import-untyped] # noqa: PLC0415

    known = LanguageIdentifier.from_model_file(MODEL_FILE).labels

    assert {name for name in known if len(name) == 2} == LANGUAGES
    assert COMMON < LANGUAGES


def test_an_unknown_language_is_a_mistake_in_the_file() -> None:
    """It would hold for no call, and who wrote it would not notice."""
    with pytest.raises(ConfigErrors, match="no language xx"):
        loads(
            "backends: {l: {type: local, models: {m: {}}}}\n"
            "aliases: {a: {try: l/m}}\n"
            "rules: [{name: stay, when: {language: xx}, local_only: true}]\n"
        )


@pytest.mark.parametrize(("text", "language"), [("Wie geht es dir?", "de"), ("你好", "zh"), ("Hello", None)])
def test_a_short_text_has_a_language_only_if_one_is_likelier_than_all_others(
    text: str, language: str | None
) -> None:
    """Who needs one language gets one that is more likely than not, or none."""
    told = TOLD.likeliest(text)

    assert (told[0] if told else None) == language
