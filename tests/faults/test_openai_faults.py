"""What can go wrong with whoever speaks OpenAI's API."""

from __future__ import annotations

import json
from typing import Any

from clouds import SAID, TEXT, TOKEN, Cloud, CloudFaults

from hybrid_router.backends.openai import OpenAI
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import CloudModel, OpenAIBackend
from hybrid_router.core.secret import Secret

MODEL = "gpt"


def make(root: str, token: str) -> OpenAI:
    """The adapter."""
    config = OpenAIBackend(models={MODEL: CloudModel()}, base_url=f"{root}/v1", token=SecretSource())
    return OpenAI("box", config, Secret(token))


def frame(**fields: Any) -> bytes:
    """One event."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def piece(finish: str | None = None, **delta: Any) -> bytes:
    """A chunk of the only choice."""
    return frame(choices=[{"index": 0, "delta": delta, "finish_reason": finish}])


def refused(words: str) -> bytes:
    """An error in OpenAI's form."""
    return json.dumps(
        {"error": {"message": words, "type": "some_error", "param": None, "code": None}}
    ).encode()


USAGE = {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
DONE = b"data: [DONE]\n\n"
OPENAI = Cloud(
    make=make,
    model=MODEL,
    frames=(
        piece(role="assistant", content=""),
        piece(content="1"),
        piece(content=" 2"),
        piece(content=" 3"),
        piece("stop"),
        frame(choices=[], usage=USAGE),
        DONE,
    ),
    begins=1,
    whole_from=5,
    in_band=b"data: " + refused(f"cannot answer {SAID!r}") + b"\n\n",
    refused=refused,
    echoing=(
        piece(TOKEN, content="a"),
        b"data: " + refused(TOKEN) + b"\n\n",
        b"data: " + TOKEN.encode() + b"\n\n",
        frame(error={"message": "no", "code": TOKEN}),
    ),
    harmless=(DONE, piece(content="more"), DONE),
    plain=json.dumps(
        {
            "choices": [{"index": 0, "message": {"content": TEXT}, "finish_reason": "stop"}],
            "usage": USAGE,
        }
    ).encode(),
)


class TestOpenAI(CloudFaults):
    """OpenAI's own form."""

    cloud = OPENAI
