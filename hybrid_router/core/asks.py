"""What calls ask for beyond text: the details of one operation each.

Texts are in `Call.prompts` and files in `Call.uploads`, for every operation: so rules see all text, and one
place looks after all files.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

SoundFormat: TypeAlias = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
EncodingPurpose: TypeAlias = Literal["query", "document", "classification", "clustering"]
PictureFormat: TypeAlias = Literal["png", "jpeg", "webp"]


class Transcription(Struct, frozen=True, kw_only=True, tag="transcription", array_like=True):
    """What is said in `uploads[0]`, written down.

    `prompts` holds what was said before, or how words are spelt, if the client told.  `language`: ISO 639-1;
    None: what is heard.  `translates`: the text is wanted in English.  `words`: with times of single words.
    `voice_only` passes over parts in which nobody speaks; None: as the model is set.
    """

    language: str | None = None
    temperature: float | None = None
    translates: bool = False
    words: bool = False
    voice_only: bool | None = None


class Speech(Struct, frozen=True, kw_only=True, tag="speech", array_like=True):
    """`prompts[0]`, spoken.  `speed` 1.0 is the voice's own; `voice` empty: the model's default."""

    voice: str = ""
    speed: float = 1.0
    format: SoundFormat = "mp3"


class Painting(Struct, frozen=True, kw_only=True, tag="painting", array_like=True):
    """`n` pictures of `prompts[0]`; with uploads: made from those; `prompts` empty: like `uploads[0]`.

    `masked`: the last upload is a mask, and only where it is transparent may the picture change.  `width` and
    `height` in pixels, 0: the model's own.  `strength` 0 to 1: how much of an upload may change.
    `partial_count`: so many unfinished pictures are wanted on the way.  `guidance`, `steps` and `strength`
    None: the model's own.  `quality` 0 to 100 of a jpeg or webp.
    """

    width: int = 0
    height: int = 0
    steps: int | None = None
    guidance: float | None = None
    negative: str = ""
    strength: float | None = None
    masked: bool = False
    partial_count: int = 0
    format: PictureFormat = "png"
    quality: int = 90


class Classification(Struct, frozen=True, kw_only=True, tag="classification", array_like=True):
    """What `uploads[0]`, an image, shows, or `prompts[0]`, a text, says: the `top_k` likeliest labels."""

    top_k: int = 5


class Translation(Struct, frozen=True, kw_only=True, tag="translation", array_like=True):
    """Each of `prompts` in another language.  ISO 639-1 codes or the model's own; `source` None: find out."""

    target: str
    source: str | None = None


class Moderation(Struct, frozen=True, kw_only=True, tag="moderation", array_like=True):
    """Whether each of `prompts`, then each of `uploads`, is harmful, and in which way."""


class Encoding(Struct, frozen=True, kw_only=True, tag="encoding", array_like=True):
    """What `prompts` are embedded for, where the model puts something before each of its kind.

    `purpose` counts where the model knows it; `prompt_name` is one of the model's own and must be there.
    """

    purpose: EncodingPurpose | None = None
    prompt_name: str | None = None


Ask: TypeAlias = Encoding | Transcription | Speech | Painting | Classification | Translation | Moderation
