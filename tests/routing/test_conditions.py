"""Conditions: when each kind holds, alone and combined."""

from __future__ import annotations

from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.schema import Above, Condition
from hybrid_router.core.asks import (
    Ask,
    Classification,
    Encoding,
    Moderation,
    Painting,
    Speech,
    Transcription,
    Translation,
)
from hybrid_router.core.call import (
    Call,
    Feature,
    FunctionCall,
    Message,
    Operation,
    RefusalPart,
    Sampling,
    TextPart,
    ToolCall,
)
from hybrid_router.core.upload import Upload
from hybrid_router.routing.conditions import compiled, guard, minute_of_day, text_patterns
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.subject import Subject, everything_written

FILE = Upload(fd=0, size_bytes=1)


def call(**fields: Any) -> Call:
    """A chat call with these fields."""
    return Call(id="x", **{"operation": Operation.CHAT, "alias": "default", **fields})


def holds(condition: Condition, *, minute: int = 0, **fields: Any) -> bool:
    """Whether a condition holds for a call with these fields."""
    return compiled(condition)(Subject(call(**fields), Facts(minute_of_day=minute)))


def saying(text: str) -> tuple[Message, ...]:
    """One message of a user."""
    return (Message(role="user", content=text),)


def test_an_empty_condition_always_holds() -> None:
    """A rule without `when` is for every call."""
    assert holds(Condition())


def test_alias_operation_and_key() -> None:
    """Each holds when the call's own is among those named."""
    assert holds(Condition(alias=("other", "default")))
    assert not holds(Condition(alias=("other",)))
    assert holds(Condition(operation=("complete",)), operation=Operation.COMPLETE)
    assert not holds(Condition(operation=("complete",)))
    assert holds(Condition(key=("ann",)), principal="ann")
    assert not holds(Condition(key=("ann",)))


def test_a_path_is_the_requests_own() -> None:
    """As it was asked for, whole."""
    condition = Condition(path=("/v1/completions", "/v1/chat/completions"))

    assert holds(condition, path="/v1/completions")
    assert not holds(condition, path="/v1/completion")
    assert not holds(condition)


def test_has_wants_all_that_is_named() -> None:
    """Tools alone are not tools and images."""
    both = Condition(has=("tools", "images"))

    assert holds(both, features=frozenset({Feature.TOOLS, Feature.IMAGES, Feature.SCHEMA}))
    assert not holds(both, features=frozenset({Feature.TOOLS}))


@pytest.mark.parametrize(
    ("brought", "operation", "features", "uploads"),
    [
        ("images", Operation.CLASSIFY, frozenset(), (FILE,)),
        ("images", Operation.CLASSIFY, frozenset(), ()),
        ("images", Operation.MODERATE, frozenset(), (FILE,)),
        ("images", Operation.IMAGE, frozenset(), (FILE,)),
        ("images", Operation.IMAGE, frozenset({Feature.IMAGE_INPUT}), ()),
        ("images", Operation.IMAGE, frozenset({Feature.INPAINTING}), ()),
        ("audio", Operation.TRANSCRIBE, frozenset(), (FILE,)),
        ("audio", Operation.TRANSCRIBE, frozenset(), ()),
        (None, Operation.IMAGE, frozenset(), ()),
        (None, Operation.SPEAK, frozenset(), ()),
        (None, Operation.MODERATE, frozenset(), ()),
    ],
)
def test_has_sees_pictures_and_sound_that_come_as_files(
    brought: str | None, operation: Operation, features: frozenset[Feature], uploads: tuple[Upload, ...]
) -> None:
    """Whatever operation they are for; also where the call is only planned, without its files."""
    fields: dict[str, Any] = {"operation": operation, "features": features, "uploads": uploads}

    assert holds(Condition(has=("images",)), **fields) == (brought == "images")
    assert holds(Condition(has=("audio",)), **fields) == (brought == "audio")


def test_a_text_to_classify_is_no_picture() -> None:
    """A rule for pictures passes it over."""
    assert not holds(Condition(has=("images",)), operation=Operation.CLASSIFY, prompts=("a joy",))


@pytest.mark.parametrize(
    ("ask", "written"),
    [
        (Painting(negative="a house"), "negative: a house"),
        (Speech(voice="af_heart", speed=1.5), "voice: af_heart"),
        (Translation(target="de", source="en"), "target: de\nsource: en"),
        (Transcription(temperature=0.0, language="de"), "language: de"),
        (Encoding(prompt_name="query"), "prompt_name: query"),
        (Classification(), ""),
        (Moderation(), ""),
    ],
)
def test_of_the_details_of_a_call_only_what_the_client_wrote_is_text(ask: Ask, written: str) -> None:
    """No names of ours, no defaults, no numbers: a rule that looks for those would hold by chance."""
    assert everything_written(call(ask=ask)) == written


