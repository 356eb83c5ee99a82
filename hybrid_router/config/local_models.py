"""What cannot be meant in a local model's settings, or in what an alias wants of it."""

from __future__ import annotations

from collections.abc import Mapping

from hybrid_router.config.backend_schema import LocalBackend
from hybrid_router.config.cloud_schema import BackendConfig, WorkersAIBackend
from hybrid_router.config.local_schema import LlamaModel, LocalModel
from hybrid_router.config.problems import KeyPath, Problems, did_you_mean
from hybrid_router.config.schema import Alias

_PLAIN_CELLS = frozenset({"f16", "bf16", "f32"})


def check_local_model(model: LocalModel, path: KeyPath, problems: Problems) -> None:
    """Note what would do nothing, and what an engine cannot do together."""
    if model.pinned and model.idle is not None:
        problems.add(
            (*path, "idle"),
            "does nothing beside `pinned: true`, which keeps it in memory: remove one of the two",
        )
    if isinstance(model, LlamaModel):
        _check_llama(model, path, problems)


def _check_llama(model: LlamaModel, path: KeyPath, problems: Problems) -> None:
    if model.flash_attention == "off" and model.cache_type_v not in _PLAIN_CELLS:
        problems.add(
            (*path, "cache_type_v"),
            f"{model.cache_type_v} needs flash attention: write flash_attention: auto, or cache_type_v: f16",
        )
    _check_gpus(model, path, problems)
    if model.drafting.weights is not None and model.drafting.tokens == 0:
        problems.add((*path, "drafting", "weights"), "is never asked: write how many `tokens` it may guess")
    if model.purpose != "generate":
        for key, used in (
            ("drafting", model.drafting.tokens > 0),
            ("projector", model.projector is not None),
        ):
            if used:
                problems.add((*path, key), f"does nothing for purpose: {model.purpose}; remove it")


def _check_gpus(model: LlamaModel, path: KeyPath, problems: Problems) -> None:
    if model.tensor_split and not any(model.tensor_split):
        problems.add((*path, "tensor_split"), "gives no GPU anything")
    if model.tensor_split and model.split_mode == "none":
        problems.add((*path, "tensor_split"), "split_mode: none uses one GPU; remove one of the two")
    if model.main_gpu and model.split_mode == "layer":
        problems.add(
            (*path, "main_gpu"), "counts only with split_mode: none or row; tensor_split: [0, 1] skips a GPU"
        )


def check_adapters(
    alias: Alias, path: KeyPath, backends: Mapping[str, BackendConfig], problems: Problems
) -> None:
    """Note adapters of an alias that not all of its steps have: no plan would have the others."""
    for name in alias.adapters:
        for below, step in problems.numbered((*path, "try"), alias.try_):
            backend = backends.get(step.backend)
            if backend is None:
                continue
            if isinstance(backend, WorkersAIBackend):
                if alias.adapters[name] != 1:
                    problems.add((*path, "adapters", name), "Workers AI takes fine-tunes at strength 1 alone")
            elif not isinstance(backend, LocalBackend):
                problems.add(below, f"a cloud has no adapter {name}: give this step an alias of its own")
            elif (model := backend.models.get(step.model)) is not None and name not in _adapters(model):
                problems.add(
                    (*path, "adapters", name),
                    f"{step.step} has no such adapter{did_you_mean(name, _adapters(model))}",
                    at_key=True,
                )


def _adapters(model: LocalModel) -> tuple[str, ...]:
    return tuple(model.adapters) if isinstance(model, LlamaModel) else ()
