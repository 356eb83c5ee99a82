"""A row's short way to its line leaves nothing out that care would have done."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, get_type_hints

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec import structs

from hybrid_router.core.secret import Secret
from hybrid_router.observe.lines import TimeOfDay, json_line, row_fields, row_line
from hybrid_router.observe.redact import Redactor
from hybrid_router.observe.rows import AttemptRow, CallRow

CANARY = 'zq81-canary/7Lw0"xYp3\\Rk9sTt'
REDACT = Redactor([Secret(CANARY)])

ATTEMPT = AttemptRow(
    time="2025-01-31T12:03:04.567+00:00",
    level="info",
    event="attempt",
    decision="dec_a",
    call="chatcmpl-a",
    attempt=1,
    outcome="answered",
    backend="local",
    model="smollm2-135m-instruct",
    alias="small",
    operation="chat",
    principal="editor",
    stream=True,
    ttft_s=0.25,
    duration_s=1.5,
    prompt_tokens=12,
    completion_tokens=34,
    cached_tokens=0,
)
CALL = CallRow(
    time="2025-01-31T12:03:04.567+00:00",
    level="info",
    event="call",
    request="req_a",
    method="POST",
    path="/v1/chat/completions",
    status=200,
    duration_s=1.5,
)

texts = st.one_of(
    st.text(st.characters()),
    st.text(st.sampled_from('a\x00\n\x1b\x7f\x9b\u2028\u202e\ufeff\ud800é"\\\\'), max_size=9),
    st.builds("{}{}{}".format, st.text(), st.sampled_from([CANARY, CANARY[:12]]), st.text()),
    st.builds("authorization: bearer {}".format, st.text()),
    st.builds(str.__mul__, st.sampled_from(["x", "é", '"', "ab "]), st.integers(600, 9_000)),
)
numbers = st.integers() | st.integers(-(10**30), 10**30)
of_kind: dict[Any, st.SearchStrategy[Any]] = {
    str: texts,
    str | None: texts | st.none(),
    int: numbers,
    int | None: numbers | st.none(),
    float: st.floats(),
    float | None: st.floats() | st.none(),
    bool: st.booleans(),
    bool | None: st.booleans() | st.none(),
}


@st.composite
def rows(draw: st.DrawFn) -> AttemptRow | CallRow:
    """A usual row with anything in one or two of its fields: in all, it would never take the short way."""
    usual: list[AttemptRow | CallRow] = [ATTEMPT, CALL]
    row = draw(st.sampled_from(usual))
    kinds = get_type_hints(type(row))
    changed = draw(st.lists(st.sampled_from(sorted(kinds)), max_size=2, unique=True))
    return structs.replace(row, **{name: draw(of_kind[kinds[name]]) for name in changed})


@given(rows())
@example(structs.replace(CALL, alias="x" * 2_001))
@example(structs.replace(CALL, alias="größtes"))
@example(structs.replace(CALL, alias="a\x7fb"))
@example(structs.replace(CALL, alias="a\u202eb"))
@example(structs.replace(CALL, alias="\ud800"))
@example(structs.replace(CALL, alias=CANARY))
@example(structs.replace(CALL, status=2**64))
@example(structs.replace(CALL, status=-(2**63) - 1))
@example(structs.replace(CALL, duration_s=float("nan")))
def test_a_row_is_the_line_that_care_would_make(row: AttemptRow | CallRow) -> None:
    """Byte for byte what looking at each value writes: cut, cleaned, redacted."""
    line = row_line(row, REDACT)

    assert line == json_line(row_fields(row), REDACT)
    assert b"canary" not in line


def test_a_number_without_end_costs_no_line() -> None:
    """A count too long to be written is named by its kind."""
    assert b'"prompt_tokens":"<int>"' in row_line(structs.replace(ATTEMPT, prompt_tokens=10**5_000), REDACT)


@pytest.mark.parametrize("row", [ATTEMPT, CALL])
def test_a_row_s_known_fields_are_written_in_order(row: AttemptRow | CallRow) -> None:
    """What is not known is left out; the rest stands in the order of the row."""
    known = row_fields(row)

    assert list(known) == [name for name in type(row).__struct_fields__ if getattr(row, name) is not None]
    assert None not in known.values()


@given(st.lists(st.integers(0, 4 * 10**18), min_size=1, max_size=3))
@example([999_999_999, 1_000_000_000])
@example([1_735_689_599_999_999_999])
def test_the_time_is_told_to_the_millisecond(times_ns: list[int]) -> None:
    """Also within one second, and when the clock is set back: UTC, never ahead of the clock."""
    clock = iter(times_ns)
    told = TimeOfDay(lambda: next(clock))

    for time_ns in times_ns:
        seconds, rest_ns = divmod(time_ns, 10**9)
        time = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest_ns // 1_000)
        assert told() == time.isoformat(timespec="milliseconds")
