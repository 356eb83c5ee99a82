"""What a cloud said about a failure, for the log: but prompts are not logged, and a cloud may quote them."""

from __future__ import annotations

from collections.abc import Iterator

from hybrid_router.core.asks import Painting
from hybrid_router.core.call import AudioPart, Call, FilePart, ImagePart, Message

_BLOCK_CHARS = 8  # any quotation of 15 characters holds a whole block of this length
_SHORT_CHARS = 2 * _BLOCK_CHARS
_LONGEST_CHARS = 100_000  # a longer prompt is not searched: that would keep other calls waiting
_END_CHARS = 1024  # of an image's or a sound's base64, at each end: who quotes it begins or ends there
QUOTED = "what it said is left out, it may quote the prompt"


def without_prompt(detail: str, prompt: str) -> str:
    """`detail` as it is, or only its part before the first colon if the rest repeats some of `prompt`.

    Args:
        detail: `status 500, code 8005: the cloud's own words`.
        prompt: what the call says.
    """
    where, colon, words = detail.partition(": ")
    if not colon or not _may_quote(words, prompt):
        return detail
    return f"{where}: {QUOTED}"


def prompt_of(call: Call) -> str:
    """What a call says, a line for each message or prompt, and for both ends of all that is no text."""
    prompts = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    media = [end for message in call.messages for end in _media_ends(message)]
    if isinstance(call.ask, Painting):
        prompts.append(call.ask.negative)
    return "\n".join([*(message.text for message in call.messages), *prompts, call.query, *media])


def _media_ends(message: Message) -> Iterator[str]:
    """Beginning and end of the base64 of each image, sound or file; what it is of may well be logged."""
    for part in message.content if isinstance(message.content, list) else ():
        match part:
            case ImagePart(image_url={"url": str(text)}) | FilePart(file={"file_data": str(text)}):
                encoded = text.rpartition(",")[2]
            case AudioPart(input_audio={"data": str(encoded)}):
                pass
            case _:
                continue
        yield encoded[:_END_CHARS]
        yield encoded[_END_CHARS:][-_END_CHARS:]


def _may_quote(words: str, prompt: str) -> bool:
    """Whether `words` share a run of characters with `prompt` that is too long for chance."""
    said = prompt.strip()
    if len(said) > _LONGEST_CHARS:
        return True
    if len(said) < _SHORT_CHARS:
        return bool(said) and said in words
    starts = range(0, len(words) - _BLOCK_CHARS + 1, _BLOCK_CHARS)
    return any(words[start : start + _BLOCK_CHARS] in said for start in starts)
