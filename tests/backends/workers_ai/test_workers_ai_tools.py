"""Tool calls, in every form they come in."""

from __future__ import annotations

import pytest
from scripted_cloud import answer, chat, cloud, piece, stream

from hybrid_router.core.errors import BackendError
from hybrid_router.core.event import Event, Finish, ToolFragment

DONE = b"[DONE]"


async def read(*payloads: object, **config: object) -> list[Event]:
    """The events of one stream."""
    async with cloud(stream(*payloads), **config) as (backend, _):
        return await answer(backend, chat())


async def test_classic_tool_calls_are_whole_calls() -> None:
    """Classic models send name and arguments as an object; the call gets an id and the right reason."""
    told = await read(
        {"response": "", "tool_calls": [{"name": "f", "arguments": {"a": 1}}, {"name": "g"}]}, DONE
    )

    first, second, finish = told
    assert isinstance(first, ToolFragment)
    assert isinstance(second, ToolFragment)
    assert (first.position, first.name, first.arguments) == (0, "f", '{"a":1}')
    assert (second.position, second.name, second.arguments) == (1, "g", "{}")
    assert first.id
    assert first.id != second.id
    assert finish == Finish("tool_calls")


def tool(index: int | None = 0, **fields: object) -> dict[str, object]:
    """A chunk with one piece of a tool call."""
    return piece(delta={"tool_calls": [{"index": index, **fields}]})


@pytest.mark.parametrize(
    "pieces",
    [
        [
            tool(id=None, function=None),
            tool(id="t1", function={"name": "f"}),
            tool(function={"arguments": '{"a"'}),
            tool(function={"arguments": ":1}"}),
        ],
        [tool(function={"arguments": '{"a"'}), tool(id="t1", function={"name": "f", "arguments": ":1}"})],
        [
            tool(id="t1", function={"name": "f", "arguments": '{"a":1}'}),
            tool(id=None, type=None, function={"name": None, "arguments": None}),
            tool(id=None, function=None),
        ],
        [
            tool(id="t1"),
            tool(function={"name": "f"}),
            tool(id="t1", function={"name": "f", "arguments": '{"a":1}'}),
        ],
        [
            tool(None, id="t1", function={"name": "f", "arguments": ""}),
            tool(None, function={"arguments": '{"a":1}'}),
        ],
    ],
    ids=["usual", "arguments-first", "null-ending", "repeated-name", "no-index"],
)
async def test_tool_calls_are_named_once_and_first(pieces: list[object]) -> None:
    """However the pieces come, the first fragment names the call and the arguments are all there."""
    *fragments, finish = await read(*pieces, piece(finish="stop"), DONE)

    assert all(isinstance(fragment, ToolFragment) and fragment.position == 0 for fragment in fragments)
    calls = [fragment for fragment in fragments if isinstance(fragment, ToolFragment)]
    assert [(call.id, call.name) for call in calls] == [("t1", "f")] + [(None, None)] * (len(calls) - 1)
    assert "".join(call.arguments for call in calls) == '{"a":1}'
    assert finish == Finish("tool_calls")


async def test_calls_that_all_start_at_index_0_stay_apart() -> None:
    """A second id under the same index is a second call."""
    told = await read(
        tool(id="t1", function={"name": "f", "arguments": "{}"}),
        tool(id="t2", function={"name": "g", "arguments": "{"}),
        tool(function={"arguments": "}"}),
        piece(finish="tool_calls"),
        DONE,
    )

    assert told == [
        ToolFragment(0, "{}", id="t1", name="f"),
        ToolFragment(1, "{", id="t2", name="g"),
        ToolFragment(1, "}"),
        Finish("tool_calls"),
    ]


async def test_a_tool_call_without_a_name_is_no_answer() -> None:
    """Nobody could run it."""
    with pytest.raises(BackendError, match="without naming it"):
        await read(tool(function={"arguments": "{}"}), piece(finish="tool_calls"), DONE)
