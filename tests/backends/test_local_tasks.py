"""What the local backend asks of an engine, and what it says of its models before one is loaded."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import structs

from hybrid_router.backends.local import Local, LocalModel, named, task_of
from hybrid_router.core.asks import Transcription
from hybrid_router.core.call import Adapter, Call, Feature, Message, Operation, Sampling
from hybrid_router.core.errors import (
    BackendError,
    Benched,
    BrokenByCall,
    CallRefused,
    ContextOverflow,
    NotAble,
    PrefillRefused,
    StreamBroken,
)
from hybrid_router.core.step import Step, Timeouts, Treatment
from hybrid_router.core.upload import Upload
from hybrid_router.dispatch import retry
from hybrid_router.engines.settings import AdapterFile, LlamaSettings
from hybrid_router.engines.task import Opened, Refused, Task
from hybrid_router.workers.life import Resident
from hybrid_router.workers.worker import Worker

WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
STEP = Step(backend="local", model="m", timeouts=WAITS, because="", private=True)
SETTINGS = LlamaSettings(path="m.gguf", context=None, parallel=None, threads=1, prefill_chunk=64)
EVERYTHING = Call(
    id="c",
    operation=Operation.CHAT,
    alias="fast",
    messages=(Message(role="user", content="hi"),),
    prompts=("a", (1, 2)),
    sampling=Sampling(typical_p=0.5, dry_sequence_breakers=("\n",), ignore_eos=True, logit_bias={3: 1.0}),
    n=3,
    written="so",
    principal="alice",
    tools=({"type": "function"},),
    tool_choice="required",
    parallel_tool_calls=False,
    response_format={"type": "regex", "regex": "a"},
    top_logprobs=4,
    echo=True,
    suffix="end",
    query="what",
    truncate="oldest",
    reasoning_effort="low",
    reasoning_tokens=7,
    template_values={"enable_thinking": True},
    adapters=(Adapter("polite", 0.5),),
    goes_on=True,
    ask=Transcription(language="de"),
    uploads=(Upload(fd=7, size_bytes=3, name="speech.mp3"),),
)


def test_a_task_says_all_that_a_call_says() -> None:
    """Every field that both have is the same, over the pipe too, and whether it may be kept comes along."""
    task = task_of(9, EVERYTHING, STEP)
    read = msgspec.msgpack.decode(msgspec.msgpack.encode(task), type=Task)

    shared = (set(Task.__struct_fields__) & set(Call.__struct_fields__)) - {"id"}
    assert shared | {"id", "private"} == set(Task.__struct_fields__)
    assert {name: getattr(read, name) for name in shared} == {
        name: getattr(EVERYTHING, name) for name in shared
    }
    assert (read.id, read.private) == (9, True)


def test_no_field_of_a_task_is_left_at_its_default() -> None:
    """So that the promise above is about every field."""
    blank = Task(id=0, operation=Operation.COMPLETE)
    task = task_of(9, EVERYTHING, STEP)

    same = [name for name in Task.__struct_fields__ if getattr(task, name) == getattr(blank, name)]
    assert same == []


def local(**changed: Any) -> tuple[Local, Worker]:
    """A backend with one model that was never loaded."""
    worker = Worker(structs.replace(SETTINGS, **changed))
    return Local({"m": LocalModel(worker, 1)}), worker


@pytest.mark.parametrize(
    ("purpose", "operations"),
    [
        ("generate", {Operation.CHAT, Operation.COMPLETE}),
        ("embed", {Operation.EMBED}),
        ("rerank", {Operation.RERANK}),
    ],
)
def test_a_model_is_asked_what_it_is_for(purpose: str, operations: set[Operation]) -> None:
    """What router.yaml says of it, loaded or not."""
    assert local(purpose=purpose)[0].operations("m") == operations


def test_a_model_that_is_not_loaded_is_hoped_to_do_what_most_can() -> None:
    """Pictures and sound only with a projector, adapters only where some are, nothing of an embedder."""
    usual = {Feature.TOOLS, Feature.SCHEMA, Feature.GRAMMAR, Feature.LOGPROBS, Feature.INFILL}
    usual |= {Feature.PREFILL}

    assert local()[0].features("m") == usual
    assert local(projector_path="p.gguf")[0].features("m") == usual | {Feature.IMAGES, Feature.AUDIO}
    assert local(adapters=(AdapterFile("polite", "a.gguf"),))[0].features("m") == usual | {Feature.ADAPTERS}
    assert local(purpose="embed")[0].features("m") == frozenset()


def test_a_resident_model_has_the_last_word() -> None:
    """What it can is known then, and that alone counts."""
    backend, worker = local()
    opened = Opened(
        description="m",
        context=64,
        parallel=1,
        has_template=True,
        vocabulary_count=9,
        can=frozenset({Feature.LOGPROBS}),
    )
    worker.state = Resident(opened, 0.0)

    assert backend.features("m") == {Feature.LOGPROBS}


@pytest.mark.parametrize(
    ("refused", "kind"),
    [
        (Refused(id=1, code="unsupported_parameter", message="no", by_call=True), NotAble),
        (Refused(id=1, code="context_length_exceeded", message="no", by_call=True), ContextOverflow),
        (Refused(id=1, code="prefill_refused", message="no"), PrefillRefused),
        (Refused(id=1, code="invalid_request_error", message="no", by_call=True), CallRefused),
        (Refused(id=1, code="template_failed", message="no"), BackendError),
    ],
)
def test_a_refusal_says_whether_the_next_step_may_try(refused: Refused, kind: type[Exception]) -> None:
    """A model that lacks something says nothing of others; a call that is wrong is so everywhere."""
    assert type(named(refused, STEP, started=False)) is kind


def test_a_refusal_in_the_middle_says_whose_fault_it_is() -> None:
    """A file that cannot be read to its end is the call's fault still; anything else is a broken stream."""
    mistake = named(
        Refused(id=1, code="invalid_request_error", message="damaged", by_call=True, param="input"),
        STEP,
        started=True,
    )
    broken = named(Refused(id=1, code="engine_failed", message="no"), STEP, started=True)

    assert isinstance(mistake, BrokenByCall)
    assert isinstance(mistake.refusal, CallRefused)
    assert (mistake.status, mistake.code, mistake.param) == (400, "invalid_request_error", "input")
    assert (type(broken), broken.code) == (StreamBroken, "engine_failed")


