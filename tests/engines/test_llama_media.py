"""Images and sound in conversations, with tiny random models and projectors."""

from __future__ import annotations

import base64
import io
import math
import struct
import threading
import wave
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import pytest
import tiny_kinds
import tiny_projector
from PIL import Image

from hybrid_router.core.call import (
    AudioPart,
    Feature,
    ImagePart,
    Message,
    Operation,
    Part,
    Sampling,
    TextPart,
)
from hybrid_router.core.event import Event, Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.media.block import Block
from hybrid_router.engines.llama.media.projector import EncodingFailed, Vectors
from hybrid_router.engines.settings import Keeping, LlamaSettings
from hybrid_router.engines.task import Output, Refused, Task

KINDS = ("mlp", "gemma3", "qwen2vl_merger")
SCORED = Sampling(temperature=0, max_tokens=4)
# Log probabilities of the same prompt differ by what f16 cells and the order of sums do; of another by more.
SAME, OTHER = 0.01, 0.02
ASKS = TextPart("what is this in the picture here")


def image(colour: str, size: tuple[int, int] = (96, 32), **fields: str) -> ImagePart:
    """A picture of one colour with a black corner."""
    out = io.BytesIO()
    shown = Image.new("RGB", size, colour)
    shown.paste("black", (0, 0, 9, 9))
    shown.save(out, "PNG")
    return ImagePart({"url": f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}", **fields})


def sound(pitch_hz: int, length_s: float = 0.5) -> AudioPart:
    """A tone."""
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        steps = range(int(8000 * length_s))
        file.writeframes(
            b"".join(struct.pack("<h", int(9000 * math.sin(i * pitch_hz / 8000 * math.tau))) for i in steps)
        )
    return AudioPart({"data": base64.b64encode(out.getvalue()).decode(), "format": "wav"})


@dataclass
class Asked:
    """An engine, and what it said."""

    engine: LlamaEngine
    events: dict[int, list[Event]] = field(default_factory=dict)
    refused: dict[int, Refused] = field(default_factory=dict)
    next_id: int = 1

    def task(
        self, *messages: Message, n: int = 1, private: bool = False, truncate: str | None = None
    ) -> Task:
        self.next_id += 1
        return Task(
            id=self.next_id,
            operation=Operation.CHAT,
            messages=messages,
            sampling=SCORED,
            n=n,
            private=private,
            top_logprobs=0,
            truncate=truncate,
        )

    def begin(self, task: Task) -> int:
        self.events[task.id] = []
        for answer in self.engine.begin(task):
            assert isinstance(answer, Refused)
            self.refused[task.id] = answer
        return task.id

    def step(self) -> None:
        for answer in self.engine.step():
            if isinstance(answer, Output):
                self.events[answer.id] += answer.events
            else:
                self.refused[answer.id] = answer

    def run(self) -> None:
        while self.engine.busy:
            self.step()

    def say(self, *parts: Part, n: int = 1, private: bool = False) -> int:
        """One message, to its end."""
        task_id = self.begin(self.task(Message(role="user", content=list(parts)), n=n, private=private))
        self.run()
        return task_id

    def usage(self, task_id: int) -> Usage:
        assert task_id not in self.refused, self.refused
        last = self.events[task_id][-1]
        assert isinstance(last, Usage)
        return last

    def scores(self, task_id: int, index: int = 0) -> list[float]:
        """How likely each token of the answer was: tells prompts apart that tokens would not."""
        texts = (event for event in self.events[task_id] if isinstance(event, Text) and event.index == index)
        return [score.logprob or 0.0 for text in texts for score in text.scores]

    def no(self, *parts: Part) -> Refused:
        """The refusal of a message."""
        task_id = self.say(*parts)
        assert self.engine._blocks is None or not self.engine._ongoing
        return self.refused[task_id]

    def blocks(self, *parts: Part) -> tuple[Block, ...]:
        """What a message holds of images and sound."""
        ongoing = self.engine._intake.read(self.task(Message(role="user", content=list(parts))))
        for sequence in ongoing.sequences:
            sequence.sampler.close()
        return ongoing.sequences[0].blocks


@dataclass(frozen=True)
class Files:
    """A model and its projector."""

    model: Path
    projector: Path

    def settings(self, **changed: object) -> LlamaSettings:
        plain = LlamaSettings(
            path=str(self.model),
            context=512,
            parallel=3,
            threads=1,
            prefill_chunk=64,
            projector_path=str(self.projector),
        )
        return msgspec.structs.replace(plain, **changed)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Files]:
    """Writes each kind once."""
    folder = tmp_path_factory.mktemp("tiny")

    def write(kind: str) -> Files:
        arch = "qwen2vl" if kind == "qwen2vl_merger" else "llama"
        model, projector = folder / f"{arch}.gguf", folder / f"mmproj-{kind}.gguf"
        if not model.exists():
            tiny_projector.write_model(model, arch)
        if not projector.exists():
            tiny_projector.write(projector, kind)
        return Files(model, projector)

    return write


