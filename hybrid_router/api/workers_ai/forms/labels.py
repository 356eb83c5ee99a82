"""What a text or a picture is: labels with their scores, the likeliest first."""

from __future__ import annotations

from typing import Annotated, Any, Unpack

from msgspec import Meta, Struct

from hybrid_router.api.openai import sender as senders
from hybrid_router.api.openai.reply import check_whole
from hybrid_router.api.openai.sender import Sender
from hybrid_router.api.workers_ai.form import Given, Reply
from hybrid_router.api.workers_ai.forms import fields
from hybrid_router.api.workers_ai.forms.plain import Plain, enveloped
from hybrid_router.core.asks import Classification
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import StreamBroken
from hybrid_router.core.event import Batch, Label
from hybrid_router.core.upload import Upload

_TEXT_LABELS, _PICTURE_LABELS = 2, 5
_MOST_BOXES = 100
_SIDES = ("xmin", "ymin", "xmax", "ymax")


class _Text(Struct, frozen=True):
    text: Annotated[str, Meta(min_length=1)]


class _Picture(Struct, frozen=True):
    image: list[int] | str


class TextLabels(Plain):
    """`{"text"}` → every label with its score."""

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        asked, extra = fields.read(given, _Text)
        return Call(
            operation=Operation.CLASSIFY,
            alias=given.model,
            prompts=(asked.text,),
            ask=Classification(top_k=_TEXT_LABELS),
            **senders.fields(sender, extra),
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped([_row(label) for label in _labels(events)])


class PictureLabels(Plain):
    """A picture, as bytes or as a list of them → five labels."""

    top_k = _PICTURE_LABELS

    def call(self, given: Given, **sender: Unpack[Sender]) -> Call:
        """See `form.Form`."""
        image, sent = _picture(given, sender)
        return Call(
            operation=Operation.CLASSIFY,
            alias=given.model,
            ask=Classification(top_k=self.top_k),
            uploads=(image,),
            **sent,
        )

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped([{**_row(label), "label": _spelt(label.label)} for label in _labels(events)])


class PictureBoxes(PictureLabels):
    """The same → what is where."""

    top_k = _MOST_BOXES

    def reply(self, given: Given, call: Call, events: Batch) -> Reply:
        """See `form.Form`."""
        return enveloped([{**_row(label), "box": _box(label)} for label in _labels(events)])


def _picture(given: Given, sender: Sender) -> tuple[Upload, dict[str, Any]]:
    """The picture that came, and the call's fields that follow from its sender and what came beside it.

    Raises:
        CallRefused: there is none.
    """
    if given.content is not None:
        return given.content, senders.fields(sender, {})
    for name in ("image", "file"):
        if name in given.files:
            return given.files[name], senders.fields(sender, {})
    asked, extra = fields.read(given, _Picture)
    sent = senders.fields(sender, extra)
    return fields.enclosed(asked.image, "image"), sent


def _labels(events: Batch) -> list[Label]:
    check_whole(events)
    return [event for event in events if isinstance(event, Label)]


def _row(label: Label) -> dict[str, Any]:
    return {"label": label.label, "score": label.score}


def _spelt(label: str) -> str:
    """A label of ImageNet as this API writes it: the first of its names, in capitals."""
    return label.partition(",")[0].strip().upper()


def _box(label: Label) -> dict[str, float]:
    if label.box is None:
        raise StreamBroken("the model says what the picture shows, and not where")
    return dict(zip(_SIDES, label.box, strict=True))
