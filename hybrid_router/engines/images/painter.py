"""Pictures one after the other, a denoising step at a time.  See `engines.turns.Craft`."""

from __future__ import annotations

import contextlib
import io
import mmap
from collections.abc import Iterator
from typing import Any

import torch
from PIL import Image

from hybrid_router.core.call import Feature
from hybrid_router.core.event import Picture, Progress, Usage
from hybrid_router.core.upload import Upload
from hybrid_router.engines.images import order, preview, sources
from hybrid_router.engines.images.order import Order
from hybrid_router.engines.images.pipelines import Pipelines
from hybrid_router.engines.images.sources import Source
from hybrid_router.engines.images.strides import LetGo, Strides
from hybrid_router.engines.settings import PainterSettings
from hybrid_router.engines.task import Opened, Task, TaskRefused
from hybrid_router.engines.turns import Work

_MOST_BYTES = 48 * 2**20  # of one picture: what fits between child and router, with room
OUT_OF_MEMORY = "out_of_memory"


class Painter:
    """A diffusers model at work."""

    def __init__(self, settings: PainterSettings) -> None:
        """Raises EngineFailed: the model cannot be opened."""
        self._settings = settings
        self._pipelines = Pipelines(settings)
        self._strides = Strides()

    def opened(self) -> Opened:
        ways = self._pipelines.ways()
        named = {Feature.IMAGE_INPUT: "picture" in ways, Feature.INPAINTING: "mask" in ways}
        can = frozenset(feature for feature, is_there in named.items() if is_there)
        return Opened(description=self._pipelines.description, parallel=1, can=can)

    def take(self, task: Task) -> Work:
        wanted = order.checked(task, self._pipelines, self._settings)
        files = [_mapped(upload, index, wanted) for index, upload in enumerate(task.uploads)]
        return self._strides.run(lambda let_go: self._paint(wanted, files, let_go))

    def close(self) -> None:
        self._strides.close()

    def _paint(self, wanted: Order, files: list[mmap.mmap], let_go: LetGo) -> Usage:
        """All pictures of an order, in the strides' thread."""
        source = self._source(wanted, files) if files else None
        for index in range(wanted.n):
            picture = Sitting(self._pipelines, wanted, index, let_go).paint(source)
            share = (index + 1) / wanted.n
            let_go([Progress(share, index), Picture(_encoded(picture, wanted), index)])
        return Usage(self._prompt_tokens(wanted), 0)

    def _source(self, wanted: Order, files: list[mmap.mmap]) -> Source:
        size = (wanted.ask.width, wanted.ask.height)
        side, multiple = self._pipelines.own_side, self._pipelines.multiple
        return sources.opened(files, size, own_side=side, multiple=multiple)

    def _prompt_tokens(self, wanted: Order) -> int:
        """As the model's first tokenizer counts them."""
        tokenizer = getattr(self._pipelines.of(wanted.way), "tokenizer", None)
        return 0 if tokenizer is None else len(tokenizer(wanted.prompt, truncation=True).input_ids)


class Sitting:
    """One picture on its way."""

    def __init__(self, pipelines: Pipelines, wanted: Order, index: int, let_go: LetGo) -> None:
        self._pipelines = pipelines
        self._wanted = wanted
        self._index = index
        self._let_go = let_go
        self._previews: list[int] | None = None
        self._shown_count = 0

    def paint(self, source: Source | None) -> Image.Image:
        """The finished picture; lets go after every step."""
        pipeline = self._pipelines.of(self._wanted.way)
        with _memory_named():
            painted: Image.Image = pipeline(**self._arguments(source)).images[0]
        if source is None or source.mask is None:
            return painted
        # A model leaves the rest almost as it was, not quite: what must not change is put back.
        return Image.composite(painted.convert("RGB"), source.picture, source.mask)

    def _arguments(self, source: Source | None) -> dict[str, Any]:
        wanted, ask = self._wanted, self._wanted.ask
        size = (ask.width, ask.height) if source is None else source.picture.size
        told: dict[str, Any] = {
            "prompt": wanted.prompt,
            "negative_prompt": ask.negative or None,
            "num_inference_steps": wanted.steps,
            "guidance_scale": wanted.guidance,
            "strength": ask.strength,
            # Random numbers of the CPU are the same on every machine.
            "generator": torch.Generator("cpu").manual_seed(wanted.seed_of(self._index)),
            "image": None if source is None else source.picture,
            "mask_image": None if source is None else source.mask,
            "width": size[0] or None,
            "height": size[1] or None,
            "callback_on_step_end": self._step_ended,
        }
        knows = self._pipelines.knows
        return {name: value for name, value in told.items() if value is not None and knows(wanted.way, name)}

    def _step_ended(self, pipeline: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        total = int(getattr(pipeline, "num_timesteps", self._wanted.steps))
        done_count = step + 1
        self._let_go(
            [
                Progress((self._index + min(1.0, done_count / (total + 1))) / self._wanted.n, self._index),
                *self._unfinished(pipeline, done_count, total, tensors["latents"]),
            ]
        )
        return tensors

    def _unfinished(
        self, pipeline: Any, done_count: int, total: int, latents: torch.Tensor
    ) -> Iterator[Picture]:
        if self._previews is None:
            self._previews = preview.steps_of(self._wanted.ask.partial_count, total)
        if done_count not in self._previews:
            return
        shown = preview.picture(pipeline, latents)
        if shown is not None:
            yield Picture(_encoded(shown, self._wanted), self._index, self._shown_count)
            self._shown_count += 1


def _mapped(upload: Upload, index: int, wanted: Order) -> mmap.mmap:
    try:
        return upload.mapped()
    except (OSError, ValueError):
        raise order.refused("the file is empty", "mask" if wanted.ask.masked and index else "image") from None


def _encoded(picture: Image.Image, wanted: Order) -> bytes:
    """A file in the format that is wanted, without a word of how it was made."""
    out = io.BytesIO()
    if wanted.ask.format == "png":
        picture.save(out, "PNG")
    else:
        picture.convert("RGB").save(out, wanted.ask.format.upper(), quality=wanted.ask.quality)
    if out.tell() > _MOST_BYTES:
        raise order.refused(f"the picture has {out.tell()} bytes; ask for a smaller one, or jpeg", "size")
    return out.getvalue()


@contextlib.contextmanager
def _memory_named() -> Iterator[None]:
    """A device that is full is no bug."""
    try:
        yield
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        raise TaskRefused(
            OUT_OF_MEMORY, "the GPU's memory does not suffice; ask for a smaller picture", param="size"
        ) from None
