"""Labels, verdicts and descriptions of Workers AI."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from scripted_cloud import Reply, answer
from tasks_cloud import (
    BART,
    DETR,
    DISTILBERT,
    GUARD,
    LLAVA,
    PICTURE,
    RESNET,
    UFORM,
    asked_of,
    classify,
    moderate,
    picture,
    result,
    shown,
    talk,
    tasks_cloud,
)

from hybrid_router.backends.workers_ai.tasks import description, labels, summary, verdicts
from hybrid_router.core.call import (
    AudioPart,
    Call,
    Feature,
    ImagePart,
    Message,
    Operation,
    Sampling,
    TextPart,
)
from hybrid_router.core.errors import BackendError, Inexpressible
from hybrid_router.core.event import Finish, Label, Progress, Text, Verdict
from hybrid_router.core.upload import upload_of

pytestmark = pytest.mark.usefixtures("own_uploads")

ROWS = [{"label": "DOG", "score": 0.1}, {"label": "CAT", "score": 0.8}, {"label": "FOX", "score": 0.05}]


async def test_a_picture_goes_as_it_is_and_the_likeliest_labels_come_first() -> None:
    """As many as are wanted, in whatever order they came."""
    async with tasks_cloud(lambda _: result(ROWS)) as (backend, server):
        told = await answer(backend, classify(uploads=(picture(),), top_k=2), RESNET)

    assert told == [Label("CAT", 0.8), Label("DOG", 0.1), Finish("stop")]
    assert server.asked == [PICTURE]
    assert server.media_types == ["application/octet-stream"]


async def test_things_in_a_picture_have_their_places() -> None:
    """Left, top, right, bottom."""
    rows = [{"label": "cat", "score": 0.9, "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40}}]
    async with tasks_cloud(lambda _: result(rows)) as (backend, _):
        told = await answer(backend, classify(uploads=(picture(),)), DETR)

    assert told == [Label("cat", 0.9, box=(1, 2, 30, 40)), Finish("stop")]


async def test_a_picture_in_which_nothing_is_found_is_an_answer() -> None:
    """Of a detector; what has labels for all pictures must give one."""
    async with tasks_cloud(lambda _: result([])) as (backend, _):
        assert await answer(backend, classify(uploads=(picture(),)), DETR) == [Finish("stop")]


async def test_a_thing_without_its_place_is_no_answer() -> None:
    """A detector says where."""
    async with tasks_cloud(lambda _: result(ROWS)) as (backend, _):
        with pytest.raises(BackendError, match="place"):
            await answer(backend, classify(uploads=(picture(),)), DETR)


async def test_a_text_has_its_labels() -> None:
    """The likelier mood first, whatever order they are sent in."""
    rows = [{"label": "NEGATIVE", "score": 0.01}, {"label": "POSITIVE", "score": 0.99}]
    async with tasks_cloud(lambda _: result(rows)) as (backend, server):
        told = await answer(backend, classify(prompts=("a joy",)), DISTILBERT)

    assert told == [Label("POSITIVE", 0.99), Label("NEGATIVE", 0.01), Finish("stop")]
    assert server.asked == [{"text": "a joy"}]


@pytest.mark.parametrize(
    ("model", "call"),
    [
        (RESNET, lambda: classify(prompts=("a joy",))),
        (RESNET, classify),
        (DISTILBERT, lambda: classify(uploads=(picture(),))),
        (DISTILBERT, lambda: classify(prompts=("a", "b"))),
    ],
)
async def test_a_picture_is_for_models_of_pictures_and_a_text_for_those_of_texts(
    model: str, call: Callable[[], Call]
) -> None:
    """Nothing is sent to the other."""
    async with tasks_cloud(lambda _: result(ROWS)) as (backend, server):
        with pytest.raises(Inexpressible, match="classifies one"):
            await answer(backend, call(), model)
    assert server.asked == []


def test_a_picture_that_is_too_large_is_not_sent() -> None:
    """It is refused before its bytes are read."""
    large = upload_of(bytes(labels.MOST_IMAGE_BYTES + 1))
    try:
        with pytest.raises(Inexpressible, match="at most"):
            labels.of_image(asked_of(RESNET, classify(uploads=(large,))))
    finally:
        large.close()


@pytest.mark.parametrize(
    ("response", "flagged"),
    [
        ("safe", ()),
        ("\n\nsafe", ()),
        ("unsafe\nS1", ("violence", "illicit/violent")),
        ("\n\nunsafe\nS1,S10", ("violence", "illicit/violent", "hate")),
        ("unsafe\nS11, S4", ("self-harm", "sexual/minors", "sexual")),
        ("unsafe\nS6", ("specialized-advice",)),
        ("unsafe", ("unsafe",)),
        ("unsafe\nS77", ("unsafe",)),
        ({"safe": True}, ()),
        ({"safe": True, "categories": []}, ()),
        ({"safe": False, "categories": ["S3"]}, ("sexual", "illicit")),
        ({"safe": False, "categories": ["Hate", "S9"]}, ("hate", "illicit/violent")),
        ({"safe": False, "categories": None}, ("unsafe",)),
    ],
)
def test_a_verdict_in_either_form_is_told_in_openais_words(response: Any, flagged: tuple[str, ...]) -> None:
    """Numbers of hazards become categories; how likely they are, the model does not tell."""
    body = json.dumps({"result": {"response": response}, "success": True}).encode()
    [verdict, finish] = verdicts.decode(body, index=2)

    assert isinstance(verdict, Verdict)
    assert (verdict.flagged, verdict.index, finish) == (flagged, 2, Finish("stop", 2))
    assert {name for name, score in verdict.scores if score} == set(flagged)
    assert len(verdict.scores) >= 13


@pytest.mark.parametrize("number", range(1, 15))
def test_every_hazard_of_the_guard_has_a_category_of_its_name(number: int) -> None:
    """None of the fourteen is merely unsafe."""
    named = verdicts.of_hazards([f"S{number}"])

    assert named
    assert "unsafe" not in named


@pytest.mark.parametrize("response", ["I cannot help with that", "", {"categories": ["S1"]}, ["safe"], None])
async def test_what_is_no_verdict_lets_nothing_pass(response: Any) -> None:
    """Nobody takes chatter for harmless."""
    async with tasks_cloud(lambda _: result({"response": response})) as (backend, _):
        with pytest.raises(BackendError):
            await answer(backend, moderate("hello"), GUARD)


async def test_each_text_is_judged_by_itself() -> None:
    """As what a user says, and without dice; the verdicts come in the texts' order."""

    def judged(body: Any) -> Reply:
        return result({"response": "unsafe\nS10" if body["messages"][0]["content"] == "b" else "safe"})

    async with tasks_cloud(judged) as (backend, server):
        told = await answer(backend, moderate("a", "b", "c"), GUARD)

    found = {event.index: event.flagged for event in told if isinstance(event, Verdict)}
    assert found == {0: (), 1: ("hate",), 2: ()}
    assert sum(isinstance(event, Finish) for event in told) == 3
    bodies = sorted(server.asked, key=lambda body: body["messages"][0]["content"])
    assert bodies[0] == {"messages": [{"role": "user", "content": "a"}], "temperature": 0}