@pytest.fixture
def asked(files: Callable[[str], Files], request: pytest.FixtureRequest) -> Iterator[Asked]:
    engine = LlamaEngine(files(getattr(request, "param", "mlp")).settings())
    yield Asked(engine)
    engine.close()


every_kind = pytest.mark.parametrize("asked", KINDS, indirect=True)


@every_kind
def test_the_picture_decides_what_is_said(asked: Asked) -> None:
    """The same one brings the same numbers, computed or found; another one others."""
    blue, red, again = (asked.say(ASKS, image(colour)) for colour in ("blue", "red", "blue"))

    assert asked.scores(blue) == pytest.approx(asked.scores(again), abs=SAME)
    assert asked.scores(blue) != pytest.approx(asked.scores(red), abs=OTHER)
    assert asked.usage(again).cached_tokens == asked.usage(again).prompt_tokens - 1


@every_kind
def test_order_and_place_of_pictures_matter(asked: Asked) -> None:
    """Two pictures the other way round, or before the text, are another prompt."""
    blue, red = image("blue"), image("red")

    prompts = ((blue, ASKS, red), (red, ASKS, blue), (ASKS, blue, red))
    first, second, third = (asked.scores(asked.say(*parts)) for parts in prompts)

    assert first != pytest.approx(second, abs=OTHER)
    assert first != pytest.approx(third, abs=OTHER)
    assert second != pytest.approx(third, abs=OTHER)


@every_kind
def test_a_picture_costs_its_tokens(asked: Asked) -> None:
    """Usage counts what it takes of the context, also where rows share places."""
    words = asked.usage(asked.say(ASKS)).prompt_tokens
    (block,) = asked.blocks(ASKS, image("blue"))

    seen = asked.usage(asked.say(ASKS, image("blue"))).prompt_tokens

    assert seen >= words + block.tokens_count
    assert block.tokens_count >= block.positions_count > 0


def test_what_attends_to_itself_is_computed_at_once(files: Callable[[str], Files]) -> None:
    """However small the batches are; the library would end the process."""
    engine = LlamaEngine(files("gemma3").settings(prefill_chunk=8, parallel=1))
    asked = Asked(engine)
    (block,) = asked.blocks(image("blue"))
    said = asked.say(image("blue"))
    engine.close()

    assert block.tokens_count == 64
    assert asked.usage(said).completion_tokens > 0


def test_rows_share_places(files: Callable[[str], Files]) -> None:
    """Six tokens wide and two high are twelve, and six places; the context is filled by tokens."""
    engine = LlamaEngine(files("qwen2vl_merger").settings(context=100))
    asked = Asked(engine)
    (block,) = asked.blocks(image("blue"))
    fits, over = asked.say(image("blue")), asked.say(*[image("blue")] * 2)  # over by tokens, not by places
    engine.close()

    assert (block.tokens_count, block.positions_count) == (12, 6)
    assert asked.usage(fits).prompt_tokens < 100
    assert asked.refused[over].code == "context_length_exceeded"


