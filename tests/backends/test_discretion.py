"""A cloud's words in the log, without the prompt."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.backends.discretion import QUOTED, prompt_of, without_prompt
from hybrid_router.core.asks import Painting
from hybrid_router.core.call import AudioPart, Call, FilePart, ImagePart, Message, Operation, Part, TextPart

WHERE = "status 500, code 8005"


@pytest.mark.parametrize(
    "words",
    ["cannot answer 'My name is Ada Lovelace, hello'", "…is Ada Lovelace…", "AiError: Ada Lovelace, hell"],
)
def test_words_that_quote_the_prompt_are_left_out(words: str) -> None:
    """Whole or in part: what remains is the status and the code."""
    assert without_prompt(f"{WHERE}: {words}", "My name is Ada Lovelace, hello") == f"{WHERE}: {QUOTED}"


@pytest.mark.parametrize("prompt", ["My name is Ada Lovelace, hello", "", " ", "hello"])
def test_other_words_are_kept(prompt: str) -> None:
    """A reader of the log needs them."""
    told = f"{WHERE}: AiError: Capacity temporarily exceeded, please try again."
    assert without_prompt(told, prompt) == told


def test_a_short_prompt_is_found_whole() -> None:
    """It has no run that is too long for chance, so all of it is looked for."""
    assert without_prompt(f"{WHERE}: no answer to pin 4711", "pin 4711") == f"{WHERE}: {QUOTED}"


def test_a_huge_prompt_is_not_searched() -> None:
    """That would take too long; the words are left out."""
    assert without_prompt(f"{WHERE}: too long", "x" * 100_001) == f"{WHERE}: {QUOTED}"


BASE64 = base64.b64encode(hashlib.shake_256(b"a picture").digest(90_000)).decode()


@pytest.mark.parametrize(
    "part",
    [
        ImagePart({"url": f"data:image/png;base64,{BASE64}"}),
        AudioPart({"data": BASE64, "format": "wav"}),
        FilePart({"file_data": f"data:application/pdf;base64,{BASE64}", "filename": "a.pdf"}),
    ],
)
def test_what_is_no_text_is_not_quoted_either(part: Part) -> None:
    """Neither from its beginning nor up to its end; of which kind it is may be said."""
    content: list[Part] = [TextPart("what is this?"), part]
    call = Call(
        id="c", operation=Operation.CHAT, alias="a", messages=(Message(role="user", content=content),)
    )
    begun = f"{WHERE}: cannot fetch 'data:image/png;base64,{BASE64[:40]}…'"
    ended = f"{WHERE}: bad padding in …{BASE64[-40:]}"
    named = f"{WHERE}: images of type data:image/png;base64 are not accepted"

    told = [without_prompt(words, prompt_of(call)) for words in (begun, ended, named)]

    assert told == [f"{WHERE}: {QUOTED}", f"{WHERE}: {QUOTED}", named]


@given(st.text(min_size=15), st.text(), st.text(), st.data())
def test_no_quotation_of_fifteen_characters_gets_through(
    prompt: str, before: str, after: str, data: st.DataObject
) -> None:
    """For any prompt and any place of the quotation."""
    start = data.draw(st.integers(0, len(prompt) - 15))
    quotation = prompt[start : start + 15]
    if len(prompt.strip()) < 15:
        return
    kept = without_prompt(f"{WHERE}: {before}{quotation.strip()}{after}", prompt)
    assert len(quotation.strip()) < 15 or kept == f"{WHERE}: {QUOTED}"


def test_what_a_picture_must_not_show_and_what_is_looked_for_count_as_prompts() -> None:
    """A cloud may quote those as well."""
    call = Call(
        id="c1",
        operation=Operation.IMAGE,
        alias="a",
        query="who stole the crown jewels",
        ask=Painting(negative="my neighbour's red bicycle"),
    )

    for quoted in ("without my neighbour's red bicycle", "found: who stole the crown jewels"):
        assert QUOTED in without_prompt(f"status 500: {quoted}", prompt_of(call))
