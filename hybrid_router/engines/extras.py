"""Which packages an engine needs, and the extra of ours that brings them.  Imports none of them."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from types import MappingProxyType

from msgspec import Struct


class Extra(Struct, frozen=True):
    """An optional extra of hybrid-router, and the modules by which it is known to be installed."""

    name: str
    modules: tuple[str, ...]

    @property
    def missing(self) -> str | None:
        """Why its engine cannot be used, in one sentence with what to do; None if it can."""
        lacking = [module for module in self.modules if importlib.util.find_spec(module) is None]
        if not lacking:
            return None
        return (
            f"{', '.join(lacking)} is not installed: "
            f"install hybrid-router with its `{self.name}` extra (pip install 'hybrid-router[{self.name}]')"
        )


BY_ENGINE: Mapping[str, Extra] = MappingProxyType(
    {
        "llama": Extra("llama", ("llama_cpp",)),
        "whisper": Extra("audio", ("faster_whisper",)),
        "sentence_transformers": Extra("embeddings", ("sentence_transformers",)),
        "speech": Extra("speech", ("onnxruntime", "av", "hibari")),
        "images": Extra("images", ("diffusers", "torch")),
        "classify": Extra("classify", ("transformers", "torch", "PIL")),
        "translate": Extra("translate", ("ctranslate2", "sentencepiece", "tokenizers")),
        "moderate": Extra("classify", ("transformers", "torch", "PIL")),
    }
)