@every_kind
def test_the_next_turn_finds_picture_and_text(asked: Asked) -> None:
    """Nothing of the first turn is computed again, not even encoded."""
    asks = Message(role="user", content=[ASKS, image("blue")])
    first = asked.begin(asked.task(asks))
    asked.run()
    encoded = counted(asked.engine)
    second = asked.begin(
        asked.task(asks, Message(role="assistant", content="a sea"), Message(role="user", content="and now"))
    )
    asked.run()

    assert asked.usage(second).cached_tokens >= asked.usage(first).prompt_tokens - 1
    assert encoded == []


@every_kind
def test_another_picture_shares_only_what_is_before_it(asked: Asked) -> None:
    """Up to its start, to the token."""
    asked.say(ASKS, image("blue"))
    (block,) = asked.blocks(ASKS, image("red"))

    other = asked.usage(asked.say(ASKS, image("red")))

    assert other.cached_tokens >= block.start - 12  # but for the words that the projector puts before it
    assert other.cached_tokens <= block.start


@every_kind
def test_choices_share_one_picture(asked: Asked) -> None:
    """It is counted and computed once, and each choice reads it."""
    encoded = counted(asked.engine)
    alone, both = asked.say(ASKS, image("blue")), asked.say(ASKS, image("green"), n=2)

    assert len(encoded) == 2
    assert asked.usage(both).prompt_tokens == asked.usage(alone).prompt_tokens
    assert asked.scores(both, 0) == pytest.approx(asked.scores(both, 1), abs=SAME)


def test_calls_that_show_the_same_wait_for_the_first(asked: Asked) -> None:
    """The picture is encoded and computed once."""
    encoded = counted(asked.engine)
    parts: list[Part] = [TextPart("some words before the picture that make it worth waiting"), image("blue")]
    ids = [
        asked.begin(asked.task(Message(role="user", content=[*parts, TextPart(last)])))
        for last in ("a", "b", "c")
    ]
    asked.run()

    assert len(encoded) == 1
    assert sum(asked.usage(task_id).cached_tokens > 0 for task_id in ids) == 2


def test_the_same_picture_behind_another_text_is_not_encoded_again(asked: Asked) -> None:
    """Its vectors do not depend on what is around it."""
    encoded = counted(asked.engine)
    asked.say(TextPart("one"), image("blue"))
    asked.say(TextPart("two"), image("blue"), image("blue"))

    assert len(encoded) == 1


def counted(engine: LlamaEngine) -> list[Block]:
    """Blocks that are encoded from now on."""
    assert engine._blocks is not None
    encoder, blocks = engine._blocks._encoder, list[Block]()
    encode = encoder._encode

    def counting(block: Block) -> Vectors:
        blocks.append(block)
        return encode(block)

    encoder._encode = counting
    return blocks


@dataclass
class Gate:
    """Holds the encoder until it is opened."""

    begun: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def gate(asked: Asked) -> Iterator[Gate]:
    assert asked.engine._blocks is not None
    encoder, held = asked.engine._blocks._encoder, Gate()
    encode = encoder._encode

    def waiting(block: Block) -> Vectors:
        held.begun.set()
        assert held.open.wait(15)
        return encode(block)

    encoder._encode = waiting
    yield held
    held.open.set()


def test_a_running_answer_goes_on_while_a_picture_is_encoded(asked: Asked, gate: Gate) -> None:
    """To its end; the other answers when its picture is there."""
    seeing = asked.begin(asked.task(Message(role="user", content=[ASKS, image("blue")])))
    reading = asked.begin(asked.task(Message(role="user", content="words alone")))
    while not (asked.events[reading] and isinstance(asked.events[reading][-1], Usage)):
        asked.step()
    assert gate.begun.wait(10)
    assert asked.events[seeing] == []

    gate.open.set()
    asked.run()

    assert asked.usage(seeing).completion_tokens > 0


