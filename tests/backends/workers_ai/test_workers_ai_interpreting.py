"""Speech in any language as English text: one model listens, another translates, a third may be asked."""

from __future__ import annotations

from typing import Any

import pytest
from media_calls import M2M100, NOVA, TINY, WHISPER, batched, hear
from scripted_cloud import Reply, cloud, make, models, plain

from hybrid_router.catalogue.prices import Work, neurons
from hybrid_router.config.cloud_schema import SpeechTranslation
from hybrid_router.core.call import Feature
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    CallRefused,
    NotAble,
    RouterError,
)
from hybrid_router.core.event import Event, Finish, Heard, Progress, Segment, Usage

CHAT = "@cf/meta/llama-3.2-1b-instruct"
SPANISH = ["Buenos días a todos los oyentes.", "Hoy hablamos del tiempo en la montaña."]
ENGLISH = ["Good morning to all listeners.", "Today we talk about the weather in the mountains."]
CUES = "".join(f"00:0{i}.000 --> 00:0{i + 1}.000\n{said}\n\n" for i, said in enumerate(SPANISH))
HEARD = {"text": " ".join(SPANISH), "vtt": f"WEBVTT\n\n{CUES}"}
CONFIG: dict[str, Any] = {"speech_translation": SpeechTranslation(identify=CHAT)}


def ok(result: Any) -> Reply:
    """A result in its envelope."""
    return plain({"result": result, "success": True})


def translated(text: str, **usage: int) -> Reply:
    """The translator's reply."""
    return ok({"translated_text": text} | ({"usage": usage} if usage else {}))


def refused(code: int, message: str, status: str = "400 Bad Request") -> Reply:
    """An error reply."""
    return plain({"success": False, "errors": [{"code": code, "message": message}]}, status=status)


async def told(call_model: str, *replies: Reply, **config: Any) -> tuple[list[list[Event]], list[Any]]:
    """The batches of a translation, and what was sent."""
    async with cloud(*replies, **config) as (backend, upstream):
        said = await batched(backend, hear(translates=True), call_model)
    return said, upstream.requests


async def test_a_recording_in_spanish_comes_back_in_english() -> None:
    """Each segment keeps its times and gets its translation; the language is found here; signs of life come
    in between, and nothing of the answer before all of it is there."""
    said, requests = await told(WHISPER, ok(HEARD), *map(translated, ENGLISH))

    *signs, last = said
    assert signs
    assert all(isinstance(event, Progress) for batch in signs for event in batch)
    shares = [event.share for batch in signs for event in batch if isinstance(event, Progress)]
    assert shares == sorted(shares)
    assert last[0] == Heard("es", 2.0)
    assert last[1:3] == [Segment(f" {ENGLISH[0]}", 0.0, 1.0), Segment(f" {ENGLISH[1]}", 1.0, 2.0)]
    assert last[3] == Finish("stop")
    assert [line.split("/run/")[1].split(" ")[0] for line, _, _ in requests] == [WHISPER, M2M100, M2M100]
    assert requests[1][2] == {"text": SPANISH[0], "source_lang": "es", "target_lang": "en"}


async def test_every_models_neurons_are_counted() -> None:
    """Minutes of one model and tokens of the other, at their own prices, as one usage."""
    replies = [translated(text, prompt_tokens=10, completion_tokens=8) for text in ENGLISH]
    said, _ = await told(WHISPER, ok(HEARD), *replies)

    usage = said[-1][-1]
    assert isinstance(usage, Usage)
    assert (usage.prompt_tokens, usage.completion_tokens, usage.sound_s) == (20, 16, 2.0)
    heard = neurons(models()[WHISPER].price, Work(sound_s=2.0))
    written = neurons(models()[M2M100].price, Work(prompt_tokens=20, completion_tokens=16))
    assert usage.neurons == pytest.approx(heard + written)
    assert min(heard, written) > 0


async def test_tokens_that_nobody_counts_are_estimated() -> None:
    """A translator that tells no usage is not free."""
    said, _ = await told(WHISPER, ok(HEARD), *map(translated, ENGLISH))

    usage = said[-1][-1]
    assert isinstance(usage, Usage)
    assert usage.neurons is not None
    assert usage.neurons > neurons(models()[WHISPER].price, Work(sound_s=2.0))


async def test_english_is_not_translated() -> None:
    """What was said in English is the answer."""
    heard = {"text": "Good morning to all listeners of our radio station.", "vtt": "WEBVTT\n\n"}
    said, requests = await told(WHISPER, ok(heard))

    assert len(requests) == 1
    assert said[-1][0] == Heard("en", 2.0)
    assert said[-1][1] == Segment(heard["text"], 0.0, 0.0)


