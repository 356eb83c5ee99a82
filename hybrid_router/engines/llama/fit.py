"""How much of a model fits where: calls at a time, layers on GPUs.  Facts in, decision out.

Estimates, on the safe side; who knows better writes `parallel` and `gpu_layers`.

Source: llama_model_base::load_tensors and llama_kv_cache of llama.cpp as llama-cpp-python 0.3.36 wraps it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType

from hybrid_router.engines.llama.gguf import BLOCKS
from hybrid_router.engines.llama.outline import Outline
from hybrid_router.engines.settings import LlamaSettings, Offload
from hybrid_router.engines.task import MOST_PARALLEL, EngineFailed

ALL_LAYERS = -1
_USUAL_CONTEXT = 4096
_PARALLEL_PER_THREAD = 2
_MEMORY_SHARE = 0.5  # of what is free beside the weights: other models and programs want some too
_COMPUTED_COUNT = 512  # tokens that are computed in one go at most
_STATES_COUNT = 3  # of recurrent layers, for each call at a time: its own, and two that are kept
_MARGIN_BYTES = 512 * 2**20  # of a GPU's memory: its driver, its kernels, the desktop
_GIB = 2**30

# ggml_type of ggml.h by the names of `cache_type_k` and `cache_type_v`.
CELL_TYPES: Mapping[str, int] = MappingProxyType(
    {
        "f32": 0,
        "f16": 1,
        "bf16": 30,
        "q8_0": 8,
        "q4_0": 2,
        "q4_1": 3,
        "iq4_nl": 20,
        "q5_0": 6,
        "q5_1": 7,
    }
)


@dataclass(frozen=True)
class Device:
    """A GPU that llama.cpp would use, and its free memory."""

    name: str
    free_bytes: int


@dataclass(frozen=True)
class Machine:
    """What there is to fit into.

    Attributes:
        free_bytes: memory that can be had without pushing others out.
        swap_bytes: free swap.
        devices: GPUs, in llama.cpp's order.
    """

    free_bytes: int
    swap_bytes: int = 0
    devices: tuple[Device, ...] = ()


@dataclass(frozen=True)
class Fit:
    """What was decided.

    Attributes:
        context: tokens of prompt and answer for one sequence.
        parallel: sequences at a time.
        gpu_layers: layers on GPUs; the output counts as one.
        cells_bytes: of the whole KV cache, an estimate.
    """

    context: int
    parallel: int
    gpu_layers: int
    cells_bytes: int


def fit(
    settings: LlamaSettings,
    model: Outline,
    machine: Machine,
    *,
    beside_bytes: int = 0,
    beside_cell_bytes: int = 0,
) -> Fit:
    """Decide what the settings leave open.

    Args:
        beside_bytes: of what is loaded beside the model: adapters, a projector, a draft model, and what
            that one computes in.
        beside_cell_bytes: what a draft model keeps of each token.

    Raises:
        EngineFailed: a setting is impossible for this model or machine; names the file and the setting.
    """
    context = _context(settings, model)
    _check_cells(settings, model)
    machine = replace(machine, devices=_used(settings, machine.devices))
    fitting = _Fitting(settings, model, machine, context, beside=(beside_bytes, beside_cell_bytes))
    parallel = settings.parallel or fitting.parallel()
    layers = fitting.layers(parallel)
    fitting.check_memory(parallel, layers)
    return Fit(context, parallel, layers, fitting.cell_bytes * context * parallel)


def _context(settings: LlamaSettings, model: Outline) -> int:
    length = settings.context or min(model.context, _USUAL_CONTEXT)
    if length > model.context:
        raise EngineFailed(
            f"{settings.path}: `context` is {length}; lower it, "
            f"the model was trained for {model.context} tokens"
        )
    return length


def _check_cells(settings: LlamaSettings, model: Outline) -> None:
    """llama.cpp keeps whole blocks of each head, and needs flash attention to read quantized values."""
    for key, kind, size in (
        ("cache_type_k", settings.key_type, model.key_size),
        ("cache_type_v", settings.value_type, model.value_size),
    ):
        block_count = BLOCKS[CELL_TYPES[kind]][0]
        if size % block_count:
            raise EngineFailed(
                f"{settings.path}: `{key}` {kind} wants heads of a multiple of {block_count} numbers, "
                f"this model's have {size}; write f16"
            )


def _used(settings: LlamaSettings, devices: tuple[Device, ...]) -> tuple[Device, ...]:
    """The GPUs that the settings leave."""
    offload = settings.offload
    if offload.layers == 0 or not devices:
        return ()
    if offload.split in {"none", "row"} and offload.main >= len(devices):
        raise EngineFailed(
            f"{settings.path}: `main_gpu` is {offload.main}, "
            f"and there are {len(devices)} GPUs, counted from 0"
        )
    if len(offload.shares) > len(devices):
        raise EngineFailed(
            f"{settings.path}: `tensor_split` divides among {len(offload.shares)} GPUs, "
            f"and there are {len(devices)}"
        )
    return (devices[offload.main],) if offload.split == "none" else devices


class _Fitting:
    """One model's sizes against one machine's."""

    def __init__(
        self,
        settings: LlamaSettings,
        model: Outline,
        machine: Machine,
        context: int,
        *,
        beside: tuple[int, int],
    ) -> None:
        """`beside`: bytes of files beside the model, and of what they keep of a token."""
        self._settings = settings
        self._model = model
        self._machine = machine
        self._devices = machine.devices
        self._context = context
        self._beside_bytes, self._beside_cell_bytes = beside
        self._state_bytes = _STATES_COUNT * model.state_bytes
        self._cells = [
            _numbers_bytes(key, settings.key_type) + _numbers_bytes(value, settings.value_type)
            for key, value in model.cells
        ]
        self.cell_bytes = sum(self._cells)

    @property
    def _all_layers(self) -> int:
        return self._model.layers_count + 1

    def parallel(self) -> int:
        """As many as memory and cores allow; rather fewer calls at a time than layers off the GPU."""
        if self._devices:
            for count in range(MOST_PARALLEL, 0, -1):
                if self.layers(count) == self._all_layers:
                    return count
        most = min(MOST_PARALLEL, max(_PARALLEL_PER_THREAD, _PARALLEL_PER_THREAD * self._settings.threads))
        each = (self.cell_bytes + self._beside_cell_bytes) * self._context + self._state_bytes
        budget = _MEMORY_SHARE * (self._machine.free_bytes - self._model.size_bytes - self._beside_bytes)
        return most if not each else max(1, min(most, int(budget // each)))

    def layers(self, parallel: int) -> int:
        """Layers on GPUs."""
        wanted = self._settings.offload.layers
        if not self._devices or wanted == 0:
            return 0
        if wanted is not None:
            return self._all_layers if wanted == ALL_LAYERS else min(wanted, self._all_layers)
        return next((count for count in range(self._all_layers, 0, -1) if self._holds(count, parallel)), 0)

    def check_memory(self, parallel: int, layers: int) -> None:
        """Refuse what would push everybody else out of memory, this process first of all."""
        here = sum(self._cells[: self._all_layers - max(layers, 1)])
        here += 0 if layers else self._beside_cell_bytes  # a draft model is where any of the layers are
        needed = (here * self._context + (0 if layers else self._state_bytes)) * parallel
        there = self._machine.free_bytes + self._machine.swap_bytes
        if needed > there:
            raise EngineFailed(
                f"{self._settings.path}: the KV cache of {parallel} × {self._context} tokens needs "
                f"{needed / _GIB:.1f} GiB, {there / _GIB:.1f} GiB are free; lower `context` or `parallel`, "
                "or choose a smaller `cache_type_k` and `cache_type_v`"
            )

    def _holds(self, count: int, parallel: int) -> bool:
        """Whether the last `count` layers fit the GPUs as llama.cpp would spread them."""
        needed = zip(self._devices, self._needed(count, parallel), strict=True)
        return all(not there or there <= self._room(device, parallel) for device, there in needed)

    def _room(self, device: Device, parallel: int) -> float:
        computing = computing_bytes(self._model)
        main = self._devices[min(self._settings.offload.main, len(self._devices) - 1)]
        beside = self._beside_bytes + self._beside_cell_bytes * self._context * parallel
        computing += self._state_bytes * parallel
        return device.free_bytes - _MARGIN_BYTES - computing - (beside if device == main else 0)

    def _needed(self, count: int, parallel: int) -> list[float]:
        """Bytes of weights and KV cells on each GPU."""
        first = self._all_layers - count
        weights = (*self._model.layer_bytes, self._model.output_bytes)
        cells = [*(each * self._context * parallel for each in self._cells), 0]
        ends = self._ends()
        if self._settings.offload.split == "row" and len(ends) > 1:
            shares = [end - before for before, end in zip((0.0, *ends), ends, strict=False)]
            needed = [share * sum(weights[first:]) for share in shares]
            needed[self._settings.offload.main] += sum(cells[first:])
            return needed
        needed = [0.0] * len(ends)
        for layer in range(first, self._all_layers):
            gpu = min(bisect_right(ends, (layer - first) / count), len(ends) - 1)
            needed[gpu] += weights[layer] + cells[layer]
        return needed

    def _ends(self) -> list[float]:
        """Where each GPU's part of the layers ends, from 0 to 1."""
        shares = [float(share) for share in self._settings.offload.shares]
        shares += [0.0] * (len(self._devices) - len(shares))
        if not any(shares) or len(self._devices) == 1:
            shares = [float(max(1, device.free_bytes)) for device in self._devices]
        return [sum_ / sum(shares) for sum_ in accumulate(shares)]


def _numbers_bytes(count: int, kind: str) -> int:
    """Bytes of so many numbers in a KV cache."""
    block_count, block_bytes = BLOCKS[CELL_TYPES[kind]]
    return -(-count // block_count) * block_bytes


def computing_bytes(model: Outline) -> int:
    """What is set aside for computing with a model, an estimate."""
    return _COMPUTED_COUNT * 4 * (model.vocabulary_count + 16 * model.width)


def draft_cell_bytes(draft: Outline) -> int:
    """What a draft model keeps of a token: two bytes a number, whatever the model beside it keeps."""
    return sum(_numbers_bytes(key, "f16") + _numbers_bytes(value, "f16") for key, value in draft.cells)


def settled(offload: Offload, found: Fit) -> Offload:
    """The offload that was decided: nothing is left open."""
    return Offload(layers=found.gpu_layers, split=offload.split, main=offload.main, shares=offload.shares)