async def test_a_guard_chats_as_before_and_judges_no_pictures() -> None:
    """Its verdicts are one more thing that it does."""
    async with tasks_cloud(lambda _: result({"response": "safe"})) as (backend, server):
        assert backend.operations(GUARD) == {Operation.CHAT, Operation.COMPLETE, Operation.MODERATE}
        with pytest.raises(Inexpressible, match="text alone"):
            await answer(backend, moderate(uploads=(picture(),)), GUARD)
    assert server.asked == []


async def test_a_picture_is_described() -> None:
    """It goes as numbers, beside what is said of it and the fields that such models know."""
    call = talk(
        Message(role="system", content="Be brief."),
        shown("What is this?"),
        sampling=Sampling(max_tokens=64, temperature=0.5, seed=3),
        n=2,
    )

    def described(body: Any) -> Reply:
        return result({"description": f"a cat {body['seed']}"})

    async with tasks_cloud(described) as (backend, server):
        told = await answer(backend, call, LLAVA)

    said = [event for event in told if not isinstance(event, Progress)]
    assert said == [Text("a cat 3"), Finish("stop"), Text("a cat 4", 1), Finish("stop", 1)]
    assert min(server.asked, key=lambda body: body["seed"]) == {
        "image": list(PICTURE),
        "prompt": "Be brief.\nWhat is this?",
        "max_tokens": 64,
        "temperature": 0.5,
        "seed": 3,
    }


