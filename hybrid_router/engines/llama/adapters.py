"""LoRA adapters beside a model: loaded once, worn by the calls that name them.

Source: llama.h of llama.cpp as llama-cpp-python 0.3.36 wraps it (`llama_set_adapters_lora`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from pathlib import Path

import llama_cpp as llama

from hybrid_router.core.call import Adapter
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import AdapterFile
from hybrid_router.engines.task import EngineFailed, TaskRefused


class Adapters:
    """The adapters of one model.  They are freed with it."""

    def __init__(self, weights: Weights, files: Iterable[AdapterFile]) -> None:
        """Load them.

        Raises:
            EngineFailed: a file is no adapter of this model; names it.
        """
        self._handles: dict[str, object] = {}
        self._always = tuple(Adapter(file.name, file.always) for file in files if file.always)
        self._worn: tuple[Adapter, ...] = ()
        self._stamps: dict[str, str] = {}
        for file in files:
            handle = llama.llama_adapter_lora_init(weights.handle, file.path.encode())
            if not handle:
                raise EngineFailed(f"{file.path}: not a LoRA adapter of {weights.path}")
            self._handles[file.name] = handle
            found = Path(file.path).stat()
            self._stamps[file.name] = f"{found.st_size}-{found.st_mtime_ns}"

    def chosen(self, asked: tuple[Adapter, ...]) -> tuple[Adapter, ...]:
        """What a call wears: what it names, else what every call does.

        Raises:
            TaskRefused: there is no adapter of this name.
        """
        for adapter in asked:
            if adapter.name not in self._handles:
                raise TaskRefused(
                    "unsupported_parameter",
                    f"lora: this model has no adapter {adapter.name!r}",
                    by_call=True,
                )
        found = asked or self._always
        return tuple(sorted((adapter for adapter in found if adapter.scale), key=lambda one: one.name))

    def mark(self, chosen: tuple[Adapter, ...]) -> str:
        """What tells cells computed with these from others: another file of the same name makes another."""
        return "".join(f"\n{one.name}={one.scale!r} {self._stamps[one.name]}" for one in chosen)

    def wear(self, context: Context, chosen: tuple[Adapter, ...]) -> None:
        """Let the context compute with these from now on."""
        if chosen == self._worn:
            return
        handles = (llama.llama_adapter_lora_p_ctypes * len(chosen))(
            *(self._handles[adapter.name] for adapter in chosen)
        )
        scales = (ctypes.c_float * len(chosen))(*(adapter.scale for adapter in chosen))
        llama.llama_set_adapters_lora(context.handle, handles, len(chosen), scales)
        self._worn = chosen