def test_a_refusal_points_at_the_field() -> None:
    """Where the engine knows which one is at fault."""
    for code in ("invalid_request_error", "context_length_exceeded", "unsupported_parameter"):
        error = named(
            Refused(id=1, code=code, message="no", by_call=True, param="prompt"), STEP, started=False
        )
        assert error.param == "prompt"


def test_a_model_that_is_not_able_is_told_as_the_calls_wish() -> None:
    """Where it was the only step, the client gets the 400 of a field that nobody here supports."""
    error = named(Refused(id=1, code="unsupported_parameter", message="suffix: no"), STEP, started=False)

    assert (error.status, error.code, error.message) == (400, "unsupported_parameter", "local/m: suffix: no")
    assert isinstance(error, BackendError)


@pytest.mark.parametrize(
    ("why", "told"),
    [
        ("/srv/models/m/m.gguf: no GGUF", "no GGUF"),
        ("/srv/models/m: config.json is missing", "config.json is missing"),
        ("no memory for /srv/models/m/m.gguf", "no memory for m.gguf"),
        (
            "/srv/models/m cannot be opened: see https://example.org//x",
            "m cannot be opened: see https://example.org//x",
        ),
    ],
)
async def test_a_model_that_is_given_up_is_not_tried_again(why: str, told: str) -> None:
    """Another try would say the same; clients are told why without learning where files are."""
    worker = Worker(structs.replace(SETTINGS, path="/srv/models/m/m.gguf"), unfit=lambda: why)
    backend = Local({"m": LocalModel(worker, 1)})
    worker.start(load=True)
    try:
        await worker.settled()

        assert backend.down("m") == told
        with pytest.raises(Benched) as caught:
            await anext(backend.run(EVERYTHING, STEP))
        assert caught.value.message == f"local/m: {told}"
        assert retry.pause_s(caught.value, 0, Treatment(retries=3), 60.0, 0.5) is None
    finally:
        await backend.close()