def test_a_call_can_be_cancelled_while_its_picture_is_encoded(asked: Asked, gate: Gate) -> None:
    """At once; the next call is answered when the encoder is free."""
    gone = asked.begin(asked.task(Message(role="user", content=[ASKS, image("blue")])))
    asked.step()
    assert gate.begun.wait(10)

    asked.engine.cancel(gone)
    assert not asked.engine.busy
    assert asked.engine._slots.free_count == 3
    gate.open.set()

    assert asked.usage(asked.say(ASKS, image("red"))).completion_tokens > 0
    assert asked.events[gone] == []


def test_a_picture_that_cannot_be_encoded_fails_its_call_alone(asked: Asked) -> None:
    """The other goes on, and the engine lives."""
    assert asked.engine._blocks is not None
    encoder = asked.engine._blocks._encoder
    encode = encoder._encode

    def failing(block: Block) -> Vectors:
        raise EncodingFailed("no memory")

    encoder._encode = failing
    bad = asked.begin(asked.task(Message(role="user", content=[ASKS, image("blue")])))
    good = asked.begin(asked.task(Message(role="user", content="words alone")))
    asked.run()
    encoder._encode = encode

    assert "no memory" in asked.refused[bad].message
    assert asked.usage(good).completion_tokens > 0
    assert asked.usage(asked.say(ASKS, image("blue"))).completion_tokens > 0


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (
            ImagePart({"url": "https://example.org/cat.png"}),
            "send it as a data: URL; this router fetches nothing",
        ),
        (ImagePart({"url": "data:image/png;base64,@@@@"}), "base64 is not valid"),
        (ImagePart({"url": "data:image/png;base64,QUJD"}), "image 1: it is no PNG, JPEG, WebP or GIF"),
        (sound(440), "this model's projector takes images, not sound"),
    ],
    ids=["address", "base64", "text", "sound"],
)
def test_what_cannot_be_seen_is_refused_by_name(asked: Asked, part: Part, words: str) -> None:
    """With what to do; it is the call's fault."""
    refused = asked.no(ASKS, part)

    assert words in refused.message
    assert refused.by_call


def test_without_a_projector_pictures_are_refused(files: Callable[[str], Files]) -> None:
    """As before."""
    engine = LlamaEngine(files("mlp").settings(projector_path=None))
    refused = Asked(engine).no(ASKS, image("blue"))
    engine.close()

    assert "no projector" in refused.message
    assert Feature.IMAGES not in engine._can


def test_a_marker_in_a_text_is_text(asked: Asked) -> None:
    """Nobody can move, hide or forge a picture by what they write."""
    (alone,) = asked.blocks(image("blue"))
    (block,) = asked.blocks(TextPart("<__media__> <media-0> <image>"), image("blue"))

    assert block.start > alone.start
    assert asked.usage(asked.say(TextPart("<__media__>"))).prompt_tokens > len("<__media__>") // 2


def test_turns_with_pictures_are_left_out_where_asked(asked: Asked) -> None:
    """The oldest go, with what they show; the last is read."""
    turns = [Message(role="user", content=[TextPart("x" * 90), image("blue")]) for _ in range(6)]
    kept = asked.begin(asked.task(*turns, Message(role="user", content=[image("red")]), truncate="oldest"))
    asked.run()

    assert asked.usage(kept).prompt_tokens < 512


@pytest.mark.parametrize("kind", ["mlp", "qwen2vl_merger"])
def test_pictures_survive_on_disk(files: Callable[[str], Files], kind: str, tmp_path: Path) -> None:
    """The next life of the engine finds them; those of private calls were never written."""
    settings = files(kind).settings(keeping=Keeping(folder=str(tmp_path), disk_bytes=2**24))
    words = TextPart("a sentence that is long enough to be worth keeping it on a disk")
    engine = LlamaEngine(settings)
    asked = Asked(engine)
    public = asked.say(words, image("blue"))
    private = asked.say(image("red"), words, private=True)
    engine.close()

    engine = LlamaEngine(settings)
    again = Asked(engine)
    found, lost = again.say(words, image("blue")), again.say(image("red"), words)
    engine.close()

    assert again.usage(found).cached_tokens == again.usage(found).prompt_tokens - 1
    assert again.scores(found) == pytest.approx(asked.scores(public), abs=SAME)
    assert again.usage(lost).cached_tokens < 32
    assert again.scores(lost) == pytest.approx(asked.scores(private), abs=SAME)


