"""What a model may compute on, and how its weights are held: words of router.yaml and of engines."""

from __future__ import annotations

from typing import Literal, TypeAlias

Device: TypeAlias = Literal["auto", "cpu", "cuda"]
# CTranslate2's.
ComputeType: TypeAlias = Literal[
    "auto", "int8", "int8_float32", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16", "float32"
]
