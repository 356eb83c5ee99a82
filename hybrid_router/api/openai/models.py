"""GET /v1/models: the aliases of router.yaml."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from hybrid_router.core.errors import ModelNotFound


def listing(aliases: Iterable[str], created_s: int) -> bytes:
    """The list of all models."""
    return msgspec.json.encode({"object": "list", "data": [_model(alias, created_s) for alias in aliases]})


def one(name: str, aliases: Iterable[str], created_s: int) -> bytes:
    """A single model.

    Raises:
        ModelNotFound: no alias of this name.
    """
    if name not in aliases:
        raise ModelNotFound("there is no such model here; GET /v1/models lists what there is", param="model")
    return msgspec.json.encode(_model(name, created_s))


def _model(alias: str, created_s: int) -> dict[str, Any]:
    """An alias as a model object; `created` is when this process started."""
    return {"id": alias, "object": "model", "created": created_s, "owned_by": "hybrid-router"}
