"""Verdicts by classifiers: of texts, or of images, whichever the folder's model reads."""

from __future__ import annotations

import json
import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from hybrid_router.core.call import Feature
from hybrid_router.core.event import Batch, Usage, Verdict
from hybrid_router.engines.devices import torch_device
from hybrid_router.engines.moderate import categories
from hybrid_router.engines.settings import GuardSettings
from hybrid_router.engines.task import EngineFailed, Opened, Task, TaskRefused

_OTHER_KIND = "input: this guard model reads {reads} only; leave {other} out, or use one that reads them"


class Judge(Protocol):
    """A model that gives its labels scores."""

    @property
    def labels(self) -> tuple[str, ...]:
        """In the order of the scores."""
        ...

    @property
    def description(self) -> str:
        """What kind of model it is."""
        ...

    def scores(self, content: Any) -> Generator[Batch, None, tuple[list[float], int]]:
        """How likely each label is, 0 to 1, and how many tokens were read; lets go while it reads.

        Raises:
            TaskRefused: `content`, a text or an upload's bytes, cannot be read.
        """
        ...


class Guard:
    """See `engines.turns.Craft`."""

    def __init__(self, settings: GuardSettings) -> None:
        """Open the model.

        Raises:
            EngineFailed: it cannot be used, or its labels say nothing.
        """
        torch.set_num_threads(settings.threads)
        folder = Path(settings.path)
        self._reads_images = _reads_images(folder)
        self._judge = _judge(folder, torch_device(settings.device), of_images=self._reads_images)
        _check_labels(folder, self._judge.labels)
        self._threshold = settings.threshold

    def opened(self) -> Opened:
        can = frozenset({Feature.IMAGES}) if self._reads_images else frozenset()
        return Opened(description=self._judge.description, parallel=1, can=can)

    def take(self, task: Task) -> Generator[Batch, None, Usage | None]:
        if task.prompts if self._reads_images else task.uploads:
            reads, other = ("images", "texts") if self._reads_images else ("texts", "images")
            raise _refused("unsupported_parameter", _OTHER_KIND.format(reads=reads, other=other))
        if not all(isinstance(prompt, str) for prompt in task.prompts):
            raise _refused("invalid_request_error", "input: expected texts")
        contents = [upload.mapped() for upload in task.uploads] if self._reads_images else task.prompts
        return self._judged(contents)

    def _judged(self, contents: Sequence[object]) -> Generator[Batch, None, Usage | None]:
        tokens_count = 0
        for index, content in enumerate(contents):
            scores, count = yield from self._judge.scores(content)
            tokens_count += count
            yield [self._verdict(scores, index)]
        return Usage(tokens_count, 0)

    def _verdict(self, scores: list[float], index: int) -> Verdict:
        if not all(map(math.isfinite, scores)):
            raise TaskRefused("engine_error", "the model gave a score that is no number")
        found = categories.scored(zip(self._judge.labels, scores, strict=True))
        flagged = tuple(category for category, score in found.items() if score >= self._threshold)
        return Verdict(flagged=flagged, scores=tuple(found.items()), index=index)

    def close(self) -> None:
        """The process's end frees it."""


def _refused(code: str, message: str) -> TaskRefused:
    return TaskRefused(code, message, by_call=True, param="input")


def _judge(folder: Path, device: torch.device, *, of_images: bool) -> Judge:
    if of_images:
        from hybrid_router.engines.moderate.images import ImageJudge  # noqa: PLC0415 - one of the two

        return ImageJudge(folder, device)
    from hybrid_router.engines.moderate.texts import TextJudge  # noqa: PLC0415

    return TextJudge(folder, device)


def _reads_images(folder: Path) -> bool:
    """By what its configuration says it is."""
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        return any("ForImageClassification" in str(name) for name in config.get("architectures") or ())
    except (OSError, ValueError, AttributeError) as error:
        raise EngineFailed(f"{folder}: not a classifier's folder ({error})") from None


def _check_labels(folder: Path, labels: tuple[str, ...]) -> None:
    """Numbers instead of names would have every text pass."""
    if not all(map(categories.is_named, labels)) or not any(map(categories.is_known, labels)):
        raise EngineFailed(
            f"{folder}: its labels ({', '.join(labels[:8])}) name no kind of harm: "
            "write names such as `toxic`, `sexual` or `safe` into id2label of its config.json"
        )
