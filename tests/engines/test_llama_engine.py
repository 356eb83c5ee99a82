"""The decode loop on the real starter model."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from hybrid_router.core.call import Message, Operation, Sampling
from hybrid_router.core.event import Event, Finish, Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.llama.written import tokens_of
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import (
    Answer,
    EngineFailed,
    Output,
    Refused,
    Task,
)

pytestmark = pytest.mark.model
GREEDY = Sampling(temperature=0, max_tokens=12)


@pytest.fixture(scope="module")
def opened_engine(model_settings: LlamaSettings) -> Iterator[LlamaEngine]:
    opened = LlamaEngine(model_settings)
    yield opened
    opened.close()


@pytest.fixture
def engine(opened_engine: LlamaEngine) -> Iterator[LlamaEngine]:
    """The engine with nothing in it, whatever the test before left."""
    yield opened_engine
    for task_id in list(opened_engine._ongoing):
        opened_engine.cancel(task_id)


def chat(task_id: int, text: str, sampling: Sampling = GREEDY, n: int = 1) -> Task:
    return Task(
        id=task_id,
        operation=Operation.CHAT,
        messages=(Message(role="user", content=text),),
        sampling=sampling,
        n=n,
    )


def complete(task_id: int, *prompts: str | tuple[int, ...], sampling: Sampling = GREEDY, n: int = 1) -> Task:
    return Task(id=task_id, operation=Operation.COMPLETE, prompts=prompts, sampling=sampling, n=n)


def run(engine: LlamaEngine, *tasks: Task) -> dict[int, list[Event]]:
    """All tasks at once, to their ends; events by task."""
    events: dict[int, list[Event]] = {task.id: [] for task in tasks}
    answers = [answer for task in tasks for answer in engine.begin(task)]
    while answers or engine.busy:
        for answer in answers:
            assert isinstance(answer, Output), answer
            events[answer.id] += answer.events
            assert answer.last == isinstance(answer.events[-1], Usage)
        answers = engine.step() if engine.busy else []
    return events


def text_of(events: list[Event], index: int = 0) -> str:
    return "".join(event.text for event in events if isinstance(event, Text) and event.index == index)


def refusal(answers: list[Answer]) -> Refused:
    (refused,) = answers
    assert isinstance(refused, Refused)
    return refused


def test_an_answer_is_text_one_finish_and_usage(engine: LlamaEngine) -> None:
    """In this order, with the tokenizer's own counts."""
    events = run(engine, chat(1, "Say hello."))[1]

    *texts, finish, usage = events
    assert texts
    assert all(isinstance(event, Text) for event in texts)
    assert isinstance(finish, Finish)
    assert isinstance(usage, Usage)
    assert 0 < usage.completion_tokens <= 12
    assert usage.prompt_tokens > 3  # the words and the markup around them


# Continuations the model is sure of.  The arithmetic of a batch depends on its size, which may flip a
# near-tie between two tokens; here there is none within the first tokens.
SURE = ("1, 2, 3, 4, 5, 6, 7,", "Monday, Tuesday, Wednesday,", "a b c d e f g", "January, February, March,")


def test_calls_decoded_together_read_as_if_alone(engine: LlamaEngine) -> None:
    """Four calls on two slots: each gets the text it gets by itself."""
    alone = [text_of(run(engine, complete(1, prompt))[1]) for prompt in SURE]

    together = run(engine, *(complete(i, prompt) for i, prompt in enumerate(SURE)))

    assert [text_of(together[i]) for i in range(4)] == alone
    assert len(set(alone)) == 4


def test_two_sequences_share_a_step(engine: LlamaEngine) -> None:
    """Both calls show text before either ends."""
    engine.begin(chat(1, "Count to ten."))
    engine.begin(chat(2, "Count to ten."))
    shown_first: set[int] = set()
    while engine.busy:
        answers = engine.step()
        if not any(isinstance(answer, Output) and answer.last for answer in answers):
            shown_first |= {answer.id for answer in answers}
        elif shown_first != {1, 2}:
            pytest.fail("one call ended before the other had shown anything")


def test_max_tokens_is_exact(engine: LlamaEngine) -> None:
    """`length` after exactly that many tokens, no more and no fewer."""
    events = run(engine, complete(1, "The quick brown", sampling=Sampling(temperature=0, max_tokens=5)))[1]

    assert events[-2] == Finish("length")
    assert isinstance(events[-1], Usage)
    assert events[-1].completion_tokens == 5


