"""Which packages an engine needs, and the extra of ours that brings them.  Imports none of them."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from importlib import metadata
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
        are = "is" if len(lacking) == 1 else "are"
        return (
            f"{', '.join(lacking)} {are} not installed: install hybrid-router's `{self.name}` extra "
            f"({command(self.name, _direct_url())})"
        )


def command(extra: str, direct_url: str | None) -> str:
    """The command that installs an extra.

    Args:
        direct_url: what pip noted of where hybrid-router is from (PEP 610); None: an index.
    """
    if _is_editable(direct_url):
        return f".venv/bin/pip install -e '.[{extra}]'"  # where the Makefile of a checkout installs
    return f"pip install 'hybrid-router[{extra}]'"


def _is_editable(direct_url: str | None) -> bool:
    """Whether hybrid-router runs from its sources."""
    try:
        noted = json.loads(direct_url or "null")
    except ValueError:
        return False
    folder = noted.get("dir_info") if isinstance(noted, dict) else None
    return isinstance(folder, dict) and folder.get("editable") is True


def _direct_url() -> str | None:
    try:
        return metadata.distribution("hybrid-router").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None


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
