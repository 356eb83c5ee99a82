"""Which device torch computes on."""

from __future__ import annotations

import torch

from hybrid_router.core.device import Device
from hybrid_router.engines.task import EngineFailed


def torch_device(wanted: Device) -> torch.device:
    """The device that a model's settings mean.

    Raises:
        EngineFailed: a GPU is demanded, and torch sees none.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise EngineFailed("device: cuda: there is no usable GPU; set device: auto or cpu")
    return torch.device("cuda" if wanted != "cpu" and torch.cuda.is_available() else "cpu")