def test_a_stop_string_across_tokens_ends_the_text_before_it(engine: LlamaEngine) -> None:
    """Whatever the token borders, nothing of the stop string is shown."""
    whole = text_of(run(engine, chat(1, "Count from one to nine in words."))[1])
    stop = whole[5:12]
    assert len(stop) == 7

    events = run(
        engine, chat(1, "Count from one to nine in words.", msgspec.structs.replace(GREEDY, stop=(stop,)))
    )[1]

    assert text_of(events) == whole[: whole.find(stop)]
    assert events[-2] == Finish("stop")


def test_a_seed_repeats_and_choices_differ(engine: LlamaEngine) -> None:
    """Same seed, same text; the choices of one call have seeds of their own.

    A prompt that is found computed has numbers from another batch than one that is not: both find it here.
    """
    lively = Sampling(temperature=1.5, seed=42, max_tokens=12)
    run(engine, chat(1, "Tell me something.", lively, n=2))
    first = run(engine, chat(1, "Tell me something.", lively, n=2))[1]
    again = run(engine, chat(1, "Tell me something.", lively, n=2))[1]

    assert [text_of(first, 0), text_of(first, 1)] == [text_of(again, 0), text_of(again, 1)]
    assert text_of(first, 0) != text_of(first, 1)
    assert sum(isinstance(event, Finish) for event in first) == 2


def test_a_forbidden_token_is_never_chosen(engine: LlamaEngine) -> None:
    """logit_bias -100 removes, +100 forces."""
    (favourite,) = engine._weights.tokenize(" blue")
    forced = Sampling(temperature=0, max_tokens=3, logit_bias={favourite: 100.0})
    banned = Sampling(temperature=0, max_tokens=12, logit_bias={favourite: -100.0})

    assert text_of(run(engine, complete(1, "The sky is", sampling=forced))[1]) == " blue blue blue"
    assert " blue" not in text_of(run(engine, complete(1, "The sky is", sampling=banned))[1])


def test_a_penalty_changes_a_repetitive_answer(engine: LlamaEngine) -> None:
    """Frequency penalties count what was written."""
    prompt = "one one one one one one one one one"
    plain = text_of(run(engine, complete(1, prompt))[1])
    penalised = msgspec.structs.replace(GREEDY, frequency_penalty=2.0)

    assert text_of(run(engine, complete(1, prompt, sampling=penalised))[1]) != plain


def test_token_prompts_and_several_prompts(engine: LlamaEngine) -> None:
    """Token ids answer as their text does; prompts are answered in order, choices indexed."""
    ids = tuple(engine._weights.tokenize("The capital of France is"))
    events = run(engine, complete(1, "The capital of France is", ids))[1]

    assert text_of(events, 0) == text_of(events, 1) != ""
    assert isinstance(events[-1], Usage)
    assert events[-1].prompt_tokens == 2 * len(ids)


def going_on(task: Task, written: str) -> Task:
    return msgspec.structs.replace(task, written=written)


def usage_of(events: list[Event]) -> Usage:
    usage = events[-1]
    assert isinstance(usage, Usage)
    return usage


@pytest.mark.parametrize("prompt", SURE[::2])
def test_an_answer_goes_on_where_it_broke_off(engine: LlamaEngine, prompt: str) -> None:
    """Cut behind any of its tokens, text and rest are the whole answer, and so are its token counts."""
    sampling = Sampling(temperature=0, max_tokens=8)
    whole = run(engine, complete(1, prompt, sampling=sampling))[1]
    text, borders = text_of(whole), 0
    for event in whole[:-2]:
        assert isinstance(event, Text)
        borders += len(event.text)
        task = going_on(complete(1, prompt, sampling=sampling), text[:borders])
        rest = run(engine, task)[1]

        assert text[:borders] + text_of(rest) == text
        assert rest[-2] == Finish("length")
        assert usage_of(rest).prompt_tokens == usage_of(whole).prompt_tokens
        assert usage_of(rest).completion_tokens == 8


