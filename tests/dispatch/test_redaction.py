"""Redaction for clouds: nothing that is to stay leaves, and the answer reads as if it had."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from hybrid_router.backends.scripted import Scripted, answer
from hybrid_router.backends.workers_ai.encode import Model, requests
from hybrid_router.core.asks import Painting, Speech, Translation
from hybrid_router.core.call import (
    Adapter,
    Call,
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    RefusalPart,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.core.errors import BackendBusy, PrefillRefused, RedactionImpossible
from hybrid_router.core.event import (
    Batch,
    Event,
    Finish,
    PromptScores,
    Reasoning,
    Text,
    TokenScore,
    ToolFragment,
    Usage,
)
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.core.upload import Upload
from hybrid_router.dispatch import redaction
from hybrid_router.dispatch.redaction import redacted
from hybrid_router.dispatch.restoring import Restorer

JANE, JOE = "jane.roe@example.com", "joe@example.org"
PHONE, CARD, IBAN = "+49 30 12345678", "4111 1111 1111 1111", "DE89370400440532013000"
KEY = "sk-proj-aB3dE5gH7jK9mN2pQ4rS6tU8"
PASSWORD = "corr3ct-h0rse"
ARMOUR = "-----BEGIN PRIVATE KEY-----\naB3dE5gH7jK9\n-----END PRIVATE KEY-----"
ALL = ("secrets", "pii")
STEP = Step(backend="cf", model="m", because="", timeouts=Timeouts(
    connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1,
))  # fmt: skip


def saying(*said: str, **fields: Any) -> Call:
    """A chat of a user's messages."""
    messages = tuple(Message(role="user", content=text) for text in said)
    return replace(Call(id="x", operation=Operation.CHAT, alias="a", messages=messages), **fields)


def calling(arguments: str, name: str = "send") -> Call:
    """A chat whose assistant called a tool."""
    called = ToolCall(id="1", function=FunctionCall(name, arguments))
    return saying("x", messages=(Message(role="assistant", tool_calls=[called]),))


def arguments_of(call: Call) -> str:
    """What that tool was called with."""
    tool_calls = call.messages[0].tool_calls
    assert tool_calls
    return tool_calls[0].function.arguments


def leaving(call: Call) -> str:
    """All that a cloud would be sent, through both of its addresses, as text."""
    bodies = []
    for endpoint, classic in (("v1", False), ("v1", True), ("run", True)):
        model = Model(name="m", classic=classic)
        bodies += [one.body(stream=True) for one in requests(call, model, endpoint, 9)]  # type: ignore[arg-type]
    return b"\n".join(bodies).decode()


def shown(batches: Iterable[Batch]) -> dict[tuple[str, int, int], str]:
    """The answer's texts, each put together."""
    texts: dict[tuple[str, int, int], str] = {}
    for event in itertools.chain.from_iterable(batches):
        match event:
            case Text(text=text, index=index):
                place = "text", index, 0
            case Reasoning(text=text, index=index):
                place = "reasoning", index, 0
            case ToolFragment(position=position, arguments=text, index=index):
                place = "arguments", index, position
            case _:
                continue
        texts[place] = texts.get(place, "") + text
    return texts


def restored(restorer: Restorer, *batches: Batch) -> dict[tuple[str, int, int], str]:
    """The texts of a whole answer after restoring."""
    return shown([*(restorer.feed(batch) for batch in batches), restorer.end()])


def test_a_value_has_one_placeholder_wherever_it_stands() -> None:
    """So that a model can tell who is who."""
    call, _ = redacted(saying(f"{JANE} wrote to {JOE}.", f"Did {JOE} answer {JANE}? {PHONE}"), ALL)

    assert [message.text for message in call.messages] == [
        "<EMAIL_1> wrote to <EMAIL_2>.",
        "Did <EMAIL_2> answer <EMAIL_1>? <PHONE_1>",
    ]


def test_only_what_is_asked_for_is_redacted() -> None:
    """`redact: [emails]` lets numbers leave."""
    call, _ = redacted(saying(f"{JANE} {CARD}"), ["emails"])

    assert call.messages[0].text == f"<EMAIL_1> {CARD}"


def test_what_is_known_once_is_redacted_everywhere() -> None:
    """A password is told by its name; where it stands without one, it is the same password."""
    call, _ = redacted(saying(f"password: {PASSWORD}", f"Why does {PASSWORD} not work?x{PASSWORD}y"), ALL)

    assert PASSWORD not in leaving(call)
    assert call.messages[1].text == "Why does <TOKEN_1> not work?x<TOKEN_1>y"