def test_headers_match_as_a_whole_and_in_any_case_of_the_name() -> None:
    """Every named header must be there; part of a value is not enough."""
    condition = Condition(header={"X-Private": "yes|true", "x-team": "(?i)red"})

    assert holds(condition, headers={"x-private": "true", "x-team": "RED"})
    assert not holds(condition, headers={"x-private": "true!", "x-team": "red"})
    assert not holds(condition, headers={"x-private": "true"})
    assert not holds(Condition(header={"x-a": "a"}), headers={"x-a": "\udcff"})


@pytest.mark.parametrize("sent", ["yes", "no, yes", "yes,no", "no,\tyes ,no", "yes, yes"])
def test_one_value_of_a_repeated_header_is_enough(sent: str) -> None:
    """Several lines and commas mean the same; a value that does not match hides none that does."""
    assert holds(Condition(header={"x-a": "yes"}), headers={"x-a": sent})
    assert not holds(Condition(header={"x-a": "ye|s"}), headers={"x-a": sent})


def test_a_comma_may_belong_to_the_value() -> None:
    """What a pattern says of the header as it was sent holds too."""
    assert holds(Condition(header={"x-a": "KHTML, like .*"}), headers={"x-a": "KHTML, like Gecko"})


def test_below_not_one_value_that_does_not_match_is_enough() -> None:
    """`not` means: this header says something else, too; below two of them it is as without."""
    public = Condition(header={"x-a": "public-.*"})

    assert not holds(Condition(not_=public), headers={"x-a": "public-1, public-2"})
    assert holds(Condition(not_=public), headers={"x-a": "public-1, secret"})
    assert holds(Condition(not_=public), headers={"x-b": "public-1"})
    assert holds(Condition(not_=Condition(not_=public)), headers={"x-a": "public-1, secret"})


VALUES = st.lists(st.sampled_from(["a", "b", "ab", "", "A", "é"]), min_size=1, max_size=3)
HEADED = st.recursive(
    st.builds(
        lambda name, text: Condition(header={name: text}),
        st.sampled_from(["x-a", "X-B"]),
        st.sampled_from(["a", "(?i)a|b", "[ab]*", "b?", "", ".", r"\pL+"]),
    ),
    lambda inner: st.builds(
        Condition,
        any=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        all=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=6,
)


@given(HEADED, VALUES, VALUES, VALUES, st.randoms())
def test_one_more_value_never_takes_a_call_out_of_a_rule(
    condition: Condition, a: list[str], b: list[str], more: list[str], random: Random
) -> None:
    """However conditions nest, and wherever the values are added to those of a header that is there."""
    added = [*a, *more]
    random.shuffle(added)
    before, after = ({"x-a": ", ".join(values), "x-b": ", ".join(b)} for values in (a, added))

    assert holds(condition, headers=after) or not holds(condition, headers=before)


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("08:00-18:00", ["08:00", "12:00", "17:59"], ["07:59", "18:00", "00:00", "23:59"]),
        ("22:00-06:30", ["22:00", "23:59", "00:00", "06:29"], ["06:30", "12:00", "21:59"]),
        ("00:00-00:01", ["00:00"], ["00:01", "23:59"]),
    ],
)
def test_a_window_of_time_may_pass_midnight(window: str, inside: list[str], outside: list[str]) -> None:
    """The first minute is inside, the last is not."""
    condition = Condition(time=window)

    assert all(holds(condition, minute=minute_of_day(clock)) for clock in inside)
    assert not any(holds(condition, minute=minute_of_day(clock)) for clock in outside)


def test_prompt_tokens_lie_strictly_between() -> None:
    """`above` and `below` exclude their own value; token prompts are counted exactly."""
    condition = Condition(prompt_tokens=Above(above=10, below=13))

    counts = {count: holds(condition, prompts=((0,) * count,)) for count in range(9, 15)}

    assert [count for count, it_holds in counts.items() if it_holds] == [11, 12]
    assert holds(Condition(prompt_tokens=Above(above=10)), prompts=((0,) * 11,))
    assert holds(Condition(prompt_tokens=Above(below=10)), prompts=((0,) * 9,))


def test_text_is_searched_case_counts_and_one_pattern_is_enough() -> None:
    """A pattern may be found anywhere; (?i) forgives case."""
    condition = Condition(text=("nothing", "se[ck]ret", "(?i)PASSWORD"))

    assert holds(condition, messages=saying("a sekret thing"))
    assert holds(condition, messages=saying("my Password"))
    assert not holds(condition, messages=saying("a SECRET thing"))
    assert holds(condition, operation=Operation.COMPLETE, prompts=("x", "secret"))