def test_token_prompts_and_chats_go_on_too(engine: LlamaEngine) -> None:
    """The prompt may be token ids; a chat's written text goes behind the template's last words."""
    ids = tuple(engine._weights.tokenize(SURE[0]))
    by_ids = going_on(complete(1, ids), " 8, 9,")
    by_text = going_on(complete(1, SURE[0]), " 8, 9,")
    asked = chat(1, "Count to twelve in digits, with commas.")
    begun = going_on(asked, "1, 2, 3,")

    assert text_of(run(engine, by_ids)[1]) == text_of(run(engine, by_text)[1])
    assert text_of(run(engine, begun)[1]).startswith(" 4,")
    assert usage_of(run(engine, begun)[1]).prompt_tokens == usage_of(run(engine, asked)[1]).prompt_tokens


def test_a_message_begun_by_the_client_goes_on(engine: LlamaEngine) -> None:
    """The answer is what follows; what the client wrote counts as prompt, also where that broke off."""
    asked, begun = chat(1, "Count to twelve in digits, with commas."), "1, 2, 3,"
    messages = (*asked.messages, Message(role="assistant", content=begun))
    task = msgspec.structs.replace(asked, messages=messages, goes_on=True)
    answers = [run(engine, one)[1] for one in (task, going_on(task, " 4, 5,"))]
    prompt_count = usage_of(run(engine, asked)[1]).prompt_tokens + len(tokens_of(begun, engine._weights))

    assert [text_of(answer)[:3] for answer in answers] == [" 4,", " 6,"]
    assert [usage_of(answer).prompt_tokens for answer in answers] == [prompt_count] * 2
    assert usage_of(answers[0]).completion_tokens == 12


def test_a_beginning_as_long_as_the_answer_may_be_ends_it(engine: LlamaEngine) -> None:
    """Nothing is computed: the client has had all it asked for."""
    task = going_on(complete(1, SURE[0], sampling=Sampling(max_tokens=4)), " 8, 9, 10,")

    (answer,) = engine.begin(task)

    assert isinstance(answer, Output)
    assert answer.last
    assert answer.events[0] == Finish("length")
    assert usage_of(answer.events).completion_tokens > 4
    assert usage_of(answer.events).decode_s is None
    assert not engine.busy


def test_a_beginning_that_leaves_no_room_is_refused_by_name(engine: LlamaEngine) -> None:
    """A step with a larger context may go on with it."""
    task = msgspec.structs.replace(complete(1, "a"), sampling=Sampling(), written=" word" * 600)

    assert refusal(engine.begin(task)).code == "context_length_exceeded"


def test_a_stop_string_may_begin_before_the_seam(engine: LlamaEngine) -> None:
    """What the client has of it cannot be taken back, but nothing more comes."""
    sampling = Sampling(temperature=0, max_tokens=20, stop=(", 11",))
    task = going_on(complete(1, SURE[0], sampling=sampling), " 8, 9, 10,")

    events = run(engine, task)[1]

    assert text_of(events) == ""
    assert events[0] == Finish("stop")


def test_penalties_count_what_is_written(engine: LlamaEngine) -> None:
    """Tokens of the beginning are held against those to come."""
    prompt, written = SURE[0], " 8, 9, 10, 11, 12, 13"
    sampling = Sampling(temperature=0, frequency_penalty=2.0, max_tokens=40)
    penalised = going_on(complete(1, prompt, sampling=sampling), written)
    fresh = complete(1, prompt + written, sampling=sampling)

    assert text_of(run(engine, fresh)[1]).startswith(",")
    assert not text_of(run(engine, penalised)[1]).startswith(",")


def test_written_markup_is_words(engine: LlamaEngine) -> None:
    """Text that looks like the end of a turn is not one: it goes on as it reads."""
    written = "The tag <|im_end|> closes"
    tokens = tokens_of(written, engine._weights)

    assert b"".join(map(engine._weights.piece, tokens)) == written.encode()
    assert not any(engine._weights.ends(token) for token in tokens)


@pytest.mark.parametrize("written", ["One.\n\n", "A\n", "x\n\n\n", "def f():\n    ", "Grüße 😀", " ", "\n"])
def test_a_beginning_is_read_as_the_model_writes_it(engine: LlamaEngine, written: str) -> None:
    """Tokens stand for its very bytes, and are those that it has within a longer text."""
    tokens = tokens_of(written, engine._weights)

    assert b"".join(map(engine._weights.piece, tokens)) == written.encode()
    if written.endswith("\n"):
        longer = engine._weights.tokenize(written + "Two", add_special=False)
        assert longer[: len(tokens)] == tokens


