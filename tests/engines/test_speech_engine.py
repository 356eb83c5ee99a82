"""Text read aloud by the starter voice."""

from __future__ import annotations

import importlib.util
import io
import wave
from pathlib import Path
from typing import Any

import pytest
from faster_whisper import WhisperModel
from hypothesis import given, settings
from hypothesis import strategies as st
from recordings import whisper_tiny, words

from bench.sentences import TEN
from hybrid_router.core.asks import Speech
from hybrid_router.core.call import Operation
from hybrid_router.core.event import Finish, Sound, Usage
from hybrid_router.engines.settings import VoiceSettings
from hybrid_router.engines.speech.cast import Cast
from hybrid_router.engines.speech.engine import Speaker
from hybrid_router.engines.speech.opening import opened_voices
from hybrid_router.engines.speech.reading import cut, sentences
from hybrid_router.engines.speech.voice import Voice
from hybrid_router.engines.task import Answer, EngineFailed, Output, Refused, Task
from hybrid_router.engines.turns import Turns

pytestmark = pytest.mark.timeout(90)  # models are opened and heard, on shared cores

RATE = 24_000


def assets() -> Path:
    """The starter voice's folder."""
    spec = importlib.util.find_spec("hibari")
    assert spec is not None, "the starter voice is not installed: run `make test`"
    assert spec.origin is not None
    return Path(spec.origin).parent / "assets"


@pytest.fixture(scope="module")
def speaker() -> Speaker:
    """The starter voice, with a name that a user gave it."""
    return Speaker(VoiceSettings(path=str(assets()), voices=(("narrator", "heart"),)))


@pytest.fixture
def engine(speaker: Speaker) -> Turns:
    return Turns(speaker)


def task(text: str, *, number: int = 1, **ask: object) -> Task:
    speech = Speech(**{"format": "pcm", **ask})  # type: ignore[arg-type]
    return Task(id=number, operation=Operation.SPEAK, prompts=(text,), ask=speech)


def answered(engine: Turns, asked: Task) -> list[Answer]:
    """All that comes."""
    answers = engine.begin(asked)
    while engine.busy:
        answers += engine.step()
    return answers


def sound(answers: list[Answer]) -> bytes:
    """The file."""
    events = [event for answer in answers if isinstance(answer, Output) for event in answer.events]
    assert any(isinstance(event, Finish) for event in events), answers
    return b"".join(event.content for event in events if isinstance(event, Sound))


def usage(answers: list[Answer]) -> Usage:
    last = answers[-1]
    assert isinstance(last, Output)
    (counted,) = [event for event in last.events if isinstance(event, Usage)]
    return counted


def refused(answers: list[Answer]) -> Refused:
    (answer,) = answers
    assert isinstance(answer, Refused)
    return answer


def test_ten_sentences_are_heard_word_for_word(engine: Turns) -> None:
    """No word is wrong when another model writes down what was said; each sentence came by itself."""
    answers = answered(engine, task(TEN, format="wav"))
    listener = WhisperModel(str(whisper_tiny()), device="cpu", compute_type="int8", cpu_threads=2)
    segments, _ = listener.transcribe(io.BytesIO(sound(answers)), beam_size=1, language="en")

    assert words(" ".join(segment.text for segment in segments)) == words(TEN)
    assert len(answers) == 10 + 1
    assert usage(answers).sound_s == pytest.approx((len(sound(answers)) - 44) / 2 / RATE)
    assert usage(answers).prompt_tokens > len(words(TEN))


def test_one_sentence_knows_its_length(engine: Turns) -> None:
    """Its wav can be played by what reads whole files; and the same text is the same sound."""
    content = sound(answered(engine, task("Hello there.", format="wav")))

    with wave.open(io.BytesIO(content)) as file:
        assert file.getnframes() == (len(content) - 44) // 2
    assert sound(answered(engine, task("Hello there.", format="wav"))) == content


@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 4.0])
def test_speed_changes_how_long_it_takes(engine: Turns, speed: float) -> None:
    """By the voice's own pace, and by stretching and cutting beyond what it can."""
    text = "The weather is nice today."
    usual = len(sound(answered(engine, task(text))))
    changed = len(sound(answered(engine, task(text, speed=speed))))

    assert changed / usual == pytest.approx(1 / speed, rel=0.15)


def test_a_cancelled_text_is_not_read_on(engine: Turns) -> None:
    """The second sentence is never made; the engine is free at once."""
    engine.begin(task(TEN))
    (first,) = engine.step()
    engine.cancel(1)

    assert isinstance(first, Output)
    assert not first.last
    assert not engine.busy
    assert sound(answered(engine, task("Next.", number=2)))


@pytest.mark.parametrize("name", ["", "heart", "narrator", "alloy", "fable"])
def test_a_voice_is_found_by_many_names(engine: Turns, name: str) -> None:
    """None, its own, one that the configuration gives it, and OpenAI's."""
    assert sound(answered(engine, task("Hi.", voice=name)))


