"""Moderations, classification and translation on the wire: what is read, refused and answered."""

from __future__ import annotations

import base64
import errno
from typing import Any

import pytest
from scripted_answers import Reply, ScriptedAnswers, exchange, listening, post, request_bytes

from hybrid_router.core.asks import Classification, Translation
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.event import Finish, Label, Text, Usage, Verdict

PICTURE = "data:image/png;base64," + base64.b64encode(b"picture").decode()


def part(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image(url: str = PICTURE) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def verdict(index: int, **scores: float) -> Verdict:
    flagged = tuple(name for name, score in scores.items() if score > 0.5)
    return Verdict(flagged=flagged, scores=tuple(scores.items()), index=index)


async def asked(path: str, body: Any, script: list[Any]) -> tuple[Reply, ScriptedAnswers]:
    answers = ScriptedAnswers(script)
    async with listening(answers) as listener:
        return await post(listener.port, path, body), answers


async def test_each_text_has_its_result() -> None:
    """In their order, with every category of OpenAI's."""
    script = [[verdict(1, hate=0.9)], [verdict(0, hate=0.1), Finish("stop"), Finish("stop", 1)]]
    reply, answers = await asked("/v1/moderations", {"model": "fast", "input": ["a", "b"]}, script)

    [call] = answers.calls
    assert (call.operation, call.prompts, call.uploads) == (Operation.MODERATE, ("a", "b"), ())
    first, second = reply.json["results"]
    assert (first["flagged"], second["flagged"]) == (False, True)
    assert len(first["categories"]) == len(second["category_scores"]) == 13
    assert (first["category_scores"]["hate"], second["category_scores"]["hate"]) == (0.1, 0.9)
    assert second["category_applied_input_types"]["hate"] == ["text"]


async def test_parts_have_one_result() -> None:
    """The worst of them counts; images only for categories that are looked for in images."""
    script = [[verdict(0, hate=0.2, violence=0.1), verdict(1, violence=0.8, gore=0.9), Finish("stop")]]
    body = {"model": "fast", "input": [part("a"), image()]}
    reply, answers = await asked("/v1/moderations", body, script)

    [call] = answers.calls
    assert call.features == {Feature.IMAGES}
    assert [upload.size_bytes for upload in call.uploads] == [len(b"picture")]
    [result] = reply.json["results"]
    assert result["category_scores"]["violence"] == 0.8
    assert result["category_applied_input_types"]["violence"] == ["text", "image"]
    assert result["category_applied_input_types"]["hate"] == ["text"]
    assert result["categories"]["gore"] is True  # no word of OpenAI's, and it counts


async def test_a_missing_verdict_is_no_answer() -> None:
    """Nobody takes silence for harmless."""
    script = [[verdict(0), Finish("stop"), Finish("stop", 1)]]
    reply, _ = await asked("/v1/moderations", {"model": "fast", "input": ["a", "b"]}, script)

    assert reply.error["code"] == "stream_broken"


async def test_a_moderation_may_name_no_model() -> None:
    """Then it is OpenAI's own that is looked for among the aliases."""
    reply, _ = await asked("/v1/moderations", {"input": "a"}, [])

    assert reply.status == 404
    assert "omni-moderation-latest" in reply.error["message"]


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ([], "input"),
        (["a", part("b")], "input[0]"),
        ([part("a"), {"type": "file", "file": {}}], "input[1]"),
        ([image("http://10.0.0.1/a.png")], "input[0].image_url.url"),
        ([image("data:image/png;base64,???")], "input[0].image_url.url"),
        ([image("data:image/png;base64,")], "input[0].image_url.url"),
        ([image()] * 9, "input"),
        (["a"] * 129, "input"),
        (7, "input"),
    ],
)
async def test_what_cannot_be_judged_is_refused(given: Any, param: str) -> None:
    """By its place, and nothing is asked; addresses are never fetched."""
    reply, answers = await asked("/v1/moderations", {"model": "fast", "input": given}, [])

    assert (reply.status, reply.error["param"]) == (400, param)
    assert answers.calls == []


async def test_an_image_without_room_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system out of descriptors: a 503 that says when, and nothing is asked."""

    def full(*_: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("hybrid_router.core.upload.os.memfd_create", full)
    reply, answers = await asked("/v1/moderations", {"model": "fast", "input": [image()]}, [])

    assert (reply.status, reply.error["code"]) == (503, "uploads_full")
    assert reply.headers["retry-after"] == "2"
    assert answers.calls == []


LABELS = [[Label("cat", 0.8), Label("dog", 0.1)], [Finish("stop")]]


async def test_an_image_inside_json_is_classified() -> None:
    """As many labels as are wanted, the likeliest first."""
    body = {"model": "fast", "image": PICTURE, "top_k": 2}
    reply, answers = await asked("/v1/classify", body, LABELS)

    [call] = answers.calls
    assert (call.operation, call.ask) == (Operation.CLASSIFY, Classification(top_k=2))
    assert reply.json["labels"] == [{"label": "cat", "score": 0.8}, {"label": "dog", "score": 0.1}]


def form(*parts: tuple[str, str, bytes]) -> bytes:
    """A form; a part is its name, its file's name or nothing, and its content."""
    pieces = []
    for name, file, content in parts:
        of_file = f'; filename="{file}"' if file else ""
        head = f'--x\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\n\r\n'
        pieces.append(head.encode() + content + b"\r\n")
    return b"".join([*pieces, b"--x--\r\n"])


