"""What messages may hold."""

from __future__ import annotations

from collections.abc import Iterable

from hybrid_router.core.call import AudioPart, Feature, FilePart, ImagePart, Message, Part
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

_NOTHING: frozenset[Feature] = frozenset()


def check(messages: Iterable[Message]) -> frozenset[Feature]:
    """Refuse messages that make no sense; return what is needed to read the others.

    Raises:
        CallRefused: with `param` pointing at the message or part.
    """
    features = _NOTHING
    for i, message in enumerate(messages):
        if isinstance(message.content, list):
            for j, part in enumerate(message.content):
                features |= _needs(part, f"messages[{i}].content[{j}]")
        elif message.content is None and message.role not in {"assistant", "function"}:
            raise CallRefused(
                f"messages[{i}].content: only an assistant's may be null", param=f"messages[{i}].content"
            )
        if message.role == "tool" and not message.tool_call_id:
            raise CallRefused(
                f"messages[{i}].tool_call_id: a tool's message names the call it answers",
                param=f"messages[{i}].tool_call_id",
            )
    return features


def _needs(part: Part, param: str) -> frozenset[Feature]:
    """What a model must be able to do to read `part`."""
    if isinstance(part, ImagePart):
        _check_image(part, param)
        return frozenset({Feature.IMAGES})
    if isinstance(part, AudioPart):
        if not isinstance(part.input_audio.get("data"), str):
            raise CallRefused(f"{param}.input_audio.data: expected base64", param=f"{param}.input_audio.data")
        return frozenset({Feature.AUDIO})
    if isinstance(part, FilePart):
        raise UnsupportedParameter(
            f"{param}.type: files are not supported; send their text", param=f"{param}.type"
        )
    return _NOTHING


def _check_image(part: ImagePart, param: str) -> None:
    """Images travel inside the call.  Fetching what a client names would let it reach our network."""
    url = part.image_url.get("url")
    if not isinstance(url, str) or not url[:5].lower() == "data:":
        raise CallRefused(
            f"{param}.image_url.url: expected a data: URL; addresses are not fetched",
            param=f"{param}.image_url.url",
        )
