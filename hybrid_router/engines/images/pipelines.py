"""Opening a folder: one set of weights, and a pipeline for each way of using them."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

import diffusers
import torch
import transformers

from hybrid_router.engines.images import folder
from hybrid_router.engines.settings import PainterSettings
from hybrid_router.engines.task import EngineFailed

_log = logging.getLogger(__name__)

Way: TypeAlias = Literal["text", "picture", "mask"]
_OPENERS: Mapping[Way, str] = MappingProxyType(
    {
        "text": "AutoPipelineForText2Image",
        "picture": "AutoPipelineForImage2Image",
        "mask": "AutoPipelineForInpainting",
    }
)
_PACKED_BY = 2  # latents of transformers are taken two by two
_LEAST_MULTIPLE = 8


class Pipelines:
    """A model, opened.

    Attributes:
        multiple: width and height are multiples of it.
        own_side: width and height that the model was made for.
    """

    def __init__(self, settings: PainterSettings) -> None:
        """Raises EngineFailed: it cannot be opened."""
        path = Path(settings.path)
        index = folder.read(path)
        self.device = _device(settings.device)
        dtype = _dtype(settings.dtype, self.device)
        torch.set_num_threads(settings.threads)
        _quieten()
        first = _opened(path, index, dtype).to(self.device)
        self._by_way = _ways(first)
        for pipeline in self._by_way.values():
            pipeline.set_progress_bar_config(disable=True)
        self.description = f"{index.pipeline}, {str(dtype).removeprefix('torch.')} on {self.device}"
        scale = int(getattr(first, "vae_scale_factor", _LEAST_MULTIPLE))
        core = getattr(first, "unet", None) or getattr(first, "transformer", None)
        packed = _PACKED_BY if getattr(first, "transformer", None) is not None else 1
        self.multiple = max(_LEAST_MULTIPLE, scale * packed)
        self.own_side = _own_side(first, core, scale)

    def ways(self) -> frozenset[Way]:
        """How it can be used."""
        return frozenset(self._by_way)

    def of(self, way: Way) -> Any:
        """The pipeline for it."""
        return self._by_way[way]

    def default(self, way: Way, name: str) -> Any:
        """What a pipeline takes where `name` is not told; None: it does not know it."""
        known = _parameters(self._by_way[way]).get(name)
        return None if known is None or known.default is inspect.Parameter.empty else known.default

    def knows(self, way: Way, name: str) -> bool:
        """Whether a pipeline can be told `name`."""
        return name in _parameters(self._by_way[way])


def _parameters(pipeline: Any) -> Any:
    return inspect.signature(type(pipeline).__call__).parameters


def _quieten() -> None:
    """What these libraries have to say is for programmers.  Before any of their parts is imported."""
    for library in (diffusers, transformers):
        library.utils.logging.set_verbosity_error()
        library.utils.logging.disable_progress_bar()


def _opener(way: Way) -> Any:
    return getattr(diffusers, _OPENERS[way])


def _opened(path: Path, index: folder.Index, dtype: torch.dtype) -> Any:
    without_checker = {"safety_checker": None, "requires_safety_checker": False} if index.has_checker else {}
    way: Way = "mask" if "Inpaint" in index.pipeline else "text"
    try:
        return _opener(way).from_pretrained(
            path,
            torch_dtype=dtype,
            variant=index.variant,
            local_files_only=True,
            use_safetensors=True,
            **without_checker,
        )
    except (OSError, ValueError, TypeError, KeyError, RuntimeError, ImportError, AttributeError) as error:
        raise EngineFailed(f"{path} cannot be opened: {_short(error)}") from error


def _ways(first: Any) -> dict[Way, Any]:
    """A pipeline for each way there is for a model of this kind, all with the same weights.

    A model that was trained with a mask beside the picture can do nothing else.
    """
    unet, vae = getattr(first, "unet", None), getattr(first, "vae", None)
    if unet is not None and vae is not None and unet.config.in_channels != vae.config.latent_channels:
        return {"mask": first}
    ways: dict[Way, Any] = {}
    for way in _OPENERS:
        try:
            ways[way] = _opener(way).from_pipe(first)
        except (ValueError, TypeError, AttributeError) as error:
            _log.info("%s has no pipeline for %s: %s", type(first).__name__, way, _short(error))
    return ways


def _device(chosen: str) -> torch.device:
    if chosen == "cpu" or (chosen == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise EngineFailed("device: cuda: there is no usable GPU; set device: auto or cpu")
    return torch.device("cuda")


def _dtype(chosen: str, device: torch.device) -> torch.dtype:
    if chosen == "auto":
        return torch.float32 if device.type == "cpu" else torch.float16
    dtype: torch.dtype = getattr(torch, chosen)
    return dtype


def _own_side(pipeline: Any, core: Any, scale: int) -> int:
    latent_side = getattr(pipeline, "default_sample_size", None)
    if latent_side is None:
        latent_side = getattr(getattr(core, "config", None), "sample_size", None)
    if isinstance(latent_side, list | tuple):
        latent_side = min(latent_side)
    return int(latent_side) * scale if isinstance(latent_side, int) else 512


def _short(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]
