"""A forward pass without padding: texts share rows, and none sees its neighbours.

Only for models of which it is known that a token sees no more of its row than the mask and its position say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from hybrid_router.engines.encoders.passage import Passage
from hybrid_router.engines.encoders.rows import rows

_KNOWN = frozenset({"bert"})


def packs(model: Any) -> bool:
    """Whether texts may share rows: the mask is taken cell by cell, and positions as they are told."""
    config = model.config
    told = (
        config.model_type in _KNOWN and getattr(config, "position_embedding_type", "absolute") == "absolute"
    )
    return bool(told and config._attn_implementation in {"sdpa", "eager"} and not config.is_decoder)  # noqa: SLF001 - it has no other name


def computed(model: Any, passages: Sequence[Passage], filler: int) -> dict[str, Any]:
    """What the model's modules make of texts: the first of them in rows, the others text by text."""
    lengths = torch.tensor([one.length for one in passages])
    laid = rows(lengths.tolist())
    starts = torch.tensor(laid.starts)
    within = torch.arange(int(lengths.max())).expand(len(passages), -1)
    real = within < lengths[:, None]
    cells = (starts[:, None] + within)[real]

    def filled(values: torch.Tensor, otherwise: int) -> torch.Tensor:
        whole = torch.full((laid.count * laid.width,), otherwise)
        whole[cells] = values
        return whole.view(laid.count, laid.width)

    owners = filled(torch.arange(len(passages)).repeat_interleave(lengths), -1)
    types = [kind for one in passages for kind in one.types or [0] * one.length]
    first, *others = model
    found: torch.Tensor = first(
        {
            "input_ids": filled(torch.tensor([token for one in passages for token in one.tokens]), filler),
            "position_ids": filled(within[real], 0),
            "token_type_ids": filled(torch.tensor(types), 0),
            "attention_mask": (owners[:, :, None] == owners[:, None, :])[:, None],
            "modality": "text",
        }
    )["token_embeddings"].flatten(0, 1)
    own = torch.where(real, starts[:, None] + within, 0)
    features: dict[str, Any] = {"token_embeddings": found[own], "attention_mask": real.long()}
    if prompt_count := passages[0].prompt_count:
        features["prompt_length"] = prompt_count
    for module in others:
        features = module(features)
    return features
