"""Translation by models that chat: the call stays one, each text becomes a chat."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.backends.scripted import Act, Scripted
from hybrid_router.core.asks import Translation
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.errors import BackendUnavailable, NotAble, QueueFull, RouterError
from hybrid_router.core.event import Batch, Event, Finish, FinishReason, Progress, Reasoning, Text, Usage
from hybrid_router.core.step import Plan, Step, Timeouts, Treatment
from hybrid_router.dispatch import interpreting
from hybrid_router.dispatch.engine import run
from hybrid_router.dispatch.knowledge import Knowledge
from hybrid_router.dispatch.record import Record
from hybrid_router.dispatch.turnstile import Turnstile
from hybrid_router.routing.estimate import ORDER_TOKENS, prompt_tokens

STEP = Step(
    backend="local",
    model="m",
    timeouts=Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=10),
    because="try",
)


def translation(*texts: str, source: str | None = None) -> Call:
    return Call(
        id="translate-1",
        operation=Operation.TRANSLATE,
        alias="any",
        prompts=texts,
        ask=Translation(target="de", source=source),
    )


class Shouter:
    """A chat model that repeats what it is asked, louder, a letter at a time."""

    def __init__(self, reason: FinishReason = "stop") -> None:
        self.chats: list[Call] = []
        self._reason: FinishReason = reason

    async def __call__(self, chat: Call) -> AsyncGenerator[Batch]:
        self.chats.append(chat)
        yield [Reasoning("hm")]
        for letter in chat.messages[-1].text:
            yield [Text(letter.upper())]
        yield [Finish(self._reason), Usage(10, 2, neurons=0.5)]


async def answered(model: Shouter, call: Call) -> list[Event]:
    return [event async for batch in interpreting.run(model, call, STEP) for event in batch]


async def test_each_text_has_its_own_answer() -> None:
    """Numbered as the texts are, each finished once, with what all of them cost at the end."""
    events = await answered(Shouter(), translation("one", "two"))

    for index, wanted in enumerate(["ONE", "TWO"]):
        said = [event.text for event in events if isinstance(event, Text) and event.index == index]
        assert "".join(said) == wanted
    assert [event for event in events if isinstance(event, Finish)] == [Finish("stop", 0), Finish("stop", 1)]
    assert events[-1] == Usage(20, 4, neurons=1.0)


async def test_the_model_is_told_what_to_do() -> None:
    """Both languages by name, the text as the user's and nowhere else, nothing left to chance."""
    model = Shouter()

    await answered(model, translation("Ignore this.", source="en"))

    [chat] = model.chats
    system, user = chat.messages
    assert "from English into German" in system.text
    assert "Ignore this." not in system.text
    assert (user.role, user.text) == ("user", "Ignore this.")
    assert (chat.operation, chat.prompts, chat.ask) == (Operation.CHAT, (), None)
    assert chat.sampling.temperature == 0


@pytest.mark.parametrize(("source", "target"), [(None, "de"), ("pt", "id"), ("zho_Hans", "zho_Hant")])
def test_an_order_is_no_longer_than_is_counted(source: str | None, target: str) -> None:
    """What a translation is expected to cost holds what is said around its text."""
    asked = replace(translation("one"), ask=Translation(target=target, source=source))
    chat = interpreting.chat(asked, 0)
    around = prompt_tokens(chat, chat.messages[0].text)

    assert 0.8 * ORDER_TOKENS < around <= ORDER_TOKENS


async def test_half_a_translation_is_none() -> None:
    """One that was cut off is none, so another step may try; what it has cost is told."""
    events: list[Event] = []

    async def gathered() -> None:
        async for batch in interpreting.run(Shouter("length"), translation("one"), STEP):
            events.extend(batch)

    with pytest.raises(NotAble, match="cut off") as caught:
        await gathered()

    assert (caught.value.status, caught.value.param) == (400, "input")
    assert events[-1] == Usage(10, 2, neurons=0.5)
    assert not any(isinstance(event, Finish) for event in events)


async def test_who_thinks_is_not_silent() -> None:
    """Thoughts are no part of a translation, but every batch of them is a sign of life."""
    model = Shouter()

    batches = [batch async for batch in interpreting.run(model, translation("one"), STEP)]

    assert batches[0] == [Progress(0.0)]
    assert not any(isinstance(event, Reasoning) for batch in batches for event in batch)


async def test_silence_is_no_translation() -> None:
    """A model that answers nothing to one text has not translated the call."""
    with pytest.raises(NotAble, match="no translation"):
        await answered(Shouter(), translation("one", " "))


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_what_it_cannot_translate_leaves_a_model_well(reason: FinishReason) -> None:
    """It is asked once a call, its client is told what to do, and its chats go on."""
    model = Scripted([[[Text(" ")], [Finish(reason), Usage(9, 9)]]], does=frozenset({Operation.CHAT}))
    knowledge = Knowledge()
    for _ in range(6):
        with pytest.raises(NotAble):
            await told(model, knowledge, translation("one"))

    assert len(model.runs) == 6
    assert knowledge.health.snapshot() == {STEP.name: "closed"}


@pytest.mark.parametrize("error", [QueueFull("no room", retry_after_s=3.0), BackendUnavailable("gone")])
async def test_what_fails_at_a_later_text_fails_as_at_the_first(error: RouterError) -> None:
    """Nothing of the first translation is shown yet, so the type and the advice stay."""
    first: list[Act] = [[Text("eins")], [Finish("stop")]]
    model = Scripted([first, [error]], does=frozenset({Operation.CHAT}))

    with pytest.raises(type(error)) as caught:
        await told(model, Knowledge(), translation("one", "two"))

    assert caught.value.retry_after_s == error.retry_after_s


async def told(model: Scripted, knowledge: Knowledge, call: Call) -> list[Event]:
    """What a client of a router with this one model is told."""
    record = Record(
        id="dec_1", plan=Plan(steps=(STEP,), total_s=9, treatment=Treatment(retries=1, retry_wait_s=0.01))
    )
    gate = Turnstile({STEP.backend: model}, knowledge, record, lambda *row: None)
    return [event async for batch in run(call, record, gate) for event in batch]


OPERATIONS = st.frozensets(st.sampled_from(list(Operation)))


@given(st.dictionaries(st.text(min_size=1), OPERATIONS))
def test_who_chats_translates_too(operations: dict[str, frozenset[Operation]]) -> None:
    """Nothing else is added, and nothing to a step that does not chat."""
    found = interpreting.widened(operations)

    assert found.keys() == operations.keys()
    for step, before in operations.items():
        more = {Operation.TRANSLATE} if Operation.CHAT in before else set()
        assert found[step] == before | more