def test_a_placeholder_is_none_that_the_text_holds_already() -> None:
    """What a client wrote itself comes back as it wrote it."""
    call, restorer = redacted(saying(f"<EMAIL_1> and EMAIL_2: {JANE}"), ALL)

    assert call.messages[0].text == "<EMAIL_1> and EMAIL_2: <EMAIL_3>"
    assert restored(restorer, [Text("<EMAIL_1> <EMAIL_3>")]) == {("text", 0, 0): f"<EMAIL_1> {JANE}"}


EVERYWHERE = [
    saying(f"hi {JANE}"),
    saying("x", messages=(Message(role="user", content=[TextPart("jane.roe@exam"), TextPart("ple.com")]),)),
    saying("x", messages=(Message(role="assistant", content=[RefusalPart(f"not to {JANE}")]),)),
    saying("x", messages=(Message(role="user", content="x", name=JANE),)),
    saying("x", messages=(Message(role="assistant", reasoning_content=JANE),)),
    saying("x", messages=(Message(role="tool", content=f'{{"to": "{JANE}"}}', tool_call_id=f"call_{JANE}"),)),
    saying("x", tools=({"type": "function", "function": {"name": "f", "description": JANE}},)),
    saying("x", tools=({"type": "function", "function": {"name": "f", "parameters": {"x": [{JANE: 1}]}}},)),
    saying("x", response_format={"type": "json_schema", "json_schema": {"name": "s", "enum": [JANE]}}),
    saying("x", sampling=Sampling(stop=(JANE,))),
    saying("x", extra={"metadata": {"who": JANE}}),
    saying("x", extra={"user": JANE}),
    saying("x", template_values={"persona": JANE}),
    saying("x", written=f"Dear {JANE}, "),
    saying("x", session=JANE),
    Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("ok", f"to {JANE}")),
    Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("ok",), suffix=f"Yours, {JANE}"),
    Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=("ok",), query=f"who is {JANE}?"),
    saying("x", sampling=Sampling(dry_sequence_breakers=(JANE,))),
    Call(id="x", operation=Operation.IMAGE, alias="a", prompts=("ok",), ask=Painting(negative=f"not {JANE}")),
    Call(id="x", operation=Operation.TRANSLATE, alias="a", prompts=(JANE,), ask=Translation(target="de")),
]


@pytest.mark.parametrize("call", EVERYWHERE)
def test_nothing_stays_in_anything_that_leaves(call: Call) -> None:
    """Parts, names, refusals, tools, forms, stop strings, fields, what is out already."""
    without, _ = redacted(call, ALL)

    assert JANE not in leaving(without)
    assert JANE not in repr(without)


def test_an_adapters_name_stays_a_name() -> None:
    """Under another one it would be another adapter, or none."""
    with pytest.raises(RedactionImpossible):
        redacted(saying("x", adapters=(Adapter(JANE),)), ALL)


def test_headers_stay() -> None:
    """They are for rules; no cloud is given them."""
    assert redacted(saying("x", headers={"x-who": JANE}), ALL)[0].headers == {}


def test_arguments_stay_json() -> None:
    """Values within are replaced, escapes, numbers and names of fields considered; the rest is as it was."""
    said = r'{"to": "jane.roe\u0040example.com", "card": 4111111111111111, "password": "PW 9x", "n": 1.5}'
    call, _ = redacted(calling(said.replace("PW", PASSWORD)), ALL)

    after = json.loads(arguments_of(call))
    assert after == {"to": "<EMAIL_1>", "card": "<CARD_1>", "password": "<TOKEN_1>", "n": 1.5}
    assert JANE not in leaving(call)


@pytest.mark.parametrize(
    "said",
    [
        f'{{"to": "{JANE}", "to": "x"}}',
        f'{{"to": "{JANE}", "cut of',
        f'["{JANE}"]',
        f'{{"a": {{"{JANE}": null}}}}',
    ],
)
def test_odd_arguments_are_searched_too(said: str) -> None:
    """A field that is there twice, JSON that broke off, values without a field."""
    call, _ = redacted(calling(said), ALL)

    assert JANE not in leaving(call)
    assert "<EMAIL_1>" in leaving(call)


def test_arguments_without_findings_are_left_as_they_are() -> None:
    """To the last space: clouds compare beginnings."""
    said = '{ "a":1,\n"b" : "<>" }'

    assert arguments_of(redacted(calling(said), ALL)[0]) == said


