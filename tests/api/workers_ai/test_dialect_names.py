"""Which alias answers for a model of Cloudflare's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.api.workers_ai.names import NoSuchModel, alias_of, family_of
from hybrid_router.catalogue import workers_ai
from hybrid_router.catalogue.families import Family
from hybrid_router.config.front_schema import WorkersAIDialect

MODELS = workers_ai.load().by_id()
RETIRED = next(m for m in MODELS.values() if m.id == "@cf/meta/llama-2-7b-chat-int8")
WHISPER = "@cf/openai/whisper"


def test_an_alias_of_that_very_name_comes_first() -> None:
    """Whoever names an alias as the model means it, whatever else is said."""
    dialect = WorkersAIDialect(models={WHISPER: "other"}, tasks={"Automatic Speech Recognition": "third"})

    assert alias_of(WHISPER, {WHISPER}, dialect, MODELS) == WHISPER


def test_the_first_pattern_that_fits_comes_before_the_task() -> None:
    """Patterns are read in their order; an asterisk stands for any characters."""
    dialect = WorkersAIDialect(
        models={"@cf/openai/whisper*": "ears", "*": "all"}, tasks={"Automatic Speech Recognition": "third"}
    )

    assert alias_of(WHISPER, (), dialect, MODELS) == "ears"
    assert alias_of("@cf/new/model", (), dialect, MODELS) == "all"


def test_a_retired_name_is_answered_by_its_successors_alias() -> None:
    """A model that is gone is served by the alias of the model that does its work, before its task's."""
    assert RETIRED.successor is not None
    dialect = WorkersAIDialect(tasks={"Text Generation": "usual"})

    assert alias_of(RETIRED.id, {RETIRED.successor}, dialect, MODELS) == RETIRED.successor
    assert alias_of(RETIRED.id, (), dialect, MODELS) == "usual"


def test_a_guard_is_not_found_by_its_task() -> None:
    """A chat's words are no verdict: only who is named for the guard answers for it."""
    guard, dialect = "@cf/meta/llama-guard-3-8b", WorkersAIDialect(tasks={"Text Generation": "usual"})

    with pytest.raises(NoSuchModel) as refused:
        alias_of(guard, ("usual",), dialect, MODELS)

    assert "tasks" not in refused.value.message
    assert alias_of(guard, (guard,), dialect, MODELS) == guard


@pytest.mark.parametrize("wide", ["*", "@cf/meta/*", "@cf/meta/llama-*"])
def test_a_pattern_for_chats_passes_a_guard_over(wide: str) -> None:
    """What fits models that chat too means those; the guard's own name, or one for guards alone, holds."""
    guard, dialect = "@cf/meta/llama-guard-3-8b", WorkersAIDialect(models={wide: "chat"})

    assert alias_of("@cf/meta/llama-3.2-1b-instruct", (), dialect, MODELS) == "chat"
    with pytest.raises(NoSuchModel):
        alias_of(guard, (), dialect, MODELS)
    for own in (guard, "@cf/meta/llama-guard-*"):
        named = WorkersAIDialect(models={wide: "chat", own: "judge"})
        assert alias_of(guard, (), named, MODELS) == "judge"


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("@cf/meta/lama-3-8b-instruct", "@cf/meta/llama-3-8b-instruct"), ("@cf/nobody/nothing", None)],
)
def test_a_name_that_nobody_knows_has_no_task(wrong: str, right: str | None) -> None:
    """It is refused as at Cloudflare, with the name that was probably meant; a pattern may still name it."""
    dialect = WorkersAIDialect(tasks={"Text Generation": "usual"})
    with pytest.raises(NoSuchModel) as refused:
        alias_of(wrong, ("usual",), dialect, MODELS)

    assert f'models: {{ "{wrong}": ALIAS }}' in refused.value.message
    assert refused.value.message.partition("; did you mean ")[2] == (f"{right}?" if right else "")
    assert alias_of(wrong, (), WorkersAIDialect(models={wrong: "own"}), MODELS) == "own"


def test_a_model_that_nobody_answers_for_says_what_to_write() -> None:
    """The refusal names both places of router.yaml, and has Cloudflare's status."""
    with pytest.raises(NoSuchModel, match=r'models: \{ "@cf/openai/whisper": ALIAS \}') as refused:
        alias_of(WHISPER, ("fast",), WorkersAIDialect(), MODELS)

    assert '"Automatic Speech Recognition": ALIAS' in refused.value.message
    assert refused.value.status == 400


@pytest.mark.parametrize(
    ("body", "family"),
    [
        ({"messages": []}, Family.CHAT),
        ({"prompt": "x"}, Family.CHAT),
        ({"text": ["x"]}, Family.VECTORS),
        ({"text": "x", "target_lang": "de"}, Family.TRANSLATION),
        ({"query": "x", "contexts": []}, Family.RERANK),
        (None, Family.CHAT),
    ],
)
def test_the_input_tells_how_an_unknown_model_is_asked(
    body: dict[str, object] | None, family: Family
) -> None:
    """A name that Cloudflare does not have is asked as its input looks."""
    assert family_of("mine", MODELS, body) is family


@given(st.sampled_from(sorted(MODELS)), st.sets(st.sampled_from(sorted(MODELS)), max_size=3))
def test_only_aliases_that_exist_or_are_named_answer(model: str, aliases: set[str]) -> None:
    """Whatever is asked, the answer is an alias that there is, or one that router.yaml names."""
    dialect = WorkersAIDialect(models={"@cf/meta/*": "metas"}, tasks={"Translation": "words"})
    try:
        found = alias_of(model, aliases, dialect, MODELS)
    except NoSuchModel:
        return

    assert found in aliases | {"metas", "words"}
