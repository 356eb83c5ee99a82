"""What to say where there is nothing: most who are lost miss a `/v1`, or know another server's addresses."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import MappingProxyType
from typing import get_args

from hybrid_router.api.failures import is_gateway
from hybrid_router.config.front_schema import ProviderName

_BASE = "/v1"
_NOTHING = "there is nothing at this address; docs/api.md lists what there is"
_PROVIDERS = "|".join(get_args(ProviderName))
_BAD_ACCOUNT = re.compile(rf"{_BASE}/[^/]+/[^/]+/(?:{_PROVIDERS})/")
_GATEWAYS = (
    "a gateway's addresses are /v1/ACCOUNT/GATEWAY and, of one provider, /v1/ACCOUNT/GATEWAY/PROVIDER/…"
)
_ELSEWHERE: Mapping[str, str] = MappingProxyType(  # another server's address → what there is instead
    {
        "/completion": "use POST /v1/completions",
        "/infill": "use POST /v1/completions with `suffix`",
        "/embedding": "use POST /v1/embeddings",
        "/reranking": "use POST /v1/rerank",
        "/v1/reranking": "use POST /v1/rerank",
        "/props": "GET /v1/models names the models, router.yaml says how they run",
        "/slots": "GET /metrics counts what runs",
        "/tokenize": "an answer's `usage` counts its tokens",
        "/detokenize": "`logprobs` bring the bytes of tokens",
        "/apply-template": "POST /v1/chat/completions applies the model's template",
        "/lora-adapters": "router.yaml names adapters, `lora` chooses them",
        "/api/chat": "use POST /v1/chat/completions",
        "/api/generate": "use POST /v1/completions",
        "/api/embed": "use POST /v1/embeddings",
        "/api/embeddings": "use POST /v1/embeddings",
        "/api/tags": "use GET /v1/models",
        "/v1/responses": "use POST /v1/chat/completions",
        "/v1/messages": "use POST /v1/chat/completions",
    }
)


def advice(path: str, host: str, known: Collection[str]) -> str:
    """What a client is told that asked for `path`; `known` are the addresses that there are.

    Whether the client speaks TLS to a proxy in front of this router is not known here.
    """
    asked = path.rstrip("/")
    if asked in _ELSEWHERE:
        return f"{asked} is not offered here: {_ELSEWHERE[asked]}"
    if asked in known:
        return f"did you mean {asked}, without the slash at its end?"
    if asked.startswith(_BASE * 2) and asked.removeprefix(_BASE) in known:
        return f"did you mean {asked.removeprefix(_BASE)}? let the base URL end with {host}, without {_BASE}"
    if _BASE + asked in known:
        return f"did you mean {_BASE}{asked}? let the base URL end with {host}{_BASE}"
    return _of_gateways(path)


def _of_gateways(path: str) -> str:
    """The same where an address is of a gateway, or would be if its account id were one."""
    if is_gateway(path):
        return f"{_NOTHING}: {_GATEWAYS}"
    if _BAD_ACCOUNT.match(path):
        return f"{_GATEWAYS}, where ACCOUNT has 32 hexadecimal digits; any will do"
    return _NOTHING