def deep(levels: int) -> Any:
    """A list in a list in a list …"""
    value: Any = "x"
    for _ in range(levels):
        value = [value]
    return value


IMPOSSIBLE = [
    saying("x", messages=(Message(role="user", content=[ImagePart({"url": "data:,"})]),)),
    Call(id="x", operation=Operation.COMPLETE, alias="a", prompts=((1, 2),)),
    saying("x " * (3 * 2**20)),
    saying("(030) 12 34 " * 10_000),
    saying(*(f"user{n}@example.com" for n in range(2_000))),
    saying("x", extra={"metadata": deep(5_000)}),
    saying("\ud800", f"\ud800 {JANE}"),
    saying(JANE, sampling=Sampling(stop=("@",))),
    saying(JANE, sampling=Sampling(stop=("_1",))),
    saying(JANE, sampling=Sampling(stop=("a<",))),
    saying("x", tools=({"type": "function", "function": {"name": KEY}},)),
    saying("x", response_format={"type": "json_schema", "json_schema": {"name": KEY}}),
    calling('{"n": 4111111111111111, "n": 1}'),
    calling("{}", name=KEY),
    calling(r'{"a": "\u0040'),
    Call(id="x", operation=Operation.TRANSCRIBE, alias="a", uploads=(Upload(fd=0, size_bytes=1),)),
    Call(id="x", operation=Operation.SPEAK, alias="a", prompts=("x",), ask=Speech(voice=JANE)),
]


@pytest.mark.parametrize("call", IMPOSSIBLE, ids=range(len(IMPOSSIBLE)))
def test_what_cannot_be_redacted_does_not_leave(call: Call) -> None:
    """Pictures, files, token ids, floods, depths, names that must be names, stop strings that would cut."""
    with pytest.raises(RedactionImpossible):
        redacted(call, ALL)


def test_what_a_search_still_finds_does_not_leave() -> None:
    """The redacted call is searched again: an address may have hidden a number."""
    with pytest.raises(RedactionImpossible, match="where it stands"):
        redacted(saying(f"{JANE}{PHONE}"), ALL)


@pytest.mark.parametrize("cut", [JANE[:-1], JANE[:10], JANE[:4]])
def test_an_answer_that_broke_off_within_a_value_is_not_gone_on_with(cut: str) -> None:
    """The first half of an address is not sent: the step may start anew."""
    with pytest.raises(PrefillRefused):
        redacted(saying(f"who? {JANE}", written=f"It is {cut}"), ALL)


BEGUN = Message(role="assistant", content="It is ")


@pytest.mark.parametrize("cut", [JANE[:-1], JANE[:4]])
def test_what_the_client_began_is_not_gone_on_with_there_either(cut: str) -> None:
    """Its last message is the beginning of the answer, and is checked as one; a whole address may stand."""
    begun = Message(role="assistant", content=f"It is {cut}")
    asked = saying("x", messages=(*saying(f"who? {JANE}").messages, begun), goes_on=True)
    whole = replace(asked, messages=(asked.messages[0], replace(begun, content=f"It is {JANE}")))

    with pytest.raises(PrefillRefused):
        redacted(asked, ALL)
    with pytest.raises(PrefillRefused):
        redacted(replace(asked, messages=(*asked.messages[:1], BEGUN), written=cut), ALL)
    assert redacted(whole, ALL)[0].messages[-1].text == "It is <EMAIL_1>"


def test_what_is_out_goes_on_with_the_same_placeholders() -> None:
    """The client has the value, the cloud its placeholder, whichever step wrote it."""
    call, restorer = redacted(saying(f"who? {JANE} or {JOE}", written=f"Not {JOE} but"), ALL)

    assert call.written == "Not <EMAIL_2> but"
    assert restored(restorer, [Text(" <EMAIL_1>.")]) == {("text", 0, 0): f" {JANE}."}