async def test_silence_needs_no_language() -> None:
    """A recording in which nobody speaks has an empty translation."""
    said, requests = await told(WHISPER, ok({"text": ""}))

    assert len(requests) == 1
    assert said[-1][:2] == [Heard("", 2.0), Finish("stop")]


async def test_a_language_that_the_listener_tells_is_believed() -> None:
    """Nobody else is asked for it."""
    channel = {"detected_language": "es", "alternatives": [{"transcript": "Sí.", "words": []}]}
    said, requests = await told(NOVA, ok({"results": {"channels": [channel]}}), translated("Yes."), **CONFIG)

    assert len(requests) == 2
    assert said[-1][1] == Segment(" Yes.", 0.0, 0.0)


@pytest.mark.parametrize(
    "answer",
    [
        {"response": "es"},
        {"response": " ES.\n"},
        {"choices": [{"message": {"content": "es"}, "finish_reason": "stop"}]},
    ],
)
async def test_a_few_words_are_shown_to_a_model_that_is_configured(answer: dict[str, Any]) -> None:
    """Too short for the router's own finder: a chat says the language, in either form of answer."""
    said, requests = await told(
        WHISPER, ok({"text": "Vale."}), ok(answer), translated("All right."), **CONFIG
    )

    assert f"/run/{CHAT} " in requests[1][0]
    assert requests[1][2]["messages"][-1] == {"role": "user", "content": "Vale."}
    assert said[-1][0] == Heard("es", 2.0)


async def test_a_language_that_nobody_can_tell_is_an_obstacle() -> None:
    """Without a model to ask, the message says which key would help."""
    with pytest.raises(NotAble, match=r"speech_translation\.identify"):
        await told(WHISPER, ok({"text": "1 2 3"}))


async def test_a_model_that_chatters_tells_no_language() -> None:
    """An answer that is no code is not taken for one."""
    with pytest.raises(BackendError, match=r"told no language \(while finding out"):
        await told(WHISPER, ok({"text": "Vale."}), ok({"response": "It is Spanish."}), **CONFIG)


@pytest.mark.parametrize(
    ("replies", "kind", "stage"),
    [
        ([refused(5006, "bad audio")], CallRefused, "writing down the recording"),
        ([refused(3040, "busy", "429 Busy")], BackendBusy, "writing down the recording"),
        ([ok(HEARD), refused(3040, "busy", "429 Busy")], BackendBusy, "translating what was said"),
        ([ok(HEARD), translated(ENGLISH[0]), ok({})], BackendError, "translating what was said"),
        ([ok(HEARD), translated(""), translated("")], BackendError, "translating what was said"),
        ([ok(HEARD), refused(5006, "bad text")], BackendError, "translating what was said"),
    ],
)
async def test_a_failure_names_its_stage_and_the_next_step_may_try(
    replies: list[Reply], kind: type[RouterError], stage: str
) -> None:
    """Only the recording can be the caller's fault: what the translator refuses was our request."""
    with pytest.raises(kind) as failed:
        await told(WHISPER, *replies)

    assert stage in failed.value.message
    assert isinstance(failed.value, CallRefused) == (kind is CallRefused)


async def test_what_was_said_is_not_in_the_log() -> None:
    """A translator that quotes what it was given is not quoted."""
    quoted = plain(
        {"success": False, "errors": [{"code": 8005, "message": f"cannot read {SPANISH[0]}"}]}, "500 No"
    )
    with pytest.raises(BackendError) as failed:
        await told(WHISPER, ok(HEARD), quoted)

    assert "oyentes" not in failed.value.detail + failed.value.message
    assert failed.value.detail


async def test_a_translator_that_is_none_is_named() -> None:
    """A key of router.yaml that leads to another kind of model is said so."""
    with pytest.raises(BackendMisconfigured, match=r"speech_translation\.translate"):
        await told(WHISPER, ok(HEARD), speech_translation=SpeechTranslation(translate=CHAT))


async def test_a_language_that_the_translator_does_not_read_is_an_obstacle() -> None:
    """Another step may read it."""
    channel = {"detected_language": "la", "alternatives": [{"transcript": "Veni, vidi.", "words": []}]}
    with pytest.raises(NotAble, match="does not read the language la"):
        await told(NOVA, ok({"results": {"channels": [channel]}}))


def test_whoever_hears_english_alone_translates_nothing() -> None:
    """A plan for a translation passes over the English model."""
    backend = make("http://127.0.0.1:9/client/v4")

    assert Feature.SPEECH_TRANSLATION in backend.features(WHISPER) & backend.features(NOVA)
    assert Feature.SPEECH_TRANSLATION not in backend.features(TINY)