@pytest.mark.parametrize("asked", ["ultravox"], indirect=True)
def test_sound_is_heard(asked: Asked) -> None:
    """Another tone, another answer; the same is found; pictures are refused by name."""
    assert Feature.AUDIO in asked.engine.opened().can
    low, high, again = (asked.say(ASKS, sound(pitch)) for pitch in (300, 900, 300))

    assert asked.scores(low) != pytest.approx(asked.scores(high), abs=OTHER)
    assert asked.scores(low) == pytest.approx(asked.scores(again), abs=SAME)
    assert asked.usage(again).cached_tokens == asked.usage(again).prompt_tokens - 1
    assert asked.usage(low).prompt_tokens > tiny_projector.SOUND_TOKENS
    assert "takes sound, not images" in asked.no(image("blue")).message


def test_nothing_of_a_text_is_logged(asked: Asked, capfd: pytest.CaptureFixture[str]) -> None:
    """The library would write every prompt with a picture to standard error, where logs go."""
    asked.say(TextPart("my secret diary"), image("blue"))

    assert "secret" not in "".join(capfd.readouterr())


@every_kind
@pytest.mark.parametrize("size", [(2, 2), (2, 390), (390, 2), (1000, 7), (33, 31)])
def test_odd_shapes_are_read(asked: Asked, size: tuple[int, int]) -> None:
    """Whatever is let through does not end the process."""
    assert asked.usage(asked.say(image("blue", size))).completion_tokens > 0


@pytest.mark.parametrize("kind", ["gemma3", "jamba"])
@pytest.mark.parametrize("after", ["", " and some words behind it"])
def test_models_of_other_memories_see_too(
    files: Callable[[str], Files], kind: str, after: str, tmp_path: Path
) -> None:
    """Sliding windows and recurrent layers: what is found says what is computed anew."""
    model = tiny_kinds.write(tmp_path, kind)
    settings = files("gemma3").settings(path=str(model), context=400, parallel=2)
    parts: list[Part] = [ASKS, image("blue"), TextPart(after)]
    engine = LlamaEngine(settings)
    asked = Asked(engine)
    cold, warm, other = asked.say(*parts), asked.say(*parts), asked.say(ASKS, image("red"))
    engine.close()

    assert asked.usage(warm).cached_tokens > 0
    assert asked.scores(warm) == pytest.approx(asked.scores(cold), abs=SAME)
    assert asked.scores(other) != pytest.approx(asked.scores(cold), abs=OTHER)


@pytest.mark.model
def test_a_real_model_sees(model_settings: LlamaSettings, tmp_path: Path) -> None:
    """The starter model with a random projector: other pictures, other words; text alone is as before."""
    projector = tiny_projector.write(tmp_path / "mmproj.gguf", width=576)
    engine = LlamaEngine(model_settings)
    blind = Asked(engine)
    plain = blind.scores(blind.say(ASKS))
    engine.close()

    engine = LlamaEngine(msgspec.structs.replace(model_settings, projector_path=str(projector)))
    asked = Asked(engine)
    text, blue, red, again = (
        asked.say(ASKS, *pictures) for pictures in ([], [image("blue")], [image("red")], [image("blue")])
    )
    engine.close()

    assert asked.scores(text) == pytest.approx(plain, abs=SAME)
    assert asked.scores(blue) != pytest.approx(asked.scores(red), abs=OTHER)
    assert asked.usage(blue).prompt_tokens == asked.usage(text).prompt_tokens + 16
    assert asked.usage(again).cached_tokens == asked.usage(again).prompt_tokens - 1
