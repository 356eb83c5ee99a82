"""What a task asks for, checked against what the model can do, before anything is computed."""

from __future__ import annotations

import secrets

from msgspec import Struct

from hybrid_router.core.asks import Painting
from hybrid_router.core.errors import CallRefused, UnsupportedParameter
from hybrid_router.engines.images.pipelines import Pipelines, Way
from hybrid_router.engines.settings import PainterSettings
from hybrid_router.engines.task import Task, TaskRefused

_SEEDS_COUNT = 2**63
_RANDOM_SEEDS_COUNT = 2**32
_OPTIONAL = (("negative", "negative_prompt"), ("guidance", "guidance_scale"), ("strength", "strength"))
_STEPS = 50  # diffusers' own, where a pipeline names none


class Order(Struct, frozen=True, kw_only=True):
    """Pictures to be made.  `steps` without those that a `strength` below 1 saves."""

    way: Way
    prompt: str
    ask: Painting
    n: int
    seed: int
    steps: int
    guidance: float | None

    def seed_of(self, index: int) -> int:
        """Each picture has its own; the same call gives the same ones again."""
        return (self.seed + index) % _SEEDS_COUNT


def checked(task: Task, pipelines: Pipelines, settings: PainterSettings) -> Order:
    """A task as an order.

    Raises:
        TaskRefused: the model cannot do it, or it is over a limit.
    """
    ask = task.ask if isinstance(task.ask, Painting) else Painting()
    way = _way(task, ask, pipelines)
    for field, name in _OPTIONAL:
        if getattr(ask, field) not in (None, "") and not pipelines.knows(way, name):
            raise cannot(f"this model takes no {name} here", name)
    _check_size(ask, pipelines, settings)
    seed = task.sampling.seed
    return Order(
        way=way,
        prompt=str(task.prompts[0]) if task.prompts else "",
        ask=ask,
        n=task.n,
        seed=secrets.randbelow(_RANDOM_SEEDS_COUNT) if seed is None else seed % _SEEDS_COUNT,
        steps=_steps(ask, way, pipelines, settings),
        guidance=settings.guidance if ask.guidance is None else ask.guidance,
    )


def refused(message: str, param: str) -> TaskRefused:
    """No model would do it."""
    return TaskRefused(CallRefused.code, f"{param}: {message}", by_call=True, param=param)


def cannot(message: str, param: str) -> TaskRefused:
    """This model cannot; another may."""
    return TaskRefused(UnsupportedParameter.code, f"{param}: {message}", by_call=True, param=param)


def _way(task: Task, ask: Painting, pipelines: Pipelines) -> Way:
    pictures_count = len(task.uploads) - ask.masked
    if pictures_count > 1:
        raise cannot("this model makes a picture from one other, not from several", "image")
    way: Way = "text" if pictures_count == 0 else "mask" if ask.masked else "picture"
    if way not in pipelines.ways():
        raise cannot(*_lack(way))
    return way


def _lack(way: Way) -> tuple[str, str]:
    match way:
        case "text":
            return "this model paints over pictures only; send an image and a mask", "image"
        case "picture":
            return "this model makes no picture from a picture without a mask", "image"
        case "mask":
            return "this model cannot keep to a mask", "mask"


def _check_size(ask: Painting, pipelines: Pipelines, settings: PainterSettings) -> None:
    if ask.width % pipelines.multiple or ask.height % pipelines.multiple:
        raise refused(f"width and height must be multiples of {pipelines.multiple}", "size")
    width, height = ask.width or pipelines.own_side, ask.height or pipelines.own_side
    if width * height > settings.most_pixels:
        raise refused(
            f"{width}x{height} are more than {settings.most_pixels} pixels (most_pixels in router.yaml)",
            "size",
        )


def _steps(ask: Painting, way: Way, pipelines: Pipelines, settings: PainterSettings) -> int:
    steps = ask.steps or settings.steps or pipelines.default(way, "num_inference_steps") or _STEPS
    if steps > settings.most_steps:
        raise refused(f"at most {settings.most_steps} (most_steps in router.yaml)", "steps")
    strength = 1.0 if way == "text" else ask.strength
    if strength is not None and int(steps * strength) < 1:
        raise refused(f"{steps} steps × {strength:g} leave none to work with", "strength")
    return int(steps)
