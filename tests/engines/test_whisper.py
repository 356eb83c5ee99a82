"""Transcription by the real `tiny.en`: what an engine's task brings, and long recordings in little memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from recordings import encoded, join_whisper_base, joined, silence, spoken, wav, whisper_tiny, words

from bench.sentences import PLAIN
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Feature, Operation
from hybrid_router.core.event import Batch, Event, Finish, Heard, Progress, Segment, Usage
from hybrid_router.core.upload import upload_of
from hybrid_router.engines.settings import WhisperSettings
from hybrid_router.engines.sound.decode import Recording
from hybrid_router.engines.task import EngineFailed, Output, Refused, Task
from hybrid_router.engines.turns import Turns
from hybrid_router.engines.whisper.craft import Whisper
from hybrid_router.engines.whisper.hearing import Hearing, Wish
from hybrid_router.engines.whisper.opening import opened_model

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def engine() -> Iterator[Turns]:
    opened = Turns(
        Whisper(WhisperSettings(path=str(whisper_tiny()), threads=2, parallel=None, longest_s=300.0))
    )
    yield opened
    opened.close()


def task(content: bytes, number: int = 1, prompt: str = "", **ask: Any) -> Task:
    return Task(
        id=number,
        operation=Operation.TRANSCRIBE,
        prompts=(prompt,) if prompt else (),
        ask=Transcription(**ask),
        uploads=(upload_of(content),),
    )


def answered(engine: Turns, given: Task) -> list[Event] | Refused:
    """All events of a task, or why there are none."""
    answers = engine.begin(given)
    for upload in given.uploads:
        upload.close()
    events: list[Event] = []
    while not answers or not (isinstance(answers[-1], Refused) or answers[-1].last):
        answers = engine.step()
        events += [event for answer in answers if isinstance(answer, Output) for event in answer.events]
    return answers[-1] if isinstance(answers[-1], Refused) else events


def text(events: list[Event] | Refused) -> str:
    assert isinstance(events, list)
    return "".join(event.text for event in events if isinstance(event, Segment))


def test_ten_plain_sentences_come_back_word_for_word(engine: Turns) -> None:
    """Spoken, packed and heard: no word is wrong, and the first event says what the recording is."""
    sound = joined(*(part for sentence in PLAIN for part in (spoken(sentence), silence(0.6))))

    events = answered(engine, task(encoded(sound, "ogg")))

    assert isinstance(events, list)
    assert words(text(events)) == words(" ".join(PLAIN))
    assert isinstance(events[0], Heard)
    assert events[0].language == "en"
    assert events[0].duration_s == pytest.approx(len(sound) / 24_000, abs=0.1)
    *_, finish, usage = events
    assert finish == Finish("stop")
    assert isinstance(usage, Usage)
    assert usage.sound_s == pytest.approx(len(sound) / 24_000, abs=0.1)
    assert usage.completion_tokens > 0


def test_times_are_those_of_the_recording(engine: Turns) -> None:
    """Silence is passed over, and what comes after it is where it is in the file."""
    sound = joined(silence(5), spoken(PLAIN[0]), silence(20), spoken(PLAIN[1]), silence(5))

    events = answered(engine, task(encoded(sound, "flac"), words=True))

    assert isinstance(events, list)
    found = [word for event in events if isinstance(event, Segment) for word in event.words]
    assert words("".join(word.text for word in found)) == words(PLAIN[0] + PLAIN[1])
    by_text = {word.text.strip(" .").lower(): word for word in found}
    assert by_text["quick"].start_s == pytest.approx(5.3, abs=0.5)
    assert by_text["sells"].start_s == pytest.approx(28.4, abs=0.6)


def test_in_silence_nothing_is_heard(engine: Turns) -> None:
    """Nobody speaks: no text is made up, and no language."""
    events = answered(engine, task(encoded(silence(20), "flac")))

    assert isinstance(events, list)
    assert not any(isinstance(event, Segment) for event in events)
    assert [event for event in events if isinstance(event, Heard)] == [Heard("en", 20.0, 0.0)]


def test_a_prompt_says_how_words_are_spelt(engine: Turns) -> None:
    """What the client says was said before leads to the spelling of what comes."""
    content = encoded(joined(spoken("We met John Smyth and Katherine in the city."), silence(0.5)))

    led = answered(engine, task(content, prompt="Jon Smythe and Kathryn came. Jon Smythe spoke to Kathryn."))

    assert "Smythe" in text(led)
    assert "Smythe" not in text(answered(engine, task(content)))


def test_what_is_wrong_is_told_before_anything_is_computed(engine: Turns) -> None:
    """By the field that is at fault."""
    nan = wav(np.full(16_000, np.nan, "<f4").tobytes(), bits=32, floats=True)
    told = [
        answered(engine, task(content, **ask))
        for content, ask in (
            (b"no sound", {}),
            (encoded(silence(301), "flac"), {}),
            (nan, {}),
            (encoded(silence(1)), {"language": "de"}),
            (encoded(silence(1)), {"translates": True}),
        )
    ]

    assert [one.param for one in told if isinstance(one, Refused)] == [
        "file",
        "file",
        "file",
        "language",
        None,
    ]
    assert all(isinstance(one, Refused) and one.by_call for one in told)
    assert engine.opened().can == frozenset()


def test_a_task_that_nobody_wants_is_dropped_at_once(engine: Turns) -> None:
    """In the middle of a recording; the next one is heard as if nothing had been."""
    long = joined(*(spoken(sentence) for _ in range(2) for sentence in PLAIN))
    dropped = task(encoded(long, "flac"), number=7)
    assert engine.begin(dropped) == []
    dropped.uploads[0].close()
    while not any(isinstance(answer, Output) and answer.events for answer in engine.step()):
        pass

    engine.cancel(7)

    assert not engine.busy
    assert words(text(answered(engine, task(encoded(spoken(PLAIN[3])))))) == words(PLAIN[3])


def test_a_short_recording_is_heard_between_a_long_ones_sentences(engine: Turns) -> None:
    """It comes later and ends first; of both no word is wrong."""
    long = joined(*(part for sentence in PLAIN for part in (spoken(sentence), silence(0.6))))
    given = [task(encoded(long, "flac"), 1), task(encoded(spoken(PLAIN[6])), 2)]
    texts, ended, begun = {1: "", 2: ""}, list[int](), False
    assert engine.begin(given[0]) == []
    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output)
            texts[answer.id] += text(answer.events)
            if texts[1] and not begun:
                begun = engine.begin(given[1]) == []
            if answer.last:
                ended.append(answer.id)
    for each in given:
        each.uploads[0].close()

    assert ended == [2, 1]
    assert words(texts[1]) == words(" ".join(PLAIN))
    assert words(texts[2]) == words(PLAIN[6])


def test_a_long_recording_is_heard_as_if_it_were_whole_and_alone() -> None:
    """Handed over in parts of 31 seconds that end within words: none is lost, none is heard twice.  Another
    one, heard between its steps on the same model, is whole too."""
    model = opened_model(WhisperSettings(path=str(whisper_tiny()), threads=2))
    sound = joined(*(part for sentence in PLAIN for part in (spoken(sentence), silence(1.2))))
    uploads = [upload_of(encoded(sound, "flac")), upload_of(encoded(spoken(PLAIN[6]), "flac"))]
    wish = Wish(
        language="en",
        prompt="",
        temperature=0.0,
        beam_size=1,
        translates=False,
        words=False,
        voice_only=False,
    )

    with Recording(uploads[0].mapped(), 3600.0) as long, Recording(uploads[1].mapped(), 3600.0) as short:
        other = Hearing(model, short, wish).batches()
        between = until(Heard, other)  # the model's next step is to hear its one and last part
        batches = Hearing(model, long, wish, window_s=31.0).batches()
        events = until(Segment, batches)  # in the middle of a part of which there are more
        between += [event for batch in other for event in batch]
        events += [event for batch in batches for event in batch]

    for upload in uploads:
        upload.close()
    assert words(text(between)) == words(PLAIN[6])
    assert words(text(events)) == words(" ".join(PLAIN))
    starts = [event.start_s for event in events if isinstance(event, Segment)]
    assert starts == sorted(starts)
    assert starts[-1] == pytest.approx(len(sound) / 24_000 - 4, abs=1.5)
    shares = [event.share for event in events if isinstance(event, Progress)]
    assert 0.5 < shares[0] <= 1


def until(kind: type[Event], batches: Iterator[Batch]) -> list[Event]:
    """Events up to the first batch with one of this kind."""
    events: list[Event] = []
    while not any(isinstance(event, kind) for event in events):
        events += next(batches)
    return events


def test_a_model_of_many_languages_translates(tmp_path: Path) -> None:
    """It says so when it is opened."""
    opened = Whisper(WhisperSettings(path=str(join_whisper_base(tmp_path)))).opened()

    assert opened.can == {Feature.SPEECH_TRANSLATION}


def test_a_folder_that_is_no_model_is_named(tmp_path: Path) -> None:
    """With the files that are missing: nothing is looked for on the network."""
    with pytest.raises(EngineFailed, match=r"model\.bin, config\.json, tokenizer\.json is missing"):
        Whisper(WhisperSettings(path=str(tmp_path)))
    for name in ("model.bin", "config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes(b"{}")
    with pytest.raises(EngineFailed, match="cannot be opened"):
        Whisper(WhisperSettings(path=str(tmp_path)))
