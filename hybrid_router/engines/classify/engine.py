"""Labels for pictures, one task at a time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Generator
from pathlib import Path
from typing import IO, cast

import torch
from PIL import Image

from hybrid_router.core.asks import Classification
from hybrid_router.core.event import Batch, Label, Usage
from hybrid_router.engines import pictures
from hybrid_router.engines.classify.network import Network
from hybrid_router.engines.devices import torch_device
from hybrid_router.engines.settings import ClassifierSettings
from hybrid_router.engines.task import Opened, Task, TaskRefused


class Classifier:
    """See `engines.turns.Craft`."""

    def __init__(self, settings: ClassifierSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: it cannot be used; names the file.
        """
        torch.set_num_threads(settings.threads)
        self._network = opened_network(Path(settings.path), torch_device(settings.device))

    def opened(self) -> Opened:
        return Opened(description=self._network.description, parallel=1)

    def take(self, task: Task) -> Generator[Batch, None, Usage | None]:
        if not isinstance(task.ask, Classification) or len(task.uploads) != 1:
            raise TaskRefused(
                "invalid_request_error", "image: expected one image", by_call=True, param="image"
            )
        return self._labelled(task.uploads[0].mapped(), task.ask.top_k)

    def _labelled(self, content: object, most_count: int) -> Generator[Batch, None, Usage | None]:
        image = readable(content)
        yield []
        scores = self._network.scores(image)
        if not all(map(math.isfinite, scores)):
            raise TaskRefused("engine_error", "the model gave a score that is no number")
        best = heapq.nlargest(most_count, range(len(scores)), key=scores.__getitem__)
        yield [Label(self._network.labels[number], scores[number]) for number in best]
        return None

    def close(self) -> None:
        """The process's end frees it."""


def opened_network(path: Path, device: torch.device) -> Network:
    """A folder is transformers', a file an EfficientNet-Lite's weights.

    Raises:
        EngineFailed: it cannot be used; names the file.
    """
    if path.is_dir():
        from hybrid_router.engines.classify.folder import FolderNetwork  # noqa: PLC0415 - takes seconds

        return FolderNetwork(path, device)
    from hybrid_router.engines.classify.efficientnet import EfficientNetLite  # noqa: PLC0415

    return EfficientNetLite(path, device)


def readable(content: object, param: str = "image") -> Image.Image:
    """An upload's picture, as networks want it.

    Raises:
        TaskRefused: it is none.
    """
    try:
        return pictures.on_white(pictures.opened(cast("IO[bytes]", content)))
    except pictures.Unreadable as error:
        raise _refused(f"{param}: {error}", param) from None


def _refused(message: str, param: str) -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True, param=param)
