"""Workers AI: models by their own names, in their own forms, and its addresses in OpenAI's."""

from __future__ import annotations

from typing import Unpack
from urllib.parse import unquote

from msgspec.structs import replace

from hybrid_router.api.ai_gateway.asked import Asked
from hybrid_router.api.ai_gateway.asked import Given as Step
from hybrid_router.api.ai_gateway.providers.openai import OpenAI
from hybrid_router.api.event_stream import EVENTS_TYPE
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai import error
from hybrid_router.api.workers_ai.body import refuse_later
from hybrid_router.api.workers_ai.directory import DIRECTORY
from hybrid_router.api.workers_ai.form import Given
from hybrid_router.api.workers_ai.forms.table import form_of
from hybrid_router.api.workers_ai.names import family_of
from hybrid_router.core.call import Call
from hybrid_router.core.errors import ModelNotFound, RouterError

_OPENAI = ("v1/chat/completions", "v1/embeddings")


class WorkersAI:
    """`{model}`, `run/{model}`, and `v1/…`."""

    def asked(self, given: Step, **sender: Unpack[Sender]) -> Asked:
        """See `asked.Provider`."""
        if given.endpoint in _OPENAI:
            return OpenAI().asked(given, **sender)
        return _native(given, sender)

    def failure(self, error_: RouterError) -> bytes:
        """See `asked.Provider`."""
        return error.document(error_)


def _native(step: Step, sender: Sender) -> Asked:
    model = unquote(step.endpoint).removeprefix("run/")
    given = _given(step, model)
    refuse_later(given.query, given.body)
    models = step.request.app[DIRECTORY].models
    form = form_of(family_of(model, models, given.body), is_known=model in models)
    if form is None:
        raise ModelNotFound(f"No such model {model[:128]} or task", param="model")
    call = form.call(given, **sender)
    _close_after(step, call)
    media_type = form.media_type(given, call)
    streams = media_type == EVENTS_TYPE
    return Asked(
        call=replace(call, alias=model),
        document=lambda events: form.reply(given, call, events).content,
        media_type=media_type if media_type.startswith(("application/", "text/")) else _sniffed(media_type),
        chunks=form.chunks(given, call),
        in_band=_in_band if streams else None,
        stream_type=media_type,
    )


def _given(step: Step, model: str) -> Given:
    files = {} if step.form is None else {name: found[0] for name, found in step.form.files.items() if found}
    fields = None if step.form is None else dict(step.form.values())
    return Given(
        model=model,
        body=step.document if step.query is not None else fields,
        content=step.content,
        files=files,
        query=step.parameters,
    )


def _sniffed(media_type: str) -> str | None:
    """A picture is what its bytes say; sound is what was asked for."""
    return None if media_type.startswith("image/") else media_type


def _close_after(step: Step, call: Call) -> None:
    """Let go of the files that the form made; those that came with the request are let go of there."""
    brought = {id(step.content)}
    if step.form is not None:
        brought |= {id(one) for files in step.form.files.values() for one in files}
    for upload in call.uploads:
        if id(upload) not in brought:
            step.stack.callback(upload.close)


def _in_band(broken: RouterError) -> bytes:
    return b"data: " + error.document(broken) + b"\n\n"
