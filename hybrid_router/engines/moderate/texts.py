"""Text classifiers of transformers.

A text that is longer than the model reads at once is read in windows that overlap; each label's highest
score counts, so harm in the middle of a long text is not averaged away.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hybrid_router.core.event import Batch
from hybrid_router.engines.task import EngineFailed, TaskRefused

_MOST_TOKENS = 512  # of a window, where the model does not say
_OVERLAP_TOKENS = 64
_MOST_CHARS = 1_000_000
_WINDOWS_COUNT = 8  # computed together


class TextJudge:
    """Gives labels scores."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Read the model.

        Raises:
            EngineFailed: the folder holds something else, or weights in a form that can run code.
        """
        try:
            self._tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
            self._network = AutoModelForSequenceClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            raise EngineFailed(f"{folder}: not a text classifier that can be used ({error})") from None
        self._network.to(device).eval()
        self._device = device
        config = self._network.config
        self._length = _window(self._tokenizer.model_max_length, config)
        self._many = config.problem_type == "multi_label_classification"
        self.labels = tuple(str(config.id2label[number]) for number in range(config.num_labels))
        self.description = f"{config.model_type}, {len(self.labels)} labels"

    def scores(self, text: str) -> Generator[Batch, None, tuple[list[float], int]]:
        """How likely each label is, 0 to 1, and how many tokens were read; lets go between windows.

        Raises:
            TaskRefused: it is longer than anything that is written to be read.
        """
        if len(text) > _MOST_CHARS:
            raise TaskRefused(
                "invalid_request_error",
                f"input: a text has {len(text)} characters; {_MOST_CHARS} are accepted",
                by_call=True,
                param="input",
            )
        windows = self._windows(text)
        highest = torch.zeros(len(self.labels))
        for begin in range(0, len(windows["input_ids"]), _WINDOWS_COUNT):
            part = {name: value[begin : begin + _WINDOWS_COUNT] for name, value in windows.items()}
            highest = torch.maximum(highest, self._computed(part))
            yield []
        return highest.tolist(), int(windows["attention_mask"].sum())

    def _windows(self, text: str) -> dict[str, torch.Tensor]:
        windows = self._tokenizer(
            text,
            truncation=True,
            max_length=self._length,
            stride=min(_OVERLAP_TOKENS, self._length // 4),
            return_overflowing_tokens=True,
            padding=True,
            return_tensors="pt",
        )
        return {name: value for name, value in windows.items() if name != "overflow_to_sample_mapping"}

    def _computed(self, windows: dict[str, torch.Tensor]) -> torch.Tensor:
        with torch.inference_mode():
            logits = self._network(**{name: value.to(self._device) for name, value in windows.items()}).logits
        found = logits.float().sigmoid() if self._many else logits.float().softmax(-1)
        highest: torch.Tensor = found.max(0).values.cpu()
        return highest


def _window(told: int, config: object) -> int:
    """Tokens that the model reads at once: what its tokenizer says, or its table of positions allows."""
    positions = getattr(config, "max_position_embeddings", None) or _MOST_TOKENS
    padding = getattr(config, "pad_token_id", None) or 0
    if getattr(config, "model_type", "") in {"roberta", "xlm-roberta", "camembert"}:
        positions -= padding + 1  # they number from behind the padding
    return max(8, min(told, positions, _MOST_TOKENS))
