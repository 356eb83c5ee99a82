"""A diffusers model in this process: the same pictures again, masks, previews, cancellation, refusals."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import tiny_painter
from msgspec.structs import replace
from PIL import Image, ImageChops

from hybrid_router.core.asks import Painting
from hybrid_router.core.call import Feature, Operation, Sampling
from hybrid_router.core.event import Finish, Picture, Progress, Usage
from hybrid_router.core.upload import Upload, upload_of
from hybrid_router.engines.opening import open_engine
from hybrid_router.engines.settings import PainterSettings
from hybrid_router.engines.task import Answer, Engine, EngineFailed, Output, Refused, Task

pytestmark = [pytest.mark.timeout(120), pytest.mark.filterwarnings("ignore")]  # its libraries warn much

SIDE = tiny_painter.SIDE
SMALL = Painting(width=SIDE, height=SIDE, steps=4, guidance=3.0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_painter.write(tmp_path_factory.mktemp("painter") / "model")


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    opened = open_engine(PainterSettings(path=str(folder), most_pixels=128 * 128, most_steps=20))
    yield opened
    opened.close()


def task(ask: Painting = SMALL, *, number: int = 1, n: int = 1, seed: int | None = 5) -> Task:
    return Task(
        id=number,
        operation=Operation.IMAGE,
        prompts=("a red house",),
        n=n,
        sampling=Sampling(seed=seed),
        ask=ask,
    )


def answers(engine: Engine, asked: Task) -> list[Answer]:
    """Everything that comes, from beginning to end; the files are let go of as the child does."""
    found = engine.begin(asked)
    for upload in asked.uploads:
        upload.close()
    while engine.busy:
        found += engine.step()
    return found


def events(engine: Engine, asked: Task) -> list[object]:
    found = answers(engine, asked)
    assert not [answer for answer in found if isinstance(answer, Refused)]
    return [event for answer in found if isinstance(answer, Output) for event in answer.events]


def finished(engine: Engine, asked: Task) -> list[Picture]:
    return [event for event in events(engine, asked) if isinstance(event, Picture) and event.partial is None]


def refusal(engine: Engine, asked: Task) -> Refused:
    (no,) = answers(engine, asked)
    assert isinstance(no, Refused)
    return no


def image(picture: Picture) -> Image.Image:
    return Image.open(io.BytesIO(picture.content))


def png(drawn: Image.Image) -> Upload:
    out = io.BytesIO()
    drawn.save(out, "PNG")
    return upload_of(out.getvalue(), "picture.png", "image/png")


def house(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Not of one colour, so that a shift would show."""
    return Image.linear_gradient("L").resize(size).convert("RGB")


