"""What a picture looks like that is not finished."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

_PLAIN_LATENTS_DIMENSIONS = 4


def steps_of(count: int, total: int) -> list[int]:
    """After which of `total` steps to look, `count` times: spread evenly, and never after the last."""
    wanted = {round(total * number / (count + 1)) for number in range(1, count + 1)}
    return sorted(step for step in wanted if 0 < step < total)


@torch.no_grad()
def picture(pipeline: Any, latents: torch.Tensor) -> Image.Image | None:
    """Decode latents as they are; None: this model's are packed in a way of its own."""
    vae = getattr(pipeline, "vae", None)
    if vae is None or latents.ndim != _PLAIN_LATENTS_DIMENSIONS:
        return None
    # Some decoders overflow in half precision; their pipelines do the same at the end.
    widened = vae.dtype == torch.float16 and bool(getattr(vae.config, "force_upcast", False))
    if widened:
        vae.to(torch.float32)
    try:
        decoded = vae.decode(_plain(vae.config, latents[:1]).to(vae.dtype), return_dict=False)[0]
    finally:
        if widened:
            vae.to(torch.float16)
    shown: Image.Image = pipeline.image_processor.postprocess(decoded, output_type="pil")[0]
    return shown


def _plain(config: Any, latents: torch.Tensor) -> torch.Tensor:
    """Latents without the scale that the model works in."""
    scale = float(config.scaling_factor)
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        return latents * _by_channel(std, latents) / scale + _by_channel(mean, latents)
    return latents / scale + float(getattr(config, "shift_factor", None) or 0.0)


def _by_channel(values: Any, like: torch.Tensor) -> torch.Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype).view(1, -1, 1, 1)
