"""POST /v1/audio/transcriptions and /v1/audio/translations: form → `Call`."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias, Unpack

import msgspec
from msgspec import Meta, Struct

from hybrid_router.api.multipart import Form
from hybrid_router.api.openai import malformed, sender
from hybrid_router.api.openai.fields import Fraction, ModelName
from hybrid_router.api.openai.sender import Sender
from hybrid_router.core import language_names as languages
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import CallRefused, UnsupportedParameter

Format: TypeAlias = Literal["json", "text", "srt", "verbose_json", "vtt", "diarized_json"]
Granularity: TypeAlias = Literal["word", "segment"]
Language: TypeAlias = Annotated[str, Meta(max_length=32)]
_STREAMED = frozenset({"json", "text"})
_LISTS = frozenset(
    {
        "include", "keywords", "known_speaker_names", "known_speaker_references", "languages",
        "timestamp_granularities",
    }
)  # fmt: skip
_SPEAKERS = "models here do not tell speakers apart"


class TranslationBody(Struct, frozen=True, kw_only=True):
    """The fields that a translation is made of.  `vad_filter`: pass over parts in which nobody speaks; ours,
    by the name that other servers of this kind have for it."""

    model: ModelName
    prompt: Annotated[str, Meta(max_length=16_384)] = ""
    response_format: Format = "json"
    temperature: Fraction | None = None
    vad_filter: bool | None = None
    stream: bool = False


class TranscriptionBody(TranslationBody, frozen=True, kw_only=True):
    """The fields that a transcription is made of; some are there to be refused by name."""

    language: Language = ""
    languages: list[Language] = []
    keywords: Annotated[list[Annotated[str, Meta(max_length=256)]], Meta(max_length=128)] = []
    include: list[Literal["logprobs"]] = []
    timestamp_granularities: list[Granularity] = []
    chunking_strategy: str = ""
    known_speaker_names: list[str] = []
    known_speaker_references: list[str] = []


class TranscriptionRequest(Struct, frozen=True):
    """A call, and how its client wants to read the transcript."""

    call: Call
    format: Format
    granularities: frozenset[Granularity]


# A form's fields are all texts: "0.2" is a number where one is wanted.
_TRANSCRIPTION = msgspec.json.Decoder(TranscriptionBody, strict=False)
_TRANSLATION = msgspec.json.Decoder(TranslationBody, strict=False)
_KNOWN = {each: frozenset(each.__struct_fields__) for each in (TranscriptionBody, TranslationBody)}


def transcription(form: Form, **asker: Unpack[Sender]) -> TranscriptionRequest:
    """Read a request for a transcript in the language that is spoken.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    raw = msgspec.json.encode(_values(form))
    asked, extra = malformed.read(_TRANSCRIPTION, _KNOWN[TranscriptionBody], raw)
    _refuse_the_impossible(asked, extra)
    granularities = frozenset(asked.timestamp_granularities)
    if "word" in granularities and asked.response_format != "verbose_json":
        raise CallRefused(
            "timestamp_granularities: word needs response_format verbose_json",
            param="timestamp_granularities",
        )
    ask = Transcription(
        language=_language(asked),
        temperature=asked.temperature,
        words="word" in granularities,
        voice_only=True if asked.chunking_strategy else asked.vad_filter,
    )
    prompt = " ".join(part for part in (", ".join(asked.keywords), asked.prompt) if part)
    return TranscriptionRequest(
        _call(form, asked, ask, prompt, sender.fields(asker, extra)),
        asked.response_format,
        granularities or frozenset({"segment"}),
    )


def translation(form: Form, **asker: Unpack[Sender]) -> TranscriptionRequest:
    """Read a request for a transcript in English, whatever is spoken.

    Raises:
        CallRefused: for anything that is wrong with it.
    """
    raw = msgspec.json.encode(_values(form))
    asked, extra = malformed.read(_TRANSLATION, _KNOWN[TranslationBody], raw)
    ask = Transcription(temperature=asked.temperature, translates=True, voice_only=asked.vad_filter)
    call = _call(form, asked, ask, asked.prompt, sender.fields(asker, extra))
    return TranscriptionRequest(call, asked.response_format, frozenset({"segment"}))


def _values(form: Form) -> dict[str, Any]:
    """The form's fields; one that is empty is not set."""
    return {name: value for name, value in form.values(_LISTS).items() if value not in ("", [""])}


def _call(form: Form, asked: TranslationBody, ask: Transcription, prompt: str, sent: dict[str, Any]) -> Call:
    if asked.response_format == "diarized_json":
        raise UnsupportedParameter(f"response_format: {_SPEAKERS}; use verbose_json", param="response_format")
    if asked.stream and asked.response_format not in _STREAMED:
        raise CallRefused("stream: only with response_format json or text", param="stream")
    return Call(
        operation=Operation.TRANSCRIBE,
        alias=asked.model,
        prompts=(prompt,) if prompt else (),
        stream=asked.stream,
        features=frozenset({Feature.SPEECH_TRANSLATION} if ask.translates else ()),
        ask=ask,
        uploads=(form.only("file", "file", "speech.mp3"),),
        **sent,
    )


def _language(asked: TranscriptionBody) -> str | None:
    """The language that is spoken, if the client knows it; of several that it may be, none is."""
    told = [asked.language] if asked.language else asked.languages
    if len(told) > 1:
        raise UnsupportedParameter(
            "languages: one at most; without any, what is heard is found out", param="languages"
        )
    return languages.code(told[0]) if told else None


def _refuse_the_impossible(asked: TranscriptionBody, extra: dict[str, Any]) -> None:
    """Name what no model here can do, instead of leaving it out silently."""
    if asked.include:
        raise UnsupportedParameter("include: log probabilities are not told here", param="include")
    for name in ("known_speaker_names", "known_speaker_references"):
        if getattr(asked, name):
            raise UnsupportedParameter(f"{name}: {_SPEAKERS}", param=name)
    chosen = next((name for name in extra if name.startswith("chunking_strategy")), None)
    if asked.chunking_strategy not in ("", "auto") or chosen:
        raise UnsupportedParameter(
            "chunking_strategy: only auto; where nobody speaks is found out by fixed settings",
            param="chunking_strategy",
        )