MODEL = ("model", "", b"fast")


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ((MODEL,), "image"),
        ((MODEL, ("image", "a.png", b"")), "image"),
        ((MODEL, ("image", "a.png", b"1"), ("image", "b.png", b"2")), "image"),
        ((MODEL, ("image", "", b"text")), "image"),
        ((MODEL, ("image", "a.png", b"1"), ("mask", "b.png", b"2")), "mask"),
        ((MODEL, ("image", "a.png", b"1"), ("top_k", "", b"0")), "top_k"),
        ((MODEL, ("image", "a.png", b"1"), ("input", "", b"a joy")), "input"),
        ((("image", "a.png", b"1"),), "model"),
    ],
)
async def test_a_form_that_makes_no_sense_is_refused(
    parts: tuple[tuple[str, str, bytes], ...], param: str
) -> None:
    """By the name of the field."""
    answers = ScriptedAnswers(LABELS)
    async with listening(answers) as listener:
        raw = request_bytes(
            "POST", "/v1/classify", form(*parts), content_type="multipart/form-data; boundary=x"
        )
        reply = await exchange(listener.port, raw)

    assert (reply.status, reply.error["param"]) == (400, param)
    assert answers.calls == []


@pytest.mark.parametrize(
    "body",
    [{"model": "fast"}, {"model": "fast", "image": "file:///etc/passwd"}, {"model": "fast", "image": 1}],
)
async def test_json_without_an_image_is_refused(body: Any) -> None:
    """One that is inside the body is wanted."""
    reply, _ = await asked("/v1/classify", body, LABELS)

    assert (reply.status, reply.error["param"]) == (400, "image")


async def test_a_text_is_classified() -> None:
    """It comes in place of the picture."""
    reply, answers = await asked("/v1/classify", {"model": "fast", "input": "a joy"}, LABELS)

    [call] = answers.calls
    assert (call.operation, call.prompts, call.uploads) == (Operation.CLASSIFY, ("a joy",), ())
    assert [label["label"] for label in reply.json["labels"]] == ["cat", "dog"]


@pytest.mark.parametrize("more", [{"input": " "}, {"input": "a joy", "image": PICTURE}])
async def test_no_text_and_two_things_to_classify_are_refused(more: Any) -> None:
    """One thing is classified, and it says something."""
    reply, answers = await asked("/v1/classify", {"model": "fast", **more}, LABELS)

    assert (reply.status, reply.error["param"]) == (400, "input")
    assert answers.calls == []


async def test_a_label_tells_where_in_the_picture_it_is() -> None:
    """By its sides, in pixels; a label of the whole picture has none."""
    script = [[Label("cat", 0.8, box=(1.0, 2.0, 30.0, 40.5)), Label("room", 0.1)], [Finish("stop")]]
    reply, _ = await asked("/v1/classify", {"model": "fast", "image": PICTURE}, script)

    assert reply.json["labels"] == [
        {"label": "cat", "score": 0.8, "box": {"xmin": 1, "ymin": 2, "xmax": 30, "ymax": 40.5}},
        {"label": "room", "score": 0.1},
    ]


async def test_translations_are_in_the_order_of_the_texts() -> None:
    """Each with its source: the one that was found out, else the one that was told."""
    script = [
        [Label("en", 0.9, 1), Text("zwei", 1)],
        [Text("ei", 0), Text("ns", 0), Finish("stop"), Finish("stop", 1), Usage(3, 4)],
    ]
    body = {"model": "fast", "input": ["one", "two"], "target": "de", "source": "fr"}
    reply, answers = await asked("/v1/translate", body, script)

    [call] = answers.calls
    assert (call.prompts, call.ask) == (("one", "two"), Translation(target="de", source="fr"))
    assert reply.json["translations"] == [
        {"index": 0, "text": "eins", "source": "fr"},
        {"index": 1, "text": "zwei", "source": "en"},
    ]
    assert reply.json["usage"]["total_tokens"] == 7


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": " "}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 129}, "input"),
        ({"target": "German, please"}, "target"),
        ({"target": None}, "target"),
        ({"source": "../x"}, "source"),
    ],
)
async def test_a_translation_that_makes_no_sense_is_refused(change: dict[str, Any], param: str) -> None:
    """By the name of the field; a language is a code, so it cannot give a model orders."""
    body = {"model": "fast", "input": "a", "target": "de", **change}
    reply, answers = await asked("/v1/translate", body, [])

    assert (reply.status, reply.error["param"]) == (400, param)
    assert answers.calls == []
