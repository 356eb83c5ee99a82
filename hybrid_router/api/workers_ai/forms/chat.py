"""Text models: messages, a prompt or an input → `{"response"}`, or one of OpenAI's objects."""

from __future__ import annotations

import time
from typing import Any, Unpack

import msgspec
from msgspec.structs import replace

from hybrid_router.api.calls import Chunks
from hybrid_router.api.event_stream import EVENTS_TYPE
from hybrid_router.api.openai import chat_request, completion_request, reply
from hybrid_router.api.openai.chunks import ChatChunks, CompletionChunks
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import chat_body, chat_documents
from hybrid_router.api.workers_ai.forms.pointer import pointed
from hybrid_router.api.workers_ai.refusal import wrapped
from hybrid_router.api.workers_ai.text_documents import Shape
from hybrid_router.catalogue.families import Family
from hybrid_router.core.call import Call
from hybrid_router.core.errors import BackendError, CallRefused
from hybrid_router.core.event import Batch

CLASSIC_MAX_TOKENS = 256  # unless the input says otherwise
_NO_BOUND = -1
_CLASSIC = frozenset({Family.CLASSIC, Family.GUARD})
_HOTTEST = 2.0  # as far as OpenAI's decoder goes; classic models take 5
_HOTTEST_CLASSIC = 5.0


class Chat:
    """One of the families that write text.  `ends`: after 256 tokens if nobody says, as classic ones."""

    def __init__(self, family: Family, *, ends: bool = False) -> None:
        self._family = family
        self._default_max_tokens = CLASSIC_MAX_TOKENS if ends or family in _CLASSIC else None

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        body = given.body
        if body is None:
            raise CallRefused("Type mismatch of '/', 'object' expected: send JSON", param="/")
        shape = self._shape(given)
        if shape == "responses":
            return self._chat(given, chat_body.responses(body), sender)
        if shape == "completion" or (body.get("raw") and "prompt" in body):
            return self._completion(given, body, sender)
        default = None if given.openai else self._default_max_tokens
        asked = chat_body.chat(body, default_max_tokens=default)
        if self._family is Family.GUARD:
            asked.pop("response_format", None)  # how the verdict is written is ours to do
        return self._chat(given, asked, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        document = self._document(given, replace(call, alias=given.model), events)
        if given.openai:
            return Reply(content=document)
        return Reply(content=msgspec.json.encode(wrapped(msgspec.Raw(document))))

    def chunks(self, given: Given, call: Call) -> Chunks | None:
        """See `form.Form`."""
        if not call.stream:
            return None
        plain = self._streamed(given, call)
        return chat_documents.GuardChunks(plain, given.model) if self._family is Family.GUARD else plain

    def _streamed(self, given: Given, call: Call) -> Chunks:
        told, created_s, shape = replace(call, alias=given.model), int(time.time()), self._shape(given)
        if shape == "classic":
            return chat_documents.ClassicChunks(call)
        if shape == "completion":
            return CompletionChunks(told, created_s, include_usage=True, echo=False)
        return ChatChunks(told, created_s, include_usage=not given.openai or _wants_usage(given))

    def media_type(self, given: Given, call: Call) -> str:
        """See `form.Form`."""
        return EVENTS_TYPE if call.stream else "application/json"

    def _shape(self, given: Given) -> Shape:
        """In which form the answer comes; OpenAI's addresses and models of two minds go by the input."""
        body = given.body or {}
        if self._family is Family.CHAT or given.openai:
            return "responses" if given.openai and "messages" not in body and "input" in body else "chat"
        if self._family in _CLASSIC:
            return "classic"
        if "messages" in body:
            return "chat"
        return "responses" if self._family is Family.BY_INPUT and "input" in body else "completion"

    def _chat(self, given: Given, asked: dict[str, Any], sender: Sender) -> Call:
        asked["model"] = given.model
        temperature = self._hotter(asked)
        with pointed():
            call = chat_request.decode(msgspec.json.encode(asked), **sender).call
        return _at(call, temperature)

    def _completion(self, given: Given, body: dict[str, Any], sender: Sender) -> Call:
        if not isinstance(body.get("prompt"), str) or not body["prompt"]:
            raise CallRefused("required properties at '/' are 'prompt' or 'messages'", param="/")
        bounded = self._default_max_tokens is not None or self._family is Family.EITHER
        default = CLASSIC_MAX_TOKENS if bounded else _NO_BOUND
        asked = chat_body.completion(body, default_max_tokens=default)
        asked["model"] = given.model
        temperature = self._hotter(asked)
        with pointed():
            call = completion_request.decode(msgspec.json.encode(asked), **sender).call
        return _at(call, temperature)

    def _hotter(self, asked: dict[str, Any]) -> float | None:
        """A temperature that only classic models take, out of the body."""
        told = asked.get("temperature")
        if self._family in _CLASSIC and isinstance(told, int | float) and _HOTTEST < told <= _HOTTEST_CLASSIC:
            return float(asked.pop("temperature"))
        return None

    def _document(self, given: Given, call: Call, events: Batch) -> bytes:
        shape = self._shape(given)
        if shape == "chat":
            return reply.chat(call, int(time.time()), events)
        if shape == "completion":
            return reply.completion(call, int(time.time()), events, echo=False)
        if shape == "responses":
            return msgspec.json.encode(chat_documents.responses(call, int(time.time()), events))
        result = chat_documents.classic(call, events)
        if self._family is Family.GUARD:
            verdict = chat_documents.verdict(result["response"])
            if verdict is None:
                raise BackendError(chat_documents.no_verdict(given.model))
            result["response"] = verdict if _wants_json(given) else result["response"]
        return msgspec.json.encode(result)


def _at(call: Call, temperature: float | None) -> Call:
    if temperature is None:
        return call
    return replace(call, sampling=replace(call.sampling, temperature=temperature))


def _wants_usage(given: Given) -> bool:
    options = (given.body or {}).get("stream_options")
    return isinstance(options, dict) and bool(options.get("include_usage"))


def _wants_json(given: Given) -> bool:
    form = (given.body or {}).get("response_format")
    return isinstance(form, dict) and form.get("type") in ("json_object", "json_schema")