def test_an_unknown_voice_is_refused_with_those_there_are(engine: Turns) -> None:
    """Before anything is made, as the caller's mistake."""
    no = refused(engine.begin(task("Hi.", voice="bob")))

    assert (no.by_call, no.param) == (True, "voice")
    assert "heart" in no.message
    assert "narrator" in no.message
    assert "no voice 'bob'" in no.message
    assert "OpenAI's names (alloy" in no.message


@pytest.mark.parametrize("text", ["", "  \n", "你好，世界", "😀 !? …", "()"])
def test_what_cannot_be_said_is_refused(engine: Turns, text: str) -> None:
    """Rather than answered with silence."""
    no = refused(answered(engine, task(text)))

    assert (no.by_call, no.param) == (True, "input")


def test_what_has_no_sound_is_left_out(engine: Turns) -> None:
    """A sign in the middle does not stop the rest."""
    assert sound(answered(engine, task("Hello 😀 there. 你好. Bye."))).startswith(
        sound(answered(engine, task("Hello there.")))[:100]
    )


@pytest.mark.parametrize(
    "text", ["a-" * 2048, "a1" * 2048, "9" * 4096, "[a](/" * 819, "Ab" * 2048, "$1" * 2048, "'" * 4095 + "a"]
)
def test_texts_made_to_take_long_do_not(engine: Turns, text: str) -> None:
    """The first sound is there within seconds: the rules of reading alone would take hours."""
    assert not engine.begin(task(text))
    while engine.busy and not engine.step():
        pass
    engine.cancel(1)
    assert not engine.busy


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Voice]:
    """A folder of three: two under names that say who it is, and the starter voice."""
    folder = tmp_path_factory.mktemp("voices")
    for name in ("bf_emma.int8.onnx", "bm_lewis.onnx", "hibari.onnx"):
        (folder / name).symlink_to(assets() / "hibari.onnx")
    return opened_voices(VoiceSettings(path=str(folder)))


def test_voices_are_known_by_the_names_of_their_files(voices: dict[str, Voice]) -> None:
    """As they are published, or as Kokoro's are named; who is British is read to so."""
    british = {name: voice.british for name, voice in voices.items()}
    assert british == {"emma": True, "bm_lewis": True, "heart": False}


def test_the_starter_voice_is_known_under_any_name(tmp_path: Path) -> None:
    """By its content."""
    (tmp_path / "speaker.onnx").symlink_to(assets() / "hibari.onnx")
    digest = "5f70741d4e900f4e85d0037498736cc1b3e1b9a63a13546a5da1e63abf4fccd8"

    assert list(opened_voices(VoiceSettings(path=str(tmp_path / "speaker.onnx"), sha256=digest))) == ["heart"]


def test_a_configured_voice_is_the_usual_one(voices: dict[str, Voice]) -> None:
    """Else the starter voice, wherever it stands among the others."""
    assert Cast(voices, VoiceSettings(path="")).called("nova").name == "heart"
    assert Cast(voices, VoiceSettings(path="", voice="emma")).called("nova").name == "emma"
    renamed = Cast(voices, VoiceSettings(path="", voices=(("nova", "emma"), ("heart", "bm_lewis"))))
    assert renamed.called("nova").name == "emma"
    assert renamed.called("heart").name == "bm_lewis"
    assert renamed.called("onyx").name == "heart"


@pytest.mark.parametrize("wrong", [{"voice": "hart"}, {"voices": (("alloy", "hart"),)}])
def test_voices_that_are_not_there_are_named_at_the_start(
    voices: dict[str, Voice], wrong: dict[str, Any]
) -> None:
    """A misspelt configuration is not found out by a call."""
    with pytest.raises(EngineFailed, match=r"'hart'.*it has bm_lewis, emma, heart"):
        Cast(voices, VoiceSettings(path="", **wrong))


@settings(max_examples=200)
@given(st.text(st.sampled_from("ab ,.-1\n"), max_size=900))
def test_sentences_lose_nothing_but_spaces(text: str) -> None:
    """However it is cut, all signs are there in their order, and no part is long."""
    parts = list(sentences(text))

    assert "".join("".join(parts).split()) == "".join(text.split())
    assert all(0 < len(part) <= 200 for part in parts)
    assert all(
        len(word) <= 24 or (word.isalpha() and len(word) <= 64) for part in parts for word in part.split()
    )


@given(st.text(st.sampled_from("ab ,"), max_size=60), st.integers(1, 20))
def test_pieces_are_no_longer_than_they_may_be(line: str, most: int) -> None:
    """And hold all that was there."""
    pieces = list(cut(line, most))

    assert all(len(piece) <= most for piece in pieces)
    assert "".join("".join(pieces).split()) == "".join(line.split())
