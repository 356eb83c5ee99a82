"""What a picture shows: real weights and photographs, and files that are no weights or no pictures."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from installed_weights import efficientnet
from PIL import Image
from sklearn.datasets import load_sample_image

from hybrid_router.core.asks import Classification
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Finish, Label
from hybrid_router.core.upload import upload_of
from hybrid_router.engines.classify.efficientnet import EfficientNetLite, imagenet_labels
from hybrid_router.engines.opening import open_engine
from hybrid_router.engines.settings import ClassifierSettings
from hybrid_router.engines.task import Answer, Engine, EngineFailed, Output, Refused, Task

# Each may be called by any of these: what it shows has no single word among a thousand.
PLAUSIBLE = {
    "flower.jpg": {"daisy", "bee", "sea anemone, anemone", "pot, flowerpot"},
    "china.jpg": {"palace", "monastery", "bell cote, bell cot", "stupa, tope", "castle"},
}


def photograph(name: str, form: str = "PNG", **options: object) -> bytes:
    """One of scikit-learn's, as a file."""
    file = io.BytesIO()
    Image.fromarray(load_sample_image(name)).save(file, form, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    """EfficientNet-Lite0, opened as a child opens it."""
    opened = open_engine(ClassifierSettings(path=str(efficientnet()), threads=1, device="cpu"))
    yield opened
    opened.close()


def answered(engine: Engine, content: bytes, top_k: int = 5) -> list[Answer]:
    """Everything that comes for one picture."""
    upload = upload_of(content)
    ask = Classification(top_k=top_k)
    try:
        answers = engine.begin(Task(id=1, operation=Operation.CLASSIFY, ask=ask, uploads=(upload,)))
    finally:
        upload.close()
    while engine.busy:
        answers += engine.step()
    return answers


def labels(engine: Engine, content: bytes, top_k: int = 5) -> list[Label]:
    """The labels of one picture; the answer must be whole."""
    answers = answered(engine, content, top_k)
    events = [event for answer in answers if isinstance(answer, Output) for event in answer.events]
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop")]
    return [event for event in events if isinstance(event, Label)]


@pytest.mark.parametrize("name", sorted(PLAUSIBLE))
def test_a_photograph_is_called_something_plausible(engine: Engine, name: str) -> None:
    """The likeliest label is a fair word for it, the likeliest comes first, and scores are shares."""
    found = labels(engine, photograph(name))

    assert found[0].label in PLAUSIBLE[name]
    scores = [label.score for label in found]
    assert scores == sorted(scores, reverse=True)
    assert 0 < sum(scores) <= 1.0001


def test_the_file_format_changes_little(engine: Engine) -> None:
    """A JPEG and a picture with an alpha channel are seen as the PNG is."""
    see_through = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).convert("RGBA").save(see_through, "PNG")

    for content in (photograph("flower.jpg", "JPEG", quality=95), see_through.getvalue()):
        assert labels(engine, content, 1)[0].label == "daisy"


def test_all_labels_can_be_had(engine: Engine) -> None:
    """More than there are is all of them; together they are likely to be right: 1."""
    found = labels(engine, photograph("china.jpg"), 5000)

    assert len(found) == 1000
    assert sum(label.score for label in found) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("content", [b"GIF89a", b"no picture", photograph("china.jpg")[:5000]])
def test_what_is_no_picture_is_the_callers_fault(engine: Engine, content: bytes) -> None:
    """Refused by the name of the field, and the next one is served."""
    [refused] = answered(engine, content)

    assert isinstance(refused, Refused)
    assert (refused.by_call, refused.param) == (True, "image")
    assert labels(engine, photograph("flower.jpg"), 1)


def test_a_bomb_is_refused_by_its_head(engine: Engine) -> None:
    """Fifty thousand pixels by as many are never unpacked."""
    file = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(file, "PNG")

    [refused] = answered(engine, file.getvalue())

    assert isinstance(refused, Refused)
    assert "pixels" in refused.message


def test_there_is_a_name_for_every_class() -> None:
    """A thousand, in ImageNet's order."""
    names = imagenet_labels()

    assert len(names) == 1000
    assert (names[0], names[985]) == ("tench, Tinca tinca", "daisy")


class Evil:
    """What a hostile file of weights would hold."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("harm"),))  # type: ignore[return-value]


def test_weights_that_hold_code_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, and nothing of it runs: neither in a plain pickle nor in torch's own container."""
    monkeypatch.chdir(tmp_path)
    plain, wrapped = tmp_path / "plain.pth", tmp_path / "wrapped.pth"
    plain.write_bytes(pickle.dumps(Evil(), protocol=2))
    torch.save({"weight": Evil()}, wrapped)

    for path in (plain, wrapped):
        with pytest.raises(EngineFailed, match=path.name):
            EfficientNetLite(path, torch.device("cpu"))
    assert not (tmp_path / "harm").exists()


def test_other_weights_are_refused_by_name(tmp_path: Path) -> None:
    """Tensors of another network, something else than tensors, no file at all."""
    other, number = tmp_path / "other.pth", tmp_path / "number.pth"
    torch.save({"weight": torch.zeros(3)}, other)
    torch.save(7, number)

    for path in (other, number, tmp_path / "absent.pth"):
        with pytest.raises(EngineFailed, match=path.name):
            EfficientNetLite(path, torch.device("cpu"))
