"""What Replicate can do wrong, once a prediction is made and its stream is asked for."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from clouds import Cloud, CloudFaults

from hybrid_router.backends.replicate import Replicate
from hybrid_router.config.backend_schema import SecretSource
from hybrid_router.config.cloud_schema import ReplicateBackend, ReplicateModel
from hybrid_router.core.secret import Secret

MODEL = "owner/name"


def make(root: str, token: str) -> Replicate:
    """The adapter for a cloud at `root`."""
    config = ReplicateBackend(models={MODEL: ReplicateModel()}, token=SecretSource(), base_url=root)
    return Replicate("rep", config, Secret(token))


def frame(name: str, data: str) -> bytes:
    """A named event, as Replicate writes it."""
    return f"event: {name}\nid: 7:0\ndata: {data}\n\n".encode()


def aside(root: str, request: bytes) -> bytes | None:
    """A prediction is made, looked at once its stream has ended, and cancelled."""
    line = request.split(b"\r\n", 1)[0].decode()
    if line.startswith("GET /stream"):
        return None
    document: dict[str, Any] = {"id": "p1", "status": "starting", "urls": {"stream": f"{root}/stream/p1"}}
    if line.startswith("GET "):
        counted = {"input_token_count": 9, "output_token_count": 3}
        document |= {"status": "succeeded", "metrics": counted}
    body = json.dumps(document).encode()
    fields = f"Content-Type: application/json\r\nContent-Length: {len(body)}"
    return f"HTTP/1.1 201 Created\r\n{fields}\r\n\r\n".encode() + body


class TestReplicate(CloudFaults):
    """All of it."""

    cloud: ClassVar[Cloud] = Cloud(
        make=make,
        model=MODEL,
        frames=(
            frame("logs", "warming up"),
            frame("output", "1"),
            frame("output", " 2"),
            frame("output", " 3"),
            frame("done", "{}"),
        ),
        begins=1,
        whole_from=5,
        in_band=frame("error", json.dumps({"detail": "CUDA out of memory"})),
        refused=lambda words: json.dumps({"title": "", "detail": words}).encode(),
        harmless=(frame("done", "{}"), frame("logs", "bye")),
        aside=aside,
    )
