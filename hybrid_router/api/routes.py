"""Every address there is: path, method, what answers, and who may ask.

A test walks this table, so a route without an auth class cannot be added.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from hybrid_router.api import decisions, metrics, probes
from hybrid_router.api.ai_gateway import endpoints as ai_gateway
from hybrid_router.api.ai_gateway import logs as ai_gateway_logs
from hybrid_router.api.guard import Respond
from hybrid_router.api.openai import audio, endpoints, images, moderations, speech
from hybrid_router.api.plain import classify, translate
from hybrid_router.api.workers_ai import endpoints as workers_ai


class Route(NamedTuple):
    """One address.

    `auth` is `public`, or `key`: a key is needed once router.yaml has any.  `body` is what it reads:
    `json` up to body_limit, `form` or `any` bytes up to upload_limit, or `none`.  GET routes answer HEAD too.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    respond: Respond
    auth: Literal["public", "key"]
    body: Literal["none", "json", "form", "any"]


_GATEWAY = ai_gateway.BASE
_LOGS = ai_gateway_logs.BASE
_ACCOUNT = "/client/v4/accounts/{account}"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", probes.root, "public", "none"),
    Route("GET", "/health", probes.health, "public", "none"),
    Route("GET", "/ready", probes.ready, "key", "none"),
    Route("GET", "/metrics", metrics.show, "key", "none"),
    Route("GET", "/v1/models", endpoints.list_models, "key", "none"),
    Route("GET", "/v1/models/{name:.+}", endpoints.show_model, "key", "none"),
    Route("POST", "/v1/chat/completions", endpoints.chat, "key", "json"),
    Route("POST", "/v1/completions", endpoints.complete, "key", "json"),
    Route("POST", "/v1/embeddings", endpoints.embed, "key", "json"),
    Route("POST", "/v1/rerank", endpoints.rerank, "key", "json"),
    Route("POST", "/rerank", endpoints.rerank, "key", "json"),
    Route("POST", "/v1/audio/transcriptions", audio.transcribe, "key", "form"),
    Route("POST", "/v1/audio/translations", audio.translate, "key", "form"),
    Route("POST", "/v1/audio/speech", speech.speak, "key", "json"),
    Route("POST", "/v1/images/generations", images.generate, "key", "json"),
    Route("POST", "/v1/images/edits", images.edit, "key", "form"),
    Route("POST", "/v1/images/variations", images.vary, "key", "form"),
    Route("GET", "/v1/images/files/{id}", images.fetch, "key", "none"),
    Route("POST", "/v1/moderations", moderations.moderate, "key", "json"),
    Route("POST", "/v1/classify", classify.classify, "key", "form"),
    Route("POST", "/v1/translate", translate.translate, "key", "json"),
    Route("POST", f"{_ACCOUNT}/ai/run/{{model:.+}}", workers_ai.run, "key", "any"),
    Route("POST", f"{_ACCOUNT}/ai/run", workers_ai.run, "key", "any"),
    Route("POST", f"{_ACCOUNT}/ai/v1/chat/completions", workers_ai.openai, "key", "any"),
    Route("POST", f"{_ACCOUNT}/ai/v1/embeddings", workers_ai.openai, "key", "any"),
    Route("POST", f"{_ACCOUNT}/ai/v1/responses", workers_ai.openai, "key", "any"),
    Route("GET", f"{_ACCOUNT}/ai/models/search", workers_ai.search, "key", "none"),
    Route("GET", f"{_ACCOUNT}/ai/models/schema", workers_ai.schema, "key", "none"),
    Route("GET", f"{_ACCOUNT}/tokens/verify", workers_ai.verify, "key", "none"),
    Route("GET", "/client/v4/user/tokens/verify", workers_ai.verify, "key", "none"),
    Route("POST", ai_gateway.UNIVERSAL, ai_gateway.universal, "key", "json"),
    Route("GET", f"{_GATEWAY}/compat/models", ai_gateway.compat_models, "key", "none"),
    Route("POST", f"{_GATEWAY}/{{provider}}/{{endpoint:.+}}", ai_gateway.provider, "key", "any"),
    Route("GET", _LOGS, ai_gateway_logs.listing, "key", "none"),
    Route("DELETE", _LOGS, ai_gateway_logs.remove, "key", "none"),
    Route("GET", f"{_LOGS}/{{id}}", ai_gateway_logs.show, "key", "none"),
    Route("PATCH", f"{_LOGS}/{{id}}", ai_gateway_logs.say, "key", "json"),
    Route("GET", "/router/decisions/{id}", decisions.show, "key", "none"),
    Route("POST", "/router/explain", decisions.explain, "key", "json"),
)
