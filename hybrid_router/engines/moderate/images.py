"""Image classifiers whose labels are kinds of harm."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch

from hybrid_router.core.event import Batch
from hybrid_router.engines.classify.engine import readable
from hybrid_router.engines.classify.folder import FolderNetwork


class ImageJudge:
    """Gives labels scores."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Read the model.

        Raises:
            EngineFailed: the folder holds something else.
        """
        self._network = FolderNetwork(folder, device)
        self.labels = self._network.labels
        self.description = self._network.description

    def scores(self, content: object) -> Generator[Batch, None, tuple[list[float], int]]:
        """How likely each label is, 0 to 1; there are no tokens.

        Raises:
            TaskRefused: the upload is no picture.
        """
        image = readable(content, "input")
        yield []
        return self._network.scores(image), 0
