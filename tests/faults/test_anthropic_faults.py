"""What Anthropic can do wrong."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from clouds import TEXT, TOKEN, Cloud, CloudFaults

from hybrid_router.backends.anthropic import Anthropic
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import AnthropicBackend, CloudModel
from hybrid_router.core.secret import Secret

MODEL = "claude-test"


def make(root: str, token: str) -> Anthropic:
    """The adapter for a cloud at `root`."""
    config = AnthropicBackend(models={MODEL: CloudModel()}, token=SecretSource(), base_url=root)
    return Anthropic("claude", config, Secret(token))


def frame(kind: str, **more: Any) -> bytes:
    """A named event, as Anthropic writes it."""
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def said(text: str) -> bytes:
    """A piece of text."""
    return frame("content_block_delta", index=0, delta={"type": "text_delta", "text": text})


def failed(words: str) -> dict[str, Any]:
    """An error that does not say more than the status does."""
    return {"type": "error", "error": {"type": "", "message": words}}


START = {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "usage": {"input_tokens": 9}}
END = {"stop_reason": "end_turn", "stop_sequence": None}


class TestAnthropic(CloudFaults):
    """All of it."""

    cloud: ClassVar[Cloud] = Cloud(
        make=make,
        model=MODEL,
        frames=(
            frame("message_start", message=START),
            frame("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            frame("ping"),
            said("1"),
            said(" 2"),
            said(" 3"),
            frame("content_block_stop", index=0),
            frame("message_delta", delta=END, usage={"output_tokens": 3}),
            frame("message_stop"),
        ),
        begins=3,
        whole_from=8,
        in_band=frame("error", error={"type": "overloaded_error", "message": "Overloaded"}),
        refused=lambda words: json.dumps(failed(words)).encode(),
        harmless=(frame("message_stop"), frame("ping")),
        plain=json.dumps(
            {
                "type": "message",
                "content": [{"type": "text", "text": TEXT}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 9, "output_tokens": 3},
            }
        ).encode(),
        token_header=f"x-api-key: {TOKEN}",
    )
