"""What can go wrong with Hugging Face."""

from __future__ import annotations

import json
from dataclasses import replace

from clouds import CloudFaults
from test_openai_faults import OPENAI

from hybrid_router.backends.huggingface import HuggingFace
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import CloudModel, HuggingFaceBackend
from hybrid_router.core.secret import Secret

MODEL = "org/name:provider"


def make(root: str, token: str) -> HuggingFace:
    """The adapter."""
    config = HuggingFaceBackend(
        models={MODEL: CloudModel()},
        token=SecretSource(),
        base_url=f"{root}/v1",
        tasks_url=f"{root}/hf-inference",
    )
    return HuggingFace("hf", config, Secret(token))


def refused(words: str) -> bytes:
    """An error as the task API words it."""
    return json.dumps({"error": [words, "and more"]}).encode()


class TestHuggingFace(CloudFaults):
    """Inference Providers: OpenAI's chunks, errors of its own."""

    cloud = replace(
        OPENAI,
        make=make,
        model=MODEL,
        refused=refused,
        in_band=b"data: " + json.dumps({"error": "out of memory"}).encode() + b"\n\n",
    )
