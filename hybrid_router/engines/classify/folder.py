"""Image classifiers of transformers: a folder with config.json, safetensors and preprocessor_config.json."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from hybrid_router.engines.task import EngineFailed


class FolderNetwork:
    """See `network.Network`."""

    def __init__(self, folder: Path, device: torch.device) -> None:
        """Read the model.

        Raises:
            EngineFailed: the folder holds something else, or weights in a form that can run code.
        """
        try:
            self._prepare = AutoImageProcessor.from_pretrained(  # type: ignore[no-untyped-call]
                folder, local_files_only=True, trust_remote_code=False
            )
            self._network = AutoModelForImageClassification.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False
            )
        except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
            raise EngineFailed(f"{folder}: not an image classifier that can be used ({error})") from None
        self._network.to(device).eval()
        self._device = device
        config = self._network.config
        self._many = config.problem_type == "multi_label_classification"
        self.labels = tuple(str(config.id2label[number]) for number in range(config.num_labels))

    @property
    def description(self) -> str:
        return f"{self._network.config.model_type}, {len(self.labels)} labels"

    def scores(self, image: Image.Image) -> list[float]:
        pixels = self._prepare(images=image, return_tensors="pt")["pixel_values"].to(self._device)
        with torch.inference_mode():
            logits = self._network(pixel_values=pixels).logits[0].float()
        found: list[float] = (logits.sigmoid() if self._many else logits.softmax(-1)).tolist()
        return found