FOUND = Condition(text=("canary",))
NAMED = ToolCall(id="1", function=FunctionCall("canary", ""))


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": (Message(role="system", content="canary"),)},
        {"messages": (Message(role="tool", content="canary"),)},
        {"messages": (Message(role="user", content=[TextPart("can"), TextPart("ary")]),)},
        {"messages": (Message(role="assistant", content=[RefusalPart("canary")]),)},
        {"messages": (Message(role="user", content="x", name="canary"),)},
        {"messages": (Message(role="assistant", reasoning_content="a canary"),)},
        {
            "messages": (
                Message(
                    role="assistant",
                    tool_calls=[ToolCall(id="1", function=FunctionCall("f", '{"x": "canary"}'))],
                ),
            )
        },
        {"messages": (Message(role="assistant", tool_calls=[NAMED]),)},
        {"messages": (Message(role="tool", content="x", tool_call_id="canary"),)},
        {
            "messages": (
                Message(role="assistant", tool_calls=[ToolCall(id="canary", function=FunctionCall("f", ""))]),
            )
        },
        {"tools": ({"type": "function", "function": {"description": ["deep", {"canary": 1}]}},)},
        {"tool_choice": "canary"},
        {"response_format": {"json_schema": {"name": "canary"}}},
        {"extra": {"metadata": {"note": "canary"}}},
        {"sampling": Sampling(stop=("canary",))},
        {"prompts": ((1, 2), "canary")},
    ],
)
def test_text_sees_everything_that_would_leave_the_machine(fields: dict[str, Any]) -> None:
    """A secret in a tool's result or a schema is as private as one in a message."""
    assert holds(FOUND, **fields)


def test_half_a_surrogate_pair_is_no_error() -> None:
    """Text that is not Unicode is searched all the same."""
    assert holds(FOUND, messages=saying("\ud800 canary"))


def test_text_deeper_than_any_call_stack_is_searched() -> None:
    """JSON nests as deep as it likes."""
    deep: Any = "canary"
    for _ in range(5_000):
        deep = [deep]

    assert holds(FOUND, extra={"x": deep})


def test_conditions_nest() -> None:
    """`any`, `all` and `not` mean what they say; keys beside them must hold too."""
    on, off = Condition(alias=("default",)), Condition(alias=("other",))

    assert holds(Condition(any=(off, on)))
    assert not holds(Condition(any=(off, off)))
    assert holds(Condition(all=(on, on)))
    assert not holds(Condition(all=(on, off)))
    assert holds(Condition(not_=off))
    assert not holds(Condition(not_=on))
    assert not holds(Condition(any=(on,), alias=("other",)))
    assert holds(Condition(not_=Condition(all=(on, Condition(not_=on)))))


LEAVES = st.builds(Condition, alias=st.none() | st.just(("default",)), key=st.none() | st.just(("ann",)))
CONDITIONS = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Condition,
        any=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        all=st.none() | st.lists(inner, min_size=1, max_size=3).map(tuple),
        not_=st.none() | inner,
    ),
    max_leaves=8,
)


@given(CONDITIONS, st.booleans())
def test_de_morgan(condition: Condition, is_ann: bool) -> None:
    """Not any is all not, for whatever is nested below."""
    fields: dict[str, Any] = {"principal": "ann" if is_ann else "bob"}

    assert holds(Condition(not_=Condition(any=(condition, FOUND))), **fields) == holds(
        Condition(all=(Condition(not_=condition), Condition(not_=FOUND))), **fields
    )
    assert holds(Condition(not_=condition), **fields) is not holds(condition, **fields)


PATTERNS = ["a+b", "(?i)SECRET", "^x|y$", r"\d{3}", "", "b", "a|b", r"\Qa.b", r"é\b"]


@given(
    st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=4),
    st.text(alphabet="abxyé123 \nSecrt.", max_size=20),
)
def test_the_guard_hides_nothing(patterns: list[str], text: str) -> None:
    """Looking for all patterns at once finds whatever one of them alone would find."""
    condition = Condition(text=tuple(patterns))
    asked = call(messages=saying(text))
    guarded = Subject(asked, Facts(), guard(text_patterns(condition)))

    assert compiled(condition)(guarded) == compiled(condition)(Subject(asked, Facts()))


def test_patterns_are_gathered_however_deep() -> None:
    """The guard knows the patterns inside `any`, `all` and `not`."""
    one, two, three = (Condition(text=(name,)) for name in ("one", "two", "three"))

    nested = Condition(text=("zero",), any=(Condition(all=(one,)),), not_=Condition(not_=two, any=(three,)))

    assert set(text_patterns(nested)) == {"zero", "one", "two", "three"}


def test_patterns_that_do_not_fit_into_one_have_no_guard() -> None:
    """Without a guard every pattern is looked for by itself: slower, never blind."""
    assert guard([r"\Qopen", "b"]) is None
    assert guard(f"(?:{'a?' * 60}){{500}}{n}" for n in range(40)) is None


def test_a_prompt_is_read_once_for_all_rules() -> None:
    """However many conditions ask, the text is gathered once."""
    subject = Subject(call(messages=saying("x" * 100)), Facts())

    assert subject.text is subject.text
    assert subject.utf8 is subject.utf8
    assert msgspec.structs.asdict(subject.call)["alias"] == "default"


def test_a_text_is_looked_through_once_however_many_rules_ask() -> None:
    """The second rule gets the first one's answer."""
    searches: list[bytes] = []

    class Guard:
        def search(self, text: bytes) -> None:
            searches.append(text)

    subject = Subject(call(messages=saying("nothing to see")), Facts(), Guard())

    assert (subject.suspicious, subject.suspicious) == (False, False)
    assert len(searches) == 1
