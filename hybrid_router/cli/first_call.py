"""A line to try, for whatever an alias's models are for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from types import MappingProxyType

from hybrid_router.core.call import Operation

# A small model may not find its end; the first look should not wait for that.
_MOST_TOKENS = 100
_BODIES: Mapping[Operation, tuple[str, Mapping[str, object]]] = MappingProxyType({
    Operation.CHAT: (
        "chat/completions",
        {"max_tokens": _MOST_TOKENS, "messages": [{"role": "user", "content": "Say hello."}]},
    ),
    Operation.COMPLETE: ("completions", {"max_tokens": _MOST_TOKENS, "prompt": "Once upon a time"}),
    Operation.EMBED: ("embeddings", {"input": "Good morning."}),
    Operation.RERANK: ("rerank", {"query": "a greeting", "documents": ["Good morning.", "Two and two."]}),
    Operation.SPEAK: ("audio/speech", {"input": "Good morning.", "voice": "alloy"}),
    Operation.IMAGE: ("images/generations", {"prompt": "A red bicycle."}),
    Operation.TRANSLATE: ("translate", {"input": "Good morning.", "target": "de"}),
    Operation.MODERATE: ("moderations", {"input": "Good morning."}),
})  # fmt: skip
_FORMS: Mapping[Operation, tuple[str, str]] = MappingProxyType({
    Operation.TRANSCRIBE: ("audio/transcriptions", "file=@talk.mp3"),
    Operation.CLASSIFY: ("classify", "image=@cat.jpg"),
})  # fmt: skip
_FILES: Mapping[Operation, str] = MappingProxyType({Operation.SPEAK: "morning.mp3"})


def curl(url: str, alias: str, operation: Operation, *, keyed: bool) -> str:
    """What a shell is told to ask `alias` of a router at `url`."""
    key = " -H 'Authorization: Bearer YOUR-KEY'" if keyed else ""
    if operation in _FORMS:
        path, file = _FORMS[operation]
        return f"curl {url}/v1/{path}{key} -F model={alias} -F {file}"
    path, body = _BODIES[operation]
    written = json.dumps({"model": alias, **body})
    out = f" -o {_FILES[operation]}" if operation in _FILES else ""
    return f"curl {url}/v1/{path}{key} -H 'Content-Type: application/json' -d '{written}'{out}"