async def test_a_picture_without_a_word_goes_without_a_prompt() -> None:
    """The model then describes it by itself."""
    [piece] = description.write(asked_of(LLAVA, talk(shown(""))))

    assert callable(piece.errand.body)
    assert json.loads(b"".join([part async for part in piece.errand.body()])) == {"image": list(PICTURE)}


def test_what_was_said_before_is_part_of_the_prompt() -> None:
    """With who said it, up to the answer that is wanted."""
    call = talk(
        shown("What is this?"),
        Message(role="assistant", content="A cat."),
        Message(role="user", content="Which colour?"),
    )

    assert description.prompt(call) == (
        "User: What is this?\nAssistant: A cat.\nUser: Which colour?\nAssistant:"
    )


@pytest.mark.parametrize(
    ("said", "shows"),
    [
        ("red STOP blue", [Text("red "), Finish("stop")]),
        ("STOP", [Finish("stop")]),
        ("ST", [Text("ST"), Finish("stop")]),
    ],
)
async def test_a_description_ends_before_a_stop_string(said: str, shows: list[Any]) -> None:
    """Though the model cannot be told one."""
    call = talk(shown(), sampling=Sampling(stop=("STOP",)))
    async with tasks_cloud(lambda _: result({"description": said})) as (backend, _):
        assert await answer(backend, call, UFORM) == shows


WORDS = Message(role="user", content="Hello")
TOOL = {"type": "function", "function": {"name": "f"}}
URL = Message(role="user", content=[ImagePart(image_url={"url": "https://example.org/a.png"})])
SOUND = Message(role="user", content=[AudioPart(input_audio={"data": "AAAA", "format": "wav"})])
BROKEN = Message(role="user", content=[ImagePart(image_url={"url": "data:image/png;base64,????"})])


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (talk(WORDS), "messages"),
        (talk(shown(), shown()), "messages"),
        (talk(URL), "messages"),
        (talk(BROKEN), "messages"),
        (talk(shown(), SOUND), "messages"),
        (talk(shown(), Message(role="tool", content="7", tool_call_id="x")), "messages"),
        (talk(shown(content=bytes(description.MOST_IMAGE_BYTES + 3))), "messages"),
        (talk(shown(), tools=(TOOL,)), "tools"),
        (talk(shown(), response_format={"type": "json_object"}), "response_format"),
        (talk(shown(), top_logprobs=2), "logprobs"),
    ],
)
def test_what_such_a_model_cannot_do_is_not_asked_of_it(call: Call, param: str) -> None:
    """Neither left out nor bent: another backend may do it."""
    with pytest.raises(Inexpressible) as refused:
        description.write(asked_of(LLAVA, call))

    assert refused.value.param == param


async def test_models_that_describe_see_images_and_nothing_more() -> None:
    """Whether or not the catalogue has a flag for that."""
    async with tasks_cloud(lambda _: result({})) as (backend, _):
        for model in (LLAVA, UFORM):
            assert backend.operations(model) == {Operation.CHAT}
            assert backend.features(model) == {Feature.IMAGES}


async def test_what_the_user_said_is_summarised() -> None:
    """The order to do so is the model's own trade."""
    call = talk(
        Message(role="system", content="Summarise."),
        Message(role="user", content=[TextPart(text="A long "), TextPart(text="story.")]),
        sampling=Sampling(max_tokens=80),
    )
    async with tasks_cloud(lambda _: result({"summary": "A story."})) as (backend, server):
        told = await answer(backend, call, BART)

    assert told == [Text("A story."), Finish("stop")]
    assert server.asked == [{"input_text": "A long story.", "max_length": 80}]


@pytest.mark.parametrize(
    ("call", "param"),
    [
        (talk(WORDS, Message(role="assistant", content="Hi"), WORDS), "messages"),
        (talk(Message(role="system", content="Summarise.")), "messages"),
        (talk(Message(role="user", content=" ")), "messages"),
        (talk(shown()), "messages"),
        (talk(WORDS, n=2), "n"),
        (talk(WORDS, sampling=Sampling(stop=("x",))), "stop"),
        (talk(WORDS, tools=(TOOL,)), "tools"),
    ],
)
def test_a_conversation_is_not_summarised(call: Call, param: str) -> None:
    """The model reads one text, and makes one of it."""
    with pytest.raises(Inexpressible) as refused:
        summary.write(asked_of(BART, call))

    assert refused.value.param == param