def half_mask(size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """Its right half may change."""
    mask = Image.new("RGBA", size, (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (size[0] // 2, 0, *size))
    return mask


def test_a_model_says_what_it_can(engine: Engine) -> None:
    """A Stable Diffusion paints from text, from pictures, and within masks."""
    assert engine.opened().can == {Feature.IMAGE_INPUT, Feature.INPAINTING}


def test_the_same_seed_paints_the_same_picture(engine: Engine) -> None:
    """Seed and prompt decide every byte; another seed decides others."""
    first, again, other = (finished(engine, task(seed=seed))[0].content for seed in (5, 5, 6))

    assert first == again
    assert first != other


def test_several_pictures_have_seeds_of_their_own(engine: Engine) -> None:
    """The second of two is what the next seed alone would paint; each has its index and its finish."""
    found = events(engine, task(n=2))
    first, second = (event for event in found if isinstance(event, Picture))

    assert (first.index, second.index) == (0, 1)
    assert second.content == finished(engine, task(seed=6))[0].content
    assert [event.index for event in found if isinstance(event, Finish)] == [0, 1]


def test_every_step_is_a_sign_of_life(engine: Engine) -> None:
    """Progress grows with each denoising step and ends at one; usage counts the prompt's tokens."""
    found = events(engine, task())
    shares = [event.share for event in found if isinstance(event, Progress)]

    assert len(shares) == 4 + 1
    assert shares == sorted(set(shares))
    assert shares[-1] == 1.0
    usage = found[-1]
    assert isinstance(usage, Usage)
    assert usage.prompt_tokens == len("aredhouse") + 2


def test_size_and_format_are_as_asked(engine: Engine) -> None:
    """Width, height and format are the call's; without a size it is the model's own."""
    wide = image(finished(engine, task(replace(SMALL, width=48, height=32, format="jpeg")))[0])
    own = image(finished(engine, task(replace(SMALL, width=0, height=0, format="webp")))[0])

    assert (wide.format, wide.size) == ("JPEG", (48, 32))
    assert (own.format, own.size) == ("WEBP", (SIDE, SIDE))


def test_unfinished_pictures_come_in_order(engine: Engine) -> None:
    """So many as are asked for, numbered from 0, before the finished one, and unlike it."""
    found = events(engine, task(replace(SMALL, partial_count=3)))
    pictures = [event for event in found if isinstance(event, Picture)]

    assert [picture.partial for picture in pictures] == [0, 1, 2, None]
    assert len({picture.content for picture in pictures}) == 4
    assert {image(picture).size for picture in pictures} == {(SIDE, SIDE)}


def test_fewer_steps_than_previews_show_fewer(engine: Engine) -> None:
    """Nothing is shown twice because somebody asked for more than there is."""
    found = events(engine, task(replace(SMALL, steps=2, partial_count=3)))

    assert [event.partial for event in found if isinstance(event, Picture)] == [0, None]


def test_a_cancelled_picture_frees_the_model(engine: Engine) -> None:
    """Cancelled between two steps, it takes no further one, and the next picture is as if it never was."""
    expected = finished(engine, task())[0].content
    engine.begin(task(replace(SMALL, steps=20), number=2))
    engine.step()
    engine.step()

    engine.cancel(2)

    assert not engine.busy
    assert finished(engine, task(number=3))[0].content == expected


def test_a_picture_grows_out_of_another(engine: Engine) -> None:
    """The less may change, the more it resembles the one it was made from; its shape is kept."""
    of_little, of_much = (
        image(
            finished(
                engine, replace(task(replace(SMALL, steps=10, strength=strength)), uploads=(png(house()),))
            )[0]
        )
        for strength in (0.1, 1.0)
    )
    shaped = replace(task(replace(SMALL, width=0, height=0)), prompts=(), uploads=(png(house((64, 16))),))

    assert of_little != of_much
    assert image(finished(engine, shaped)[0]).size == (64, 16)


def test_a_mask_keeps_the_rest_as_it_was(engine: Engine) -> None:
    """Where the mask is opaque not one pixel changes; where it is transparent they do."""
    asked = replace(task(replace(SMALL, masked=True)), uploads=(png(house()), png(half_mask())))

    changed = ImageChops.difference(image(finished(engine, asked)[0]).convert("RGB"), house())

    left, right = (0, 0, SIDE // 2, SIDE), (SIDE // 2, 0, SIDE, SIDE)
    assert changed.crop(left).getbbox() is None
    assert changed.crop(right).getbbox() is not None


@pytest.mark.parametrize(
    ("ask", "param"),
    [
        (replace(SMALL, width=36), "size"),
        (replace(SMALL, width=136, height=128), "size"),
        (replace(SMALL, steps=21), "steps"),
    ],
)
def test_what_is_over_a_limit_is_not_begun(engine: Engine, ask: Painting, param: str) -> None:
    """Odd sizes, too many pixels and too many steps are refused at once, naming the field."""
    (no,) = engine.begin(task(ask))

    assert isinstance(no, Refused)
    assert (no.by_call, no.param) == (True, param)
    assert not engine.busy


def test_no_strength_is_no_work(engine: Engine) -> None:
    """A strength that leaves no step is refused, with the sum."""
    asked = replace(task(replace(SMALL, strength=0.2)), uploads=(png(house()),))

    assert "leave none" in refusal(engine, asked).message


def test_two_pictures_may_suit_another_model(engine: Engine) -> None:
    """What this kind of model cannot do is no mistake of the call's: another step may try."""
    no = refusal(engine, replace(task(), uploads=(png(house()), png(house()))))

    assert (no.code, no.param) == ("unsupported_parameter", "image")


@pytest.mark.parametrize(
    "content",
    [b"", b"GIF89a", b"<svg/>", b"\x89PNG\r\n\x1a\n" + b"\0" * 64],
    ids=["empty", "cut", "svg", "null"],
)
def test_a_file_that_is_no_picture_is_refused(engine: Engine, content: bytes) -> None:
    """It is told which field it is, and the model goes on to serve."""
    no = refusal(engine, replace(task(), uploads=(upload_of(content),)))

    assert (no.by_call, no.param) == (True, "image")
    assert not engine.busy


@pytest.mark.parametrize(
    ("mask", "said"),
    [(half_mask((16, 16)), "make them equal"), (house(), "must be transparent")],
    ids=["small", "opaque"],
)
def test_a_mask_that_does_not_fit_is_refused(engine: Engine, mask: Image.Image, said: str) -> None:
    """A mask has the image's size, and transparent parts."""
    no = refusal(engine, replace(task(replace(SMALL, masked=True)), uploads=(png(house()), png(mask))))

    assert no.param == "mask"
    assert said in no.message


def test_closing_does_not_wait_for_a_picture(folder: Path) -> None:
    """An engine that is put away in the middle of a picture ends its thread."""
    opened = open_engine(PainterSettings(path=str(folder)))
    opened.begin(task())
    opened.step()

    opened.close()

    painting = opened._craft._strides._pool  # type: ignore[attr-defined]
    painting.shutdown(wait=True)  # returns: nothing hangs in it


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def failure(path: Path) -> str:
    with pytest.raises(EngineFailed) as failed:
        open_engine(PainterSettings(path=str(path)))
    return str(failed.value)


def test_a_folder_without_an_index_is_named(tmp_path: Path) -> None:
    """What is missing is said by its file's name."""
    assert "model_index.json" in failure(tmp_path)


def test_pickled_weights_are_not_opened(folder: Path, tmp_path: Path) -> None:
    """Weights that could run code are refused with what to do, before they are read."""
    copy = copied(folder, tmp_path)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(weights.with_suffix(".bin"))

    assert "convert the weights to safetensors" in failure(copy)


def test_code_of_a_folder_is_not_run(folder: Path, tmp_path: Path) -> None:
    """A part whose class is the folder's own is refused, and so is a pipeline of its own."""
    copy = copied(folder, tmp_path)
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps({**index, "unet": ["my_unet", "MyUnet"]}))
    assert "my_unet" in failure(copy)

    (copy / "model_index.json").write_text(json.dumps({**index, "_class_name": ["mine", "MyPipeline"]}))
    assert "names no pipeline" in failure(copy)


def test_broken_weights_are_named(folder: Path, tmp_path: Path) -> None:
    """A file that is cut off is a failure of this model with a reason, not of the process."""
    copy = copied(folder, tmp_path)
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])

    assert "cannot be opened" in failure(copy)