def test_every_kind_of_text_is_restored() -> None:
    """Text, reasoning and arguments, per choice and per tool call; usage and finish as they came."""
    _, restorer = redacted(saying(f"{JANE} {PHONE}"), ALL)
    usage = Usage(prompt_tokens=1, completion_tokens=2)
    events: Batch = [
        Reasoning("Who is <EMA"),
        Text("Ask <PHO", index=1),
        Reasoning("IL_1>?"),
        ToolFragment(0, '{"to":"<EMAIL', id="1", name="mail"),
        ToolFragment(1, '{"nr":"', id="2", name="call"),
        ToolFragment(1, "<PHONE_1"),
        ToolFragment(0, '_1>"}'),
        Finish("tool_calls"),
        Text("NE_1>", index=1),
        Finish("stop", index=1),
        usage,
    ]
    batches = [restorer.feed([event]) for event in events]

    assert shown(batches) == {
        ("reasoning", 0, 0): f"Who is {JANE}?",
        ("arguments", 0, 0): f'{{"to":"{JANE}"}}',
        ("arguments", 0, 1): '{"nr":"<PHONE_1',
        ("text", 1, 0): f"Ask {PHONE}",
    }
    flat = list(itertools.chain.from_iterable(batches))
    assert [event for event in flat if isinstance(event, Finish | Usage)] == [
        Finish("tool_calls"),
        Finish("stop", index=1),
        usage,
    ]
    assert [event.name for event in flat if isinstance(event, ToolFragment) and event.name] == [
        "mail",
        "call",
    ]
    assert restorer.end() == []


def test_what_is_put_into_json_is_escaped() -> None:
    """In arguments, and in text whose form is JSON; also where a cloud escapes the brackets."""
    call = saying(ARMOUR)
    _, plain = redacted(call, ALL)
    _, formed = redacted(replace(call, response_format={"type": "json_object"}), ALL)
    escaped = '{"k": "\\u003cPRIVATE_KEY_1\\u003E and <PRIVATE_KEY_1>"}'

    arguments = restored(plain, [ToolFragment(0, escaped)])[("arguments", 0, 0)]
    assert json.loads(arguments) == {"k": f"{ARMOUR} and {ARMOUR}"}
    signs: list[Batch] = [[Text(sign)] for sign in escaped]
    assert restored(formed, *signs)[("text", 0, 0)] == arguments
    assert restored(plain, [Text("<PRIVATE_KEY_1>")])[("text", 0, 0)] == ARMOUR


def test_no_more_is_held_back_than_may_be_a_placeholder() -> None:
    """And not longer than until that is clear."""
    _, restorer = redacted(saying(JANE), ALL)

    assert shown([restorer.feed([Text("a < b, <EM")])]) == {("text", 0, 0): "a < b, "}
    assert shown([restorer.feed([Text("AIL_2> <")])]) == {("text", 0, 0): "<EMAIL_2> "}
    assert shown([restorer.feed([Text("EMAIL_1")])]) == {}
    assert shown([restorer.feed([Finish("length")])]) == {("text", 0, 0): "<EMAIL_1"}


def test_what_is_put_back_is_not_looked_at_again() -> None:
    """A value that reads like a placeholder stays what it is."""
    restorer = Restorer({"EMAIL_1": "<EMAIL_2>", "EMAIL_2": "x"})

    assert restored(restorer, [Text("<EMAIL_1><EMAIL_2>")]) == {("text", 0, 0): "<EMAIL_2>x"}


def test_scores_are_dropped_where_something_was_put_back() -> None:
    """They are those of placeholders; an answer to a call in which nothing was found keeps its own."""
    scores = (TokenScore(b"<EMAIL_1>", -0.5),)
    said: Batch = [PromptScores(scores), Text("", scores=scores), Text("To <EMAIL_1>", scores=scores)]

    assert Restorer({"EMAIL_1": "a@example.org"}).feed(said) == [Text("To a@example.org")]
    assert Restorer({}).feed(said) == said


async def test_a_cloud_is_run_with_the_redacted_call() -> None:
    """And its answer restored, batch by batch, none of them empty."""
    cloud = Scripted([answer("Hi <EM", "AIL_", "1>!")])

    async with aclosing(redaction.run(cloud, saying(JANE), STEP, ALL)) as batches:
        got = [batch async for batch in batches]

    assert all(got)
    assert shown(got) == {("text", 0, 0): f"Hi {JANE}!"}
    assert [call.messages[0].text for call, _ in cloud.runs] == ["<EMAIL_1>"]


async def test_an_answer_that_just_ends_is_shown_to_its_end() -> None:
    """What is held back of an answer without a finish reason is not lost."""
    cloud = Scripted([[[Text("a <EMA")]]])

    async with aclosing(redaction.run(cloud, saying(JANE), STEP, ALL)) as batches:
        got = [batch async for batch in batches]

    assert shown(got) == {("text", 0, 0): "a <EMA"}


async def test_closing_closes_the_backend() -> None:
    """A client that leaves frees the cloud's connection at once."""
    cloud = Scripted([answer("a", "b")])
    batches = redaction.run(cloud, saying(JANE), STEP, ALL)

    await anext(batches)
    await batches.aclose()

    assert cloud.released.is_set()


