"""Three ways in which clients join the fragments of streamed tool calls; each gives (name, arguments)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Calls = list[tuple[str, str]]
Chunks = Sequence[dict[str, Any]]


def by_index(chunks: Chunks) -> Calls:
    """As OpenAI's own client: fragments of one index belong together."""
    found: dict[int, tuple[str, str]] = {}
    for fragment in _fragments(chunks):
        found[fragment["index"]] = _grown(found.get(fragment["index"], ("", "")), fragment)
    return [found[index] for index in sorted(found)]


def by_id(chunks: Chunks) -> Calls:
    """An id that was not seen before begins a call; what has none belongs to the last."""
    found: dict[str, tuple[str, str]] = {}
    last = ""
    for fragment in _fragments(chunks):
        last = fragment.get("id") or last
        found[last] = _grown(found.get(last, ("", "")), fragment)
    return list(found.values())


def by_name(chunks: Chunks) -> Calls:
    """A name begins a call; arguments belong to the last."""
    found: Calls = []
    for fragment in _fragments(chunks):
        if fragment["function"].get("name") or not found:
            found.append(("", ""))
        found[-1] = _grown(found[-1], fragment)
    return found


def _fragments(chunks: Chunks) -> Iterator[dict[str, Any]]:
    for chunk in chunks:
        for choice in chunk.get("choices", ()):
            yield from choice.get("delta", {}).get("tool_calls") or ()


def _grown(call: tuple[str, str], fragment: dict[str, Any]) -> tuple[str, str]:
    function = fragment["function"]
    return call[0] + (function.get("name") or ""), call[1] + (function.get("arguments") or "")
