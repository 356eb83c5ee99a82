"""Texts that become other texts: translations, summaries, and pictures told in words."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.openai import chat_request, reply
from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import chat_body, fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.api.workers_ai.forms.pointer import pointed
from hybrid_router.core import language_names
from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import Batch

MOST_TEXTS = 128
Input: TypeAlias = Annotated[str, Meta(min_length=1)]
# A code, or a language's name in English.
Language: TypeAlias = Annotated[str, Meta(pattern=r"^[A-Za-z][A-Za-z0-9 _-]{1,31}\Z")]
_SUMMARISE = "Summarise the text that follows. Answer with the summary alone."
_DESCRIBE = "Describe this picture."
_SUMMARY_TOKENS, _DESCRIPTION_TOKENS = 1024, 512


class _Translation(Struct, frozen=True, kw_only=True):
    text: Input
    target_lang: Language
    source_lang: Language = "en"


class _Translations(Struct, frozen=True, kw_only=True):
    text: Input | Annotated[list[Input], Meta(min_length=1, max_length=MOST_TEXTS)]
    target_language: Language


class _Long(Struct, frozen=True, kw_only=True):
    input_text: Input
    max_length: Annotated[int, Meta(ge=1, le=2**31 - 1)] = _SUMMARY_TOKENS


class Translated(Plain):
    """`{"text", "target_lang"}` → `{"translated_text"}`."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Translation)
        source, target = language_names.code(asked.source_lang), language_names.code(asked.target_lang)
        return _translation(given.model, (asked.text,), target, source, senders.fields(sender, extra))

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped({"translated_text": _texts(call, events)[0]})


class Translations(Plain):
    """English texts and a language of India → `{"translations"}`."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Translations)
        texts = (asked.text,) if isinstance(asked.text, str) else tuple(asked.text)
        return _translation(given.model, texts, asked.target_language, "en", senders.fields(sender, extra))

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped({"translations": _texts(call, events)})


class Summary(Plain):
    """`{"input_text"}` → `{"summary"}`, by a chat."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Long)
        messages = [
            {"role": "system", "content": _SUMMARISE},
            {"role": "user", "content": asked.input_text},
        ]
        return _chat(given.model, {**extra, "messages": messages, "max_tokens": asked.max_length}, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped({"summary": _texts(call, events)[0].strip()})


class Description(Plain):
    """A picture, with a prompt or messages → `{"description"}`, by a chat."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        body = dict(given.body or {})
        content = _picture(given, body)
        body.pop("image", None)
        if "messages" not in body:
            body["prompt"] = body.get("prompt") or _DESCRIBE
        asked = chat_body.chat(body, default_max_tokens=_DESCRIPTION_TOKENS)
        asked["messages"] = chat_body.with_picture(asked["messages"], chat_body.data_url(content))
        asked.pop("stream", None)
        return _chat(given.model, asked, sender)

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped({"description": _texts(call, events)[0]})


def _picture(given: Given, body: dict[str, Any]) -> bytes:
    upload = given.content or given.files.get("image")
    if upload is not None:
        return chat_body.content_of(upload)
    if body.get("image") is None:
        raise CallRefused("required properties at '/' are 'image'", param="/")
    return chat_body.picture(body["image"], "image")


def _translation(model: str, texts: tuple[str, ...], target: str, source: str, sent: dict[str, Any]) -> Call:
    return Call(
        operation=Operation.TRANSLATE,
        alias=model,
        prompts=texts,
        ask=Translation(target=target, source=source),
        **sent,
    )


def _chat(model: str, asked: dict[str, Any], sender: Sender) -> Call:
    with pointed():
        return chat_request.decode(msgspec.json.encode({**asked, "model": model}), **sender).call


def _texts(call: Call, events: Batch) -> list[str]:
    """The text of every answer.

    Raises:
        StreamBroken: one is missing.
    """
    choices, _ = reply.fold(call, events)
    return ["".join(choice.text) for choice in choices]
