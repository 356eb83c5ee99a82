"""Tasks of vectors, labels and words against the emulator, which checks requests by the models' schemas."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from emulated_cloud import emulating
from scripted_cloud import answer, models
from tasks_cloud import classify, embed, moderate, picture, rerank, shown, talk, translate

from hybrid_router.backends.workers_ai.tasks.table import TASKS
from hybrid_router.catalogue.families import Family, family
from hybrid_router.core.asks import Encoding
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Embedding, Event, Finish, Relevance
from hybrid_router.emulator.settings import Settings

pytestmark = pytest.mark.usefixtures("own_uploads")

CALLS: dict[tuple[Family, Operation], Callable[[], Call]] = {
    (Family.VECTORS, Operation.EMBED): lambda: embed("a", "b"),
    (Family.VECTORS_M3, Operation.EMBED): lambda: embed("a", "b", truncate="end"),
    (Family.VECTORS_QWEN, Operation.EMBED): lambda: embed("a", "b", ask=Encoding(purpose="clustering")),
    (Family.RERANK, Operation.RERANK): lambda: rerank("q", "a", "b"),
    (Family.VECTORS_M3, Operation.RERANK): lambda: rerank("q", "a", "b"),
    (Family.IMAGE_LABELS, Operation.CLASSIFY): lambda: classify(uploads=(picture(),)),
    (Family.TEXT_LABELS, Operation.CLASSIFY): lambda: classify(prompts=("a joy",)),
    (Family.DESCRIPTION, Operation.CHAT): lambda: talk(shown()),
    (Family.TRANSLATION, Operation.TRANSLATE): lambda: translate("house", "garden"),
    (Family.TRANSLATIONS, Operation.TRANSLATE): lambda: translate("house", "garden", target="hi"),
    (Family.GUARD, Operation.MODERATE): lambda: moderate("hello", "there"),
}


async def test_every_model_that_is_offered_takes_what_it_is_asked() -> None:
    """By its schema, and its answer is whole: of all models whose task is one of these."""
    asked: set[tuple[Family, Operation]] = set()
    async with emulating(Settings(paid=True, rate_limits=False)) as (backend, _):
        for model in models().values():
            offered = [key for key in CALLS if key[0] is family(model) and model.status == "listed"]
            for key in offered:
                call = CALLS[key]()
                told = await answer(backend, call, model.id)
                assert sum(isinstance(event, Finish) for event in told) == call.choices_count, model.id
                assert len(told) > call.choices_count, model.id
                assert fits(model.dimensions, told), model.id
                asked.add(key)

    assert asked == CALLS.keys()
    assert asked <= TASKS.keys()


def fits(dimensions: int | None, told: list[Event]) -> bool:
    """Vectors are as long as the catalogue says; scores are numbers from 0 to 1."""
    widths = {len(event.values) // 4 for event in told if isinstance(event, Embedding)}
    scores = [event.score for event in told if isinstance(event, Relevance)]
    return (dimensions is None or widths <= {dimensions}) and all(0 <= score <= 1 for score in scores)