def test_the_waits_of_a_call_are_told(engine: LlamaEngine) -> None:
    """For a place, for its prompt, for its answer: in all no more than it took."""
    started_s = time.monotonic()
    events = run(engine, *(complete(i, SURE[0]) for i in range(3)))
    took_s = time.monotonic() - started_s

    for usage in map(usage_of, events.values()):
        assert usage.queue_s is not None
        assert usage.prefill_s is not None
        assert usage.decode_s is not None
        assert min(usage.queue_s, usage.prefill_s, usage.decode_s) >= 0
        assert usage.queue_s + usage.prefill_s + usage.decode_s <= took_s
    first, last = usage_of(events[0]), usage_of(events[2])
    assert first.queue_s is not None
    assert first.decode_s is not None
    assert last.queue_s is not None
    assert last.queue_s >= first.queue_s + first.decode_s  # there are two places


def test_a_cancelled_call_frees_its_slot_within_one_step(engine: LlamaEngine) -> None:
    """And its neighbour's text is what it would have been."""
    alone = text_of(run(engine, complete(1, SURE[0]))[1])
    engine.begin(complete(1, SURE[0]))
    engine.begin(chat(2, "Tell a long story.", Sampling(temperature=0, max_tokens=200)))
    engine.begin(chat(3, "Never started."))
    shown = ""
    for answer in engine.step():
        shown += text_of(answer.events) if isinstance(answer, Output) and answer.id == 1 else ""
    engine.cancel(2)
    engine.cancel(3)
    assert engine._slots.free_count == 1

    while engine.busy:
        for answer in engine.step():
            assert isinstance(answer, Output)
            assert answer.id == 1
            shown += text_of(answer.events)

    assert shown == alone
    assert engine._slots.free_count == 2
    assert engine._ongoing == {}


def test_a_long_prompt_is_computed_in_chunks(engine: LlamaEngine) -> None:
    """So a running answer goes on between them."""
    engine.begin(chat(1, "Count to one hundred.", Sampling(temperature=0, max_tokens=40)))
    engine.step()
    engine.begin(complete(2, "word " * 300, sampling=Sampling(temperature=0, max_tokens=1)))
    steps_with_neighbour = 0
    done = False
    while not done:
        answers = engine.step()
        done = any(answer.id == 2 for answer in answers)
        steps_with_neighbour += any(answer.id == 1 for answer in answers)
    engine.cancel(1)

    assert steps_with_neighbour >= 300 // 64


@pytest.mark.parametrize(
    ("task", "code"),
    [
        (complete(1, "word " * 600), "context_length_exceeded"),
        (complete(1, (1, 2, 10**6)), "invalid_request_error"),
        (complete(1, ""), "invalid_request_error"),
        (chat(1, "x", Sampling(logit_bias={10**7: 1.0})), "invalid_request_error"),
    ],
    ids=["overflow", "unknown token", "empty", "unknown bias"],
)
def test_an_impossible_call_is_refused_by_name(engine: LlamaEngine, task: Task, code: str) -> None:
    """Before anything is computed, and leaving nothing behind."""
    assert refusal(engine.begin(task)).code == code
    assert not engine.busy


def test_special_tokens_are_not_text(engine: LlamaEngine) -> None:
    """The chat markup never reaches the client."""
    events = run(engine, chat(1, "Say hello.", Sampling(temperature=0, max_tokens=60)))[1]

    assert "<|im_" not in text_of(events)


def corrupt(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kept", [0, 3, 4, 4096, 100_000])
def test_a_cut_file_is_named(
    tmp_path: Path, model_path: Path, model_settings: LlamaSettings, kept: int
) -> None:
    """Empty or truncated: an error with the file's name, not a crash."""
    with model_path.open("rb") as file:
        path = corrupt(tmp_path, file.read(kept))

    with pytest.raises(EngineFailed, match=r"bad\.gguf"):
        LlamaEngine(msgspec.structs.replace(model_settings, path=str(path)))


def test_a_missing_file_is_named(tmp_path: Path, model_settings: LlamaSettings) -> None:
    """With the system's own reason."""
    with pytest.raises(EngineFailed, match=r"gone\.gguf: cannot be read \(No such file"):
        LlamaEngine(msgspec.structs.replace(model_settings, path=str(tmp_path / "gone.gguf")))


def test_a_context_beyond_the_models_training_is_refused(model_settings: LlamaSettings) -> None:
    """It would load, fill the memory and answer nonsense."""
    with pytest.raises(EngineFailed, match="trained for 8192 tokens"):
        LlamaEngine(msgspec.structs.replace(model_settings, context=9000))