async def test_a_cloud_that_fails_fails_as_it_would() -> None:
    """The error is the backend's own; and a call that cannot be redacted asks none."""
    cloud = Scripted([[BackendBusy("full")]])

    with pytest.raises(BackendBusy):
        await anext(redaction.run(cloud, saying(JANE), STEP, ALL))
    with pytest.raises(RedactionImpossible):
        await anext(redaction.run(cloud, IMPOSSIBLE[0], STEP, ALL))

    assert len(cloud.runs) == 1


PLANTED = st.lists(
    st.sampled_from([JANE, JOE, PHONE, CARD, IBAN, KEY, ARMOUR, "AKIA" + "Z" * 16]), min_size=1, max_size=4
)
FILLER = st.text(alphabet='ab <>_1EMAIL\\"{}é，\n', max_size=12)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Call, list[str]]:
    """A call with values planted in its corners, and the values."""
    planted = draw(PLANTED)

    def said() -> str:
        pieces = [f"{draw(FILLER)} \n{value}\n {draw(FILLER)}" for value in draw(st.permutations(planted))]
        return "".join(pieces)

    arguments = json.dumps({"a": said(), "b": [said()]}, ensure_ascii=draw(st.booleans()))
    messages = (
        Message(role="user", content=[TextPart(said()), TextPart(said())]),
        Message(role="assistant", tool_calls=[ToolCall(id="1", function=FunctionCall("f", arguments))]),
        Message(role="tool", content=said(), tool_call_id="1"),
    )
    tools = (
        {"type": "function", "function": {"name": "f", "description": said(), "parameters": {"x": said()}}},
    )
    return saying("", messages=messages, tools=tools, extra={"metadata": {"m": said()}}), planted


@given(calls())
def test_nothing_planted_leaves_whatever_stands_around_it(planted: tuple[Call, list[str]]) -> None:
    """For any call: neither a value nor its escaped form is in anything that is encoded for a cloud."""
    call, values = planted
    without, _ = redacted(call, ALL)
    sent = leaving(without)

    for value in values:
        assert value not in sent
        assert json.dumps(value)[1:-1] not in sent
        assert "".join(value.split()) not in sent


WORDS = st.lists(
    st.sampled_from(
        ["<EMAIL_1>", "<EMAIL_2>", "<PHONE_1>", "<EMAIL_1", "<", ">", "EMAIL_1", "<<", "a", " ", "é"]
    ),
    max_size=8,
)


def pieces(draw: Callable[..., Any], text: str) -> list[str]:
    """`text` cut anywhere, without empty pieces."""
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=6)))
    return [text[begin:end] for begin, end in itertools.pairwise([0, *cuts, len(text)]) if begin < end]


def event_of(kind: str, text: str, index: int) -> Event:
    """A piece of an answer."""
    if kind == "arguments":
        return ToolFragment(3, text, index=index)
    return Text(text, index) if kind == "text" else Reasoning(text, index)


@given(st.data())
def test_any_answer_cut_anywhere_reads_as_the_whole_one(data: st.DataObject) -> None:
    """Restoring in pieces equals replacing in the whole, for texts of several kinds that arrive mixed."""
    draw = data.draw
    _, restorer = redacted(saying(f"{JANE} {JOE} {PHONE}"), ALL)
    values = {"<EMAIL_1>": JANE, "<EMAIL_2>": JOE, "<PHONE_1>": PHONE}
    texts = {
        place: "".join(draw(WORDS))
        for place in (("text", 0), ("text", 1), ("reasoning", 0), ("arguments", 0))
    }
    queues = {place: pieces(draw, text) for place, text in texts.items()}
    events: list[Event] = []
    while any(queues.values()):
        kind, index = draw(st.sampled_from([place for place, left in queues.items() if left]))
        piece = queues[kind, index].pop(0)
        events.append(event_of(kind, piece, index))
    usage = Usage(prompt_tokens=1, completion_tokens=2)
    batches: list[Batch] = [[event] for event in events]
    batches += [[Finish("stop"), Finish("stop", index=1)], [usage]]

    got = [restorer.feed(batch) for batch in batches]

    want = {}
    for (kind, index), text in texts.items():
        for mark, value in values.items():
            text = text.replace(mark, value)  # noqa: PLW2901 - values hold no placeholder
        if text:
            want[kind, index, 3 if kind == "arguments" else 0] = text
    assert shown(got) == want
    flat = list(itertools.chain.from_iterable(got))
    assert flat[-1] == usage
    assert sum(isinstance(event, Finish) for event in flat) == 2
    assert restorer.end() == []
