"""Translations by Workers AI: languages found out, told in the models' words, texts kept in order."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_cloud import Reply, answer
from tasks_cloud import INDICTRANS, M2M100, result, tasks_cloud, translate

from hybrid_router.backends.workers_ai.tasks.translation import INDIC, target_of
from hybrid_router.backends.workers_ai.tasks.translation import M2M100 as SPOKEN
from hybrid_router.catalogue.families import Family
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendError, NotAble
from hybrid_router.core.event import Finish, Label, Text

GERMAN = "Wo ist der nächste Bahnhof, bitte?"
ENGLISH = "Where is the nearest train station, please?"


def marked(body: Any) -> Reply:
    """A translation that says what it is of."""
    return result({"translated_text": f"{body['source_lang']}>{body['target_lang']}: {body['text']}"})


async def test_texts_are_translated_some_at_a_time_and_come_back_in_order() -> None:
    """One a request, and never more than eight requests at once."""
    given = [f"house {number}" for number in range(20)]
    async with tasks_cloud(marked) as (backend, server):
        told = await answer(backend, translate(*given), M2M100)

    texts = [event for event in told if isinstance(event, Text)]
    assert texts == [Text(f"en>de: {text}", index) for index, text in enumerate(given)]
    assert [event.index for event in told if isinstance(event, Finish)] == list(range(20))
    assert 1 < server.most_count <= 8


async def test_a_language_that_nobody_named_is_found_out_and_told() -> None:
    """For each text, and one that is in the language that is wanted is not sent anywhere."""
    async with tasks_cloud(marked) as (backend, server):
        told = await answer(backend, translate(ENGLISH, GERMAN, source=None), M2M100)

    assert [(event.label, event.index) for event in told if isinstance(event, Label)] == [
        ("en", 0),
        ("de", 1),
    ]
    texts = {event.index: event.text for event in told if isinstance(event, Text)}
    assert texts == {0: f"en>de: {ENGLISH}", 1: GERMAN}
    assert [body["text"] for body in server.asked] == [ENGLISH]
    assert sum(isinstance(event, Finish) for event in told) == 2


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (translate("Hello", source=None), "source"),
        (translate("a", source="tlh"), "source"),
        (translate("a", target="tlh"), "target"),
        (translate("a", target="te"), "target"),
    ],
)
async def test_what_the_model_does_not_speak_is_not_asked(call: Call, param: str) -> None:
    """Another step may; the caller is told the field."""
    async with tasks_cloud(marked) as (backend, server):
        with pytest.raises(NotAble) as refused:
            await answer(backend, call, M2M100)
    assert (refused.value.param, refused.value.status) == (param, 400)
    assert server.asked == []


@pytest.mark.parametrize(
    ("family", "name", "told"),
    [
        (Family.TRANSLATION, "de", "de"),
        (Family.TRANSLATION, "pt-BR", "pt"),
        (Family.TRANSLATION, "zho_Hans", "zh"),
        (Family.TRANSLATION, "nb", "no"),
        (Family.TRANSLATIONS, "hi", "hin_Deva"),
        (Family.TRANSLATIONS, "mni_Mtei", "mni_Mtei"),
        (Family.TRANSLATIONS, "mai", "mai_Deva"),
        (Family.TRANSLATIONS, "or", "ory_Orya"),
        (Family.TRANSLATIONS, "sa", "san_Deva"),
        (Family.TRANSLATIONS, "sd", "snd_Arab"),
    ],
)
def test_languages_are_named_as_the_model_does(family: Family, name: str, told: str) -> None:
    """ISO 639-1 codes, or the model's own."""
    assert target_of(family, name) == told


def test_every_language_of_a_model_can_be_named() -> None:
    """Each in the model's own words."""
    assert [target_of(Family.TRANSLATIONS, name) for name in INDIC] == list(INDIC)
    assert {target_of(Family.TRANSLATION, name) for name in SPOKEN} == SPOKEN


async def test_a_model_of_one_source_takes_several_texts_a_request() -> None:
    """Sixteen at most, and their order is kept."""
    given = [f"house {number}" for number in range(20)]

    def some(body: Any) -> Reply:
        return result({"translations": [f"{body['target_language']} {text}" for text in body["text"]]})

    async with tasks_cloud(some) as (backend, server):
        told = await answer(backend, translate(*given, target="hi"), INDICTRANS)

    assert sorted(len(body["text"]) for body in server.asked) == [4, 16]
    texts = [event for event in told if isinstance(event, Text)]
    assert texts == [Text(f"hin_Deva {text}", index) for index, text in enumerate(given)]


async def test_a_model_of_one_source_reads_no_other() -> None:
    """Whether the language was told or found out."""
    async with tasks_cloud(marked) as (backend, server):
        for call in (translate("a", target="hi", source="de"), translate(GERMAN, target="hi", source=None)):
            with pytest.raises(NotAble, match="does not read the language de"):
                await answer(backend, call, INDICTRANS)
    assert server.asked == []


@pytest.mark.parametrize("translations", [["a"], ["a", "b", "c"], ["a", ""], ["a", None]])
async def test_a_translation_that_is_missing_breaks_the_answer(translations: Any) -> None:
    """A text without its translation is not passed over."""
    async with tasks_cloud(lambda _: result({"translations": translations})) as (backend, _):
        with pytest.raises(BackendError):
            await answer(backend, translate("one", "two", target="hi"), INDICTRANS)
