"""Tool calls as they arrive, in order and each named once."""

from __future__ import annotations

from msgspec import Struct

from hybrid_router.backends.chunks import ToolPiece, plain
from hybrid_router.core import ids
from hybrid_router.core.event import ToolFragment


class _Open(Struct):
    """A tool call under way.  `waiting` holds arguments that came before the name."""

    position: int
    id: str | None = None
    name: str | None = None
    waiting: str = ""


class ToolCalls:
    """The tool calls of one choice.

    Some models send arguments before the name, some end with a piece of nothing but nulls, some start
    each call anew at index 0.
    """

    def __init__(self, choice: int) -> None:
        self._choice = choice
        self._open: dict[int, _Open] = {}
        self._count = 0
        self._latest = 0  # key of the call that pieces without an index belong to

    @property
    def any(self) -> bool:
        """Whether the choice calls a tool."""
        return self._count > 0

    @property
    def nameless(self) -> bool:
        """Whether a call has begun that was never named, so could not be passed on."""
        return any(call.name is None for call in self._open.values())

    def take(self, piece: ToolPiece) -> ToolFragment | None:
        """What `piece` adds, if that can be told already."""
        function = piece.function
        name = (function.name if function else piece.name) or None
        arguments = plain(function.arguments if function else piece.arguments)
        if function is None and name is not None:
            return self._whole(piece.id, name, arguments or "{}")
        if piece.index is None and function is not None and name is not None:
            return self._whole(piece.id, name, arguments)
        return self._part(
            self._latest if piece.index is None else piece.index, piece.id or None, name, arguments
        )

    def _whole(self, given_id: str | None, name: str, arguments: str) -> ToolFragment:
        call = self._begin(self._count, given_id)
        call.name = name
        return self._first(call, arguments)

    def _part(
        self, index: int, given_id: str | None, name: str | None, arguments: str
    ) -> ToolFragment | None:
        call = self._open.get(index)
        if call is None or _another(call, given_id, name):
            if not (given_id or name or arguments):
                return None
            call = self._begin(index, given_id)
        if call.name is not None:
            return ToolFragment(call.position, arguments, index=self._choice) if arguments else None
        call.id = call.id or given_id
        call.name = name
        call.waiting += arguments
        return None if name is None else self._first(call, call.waiting)

    def _begin(self, index: int, given_id: str | None) -> _Open:
        call = self._open[index] = _Open(self._count, given_id)
        self._count += 1
        self._latest = index
        return call

    def _first(self, call: _Open, arguments: str) -> ToolFragment:
        """The fragment that names the call; upstream's id is kept, a missing one is made."""
        given_id = call.id or ids.new("call_")
        return ToolFragment(call.position, arguments, id=given_id, name=call.name, index=self._choice)


def _another(call: _Open, given_id: str | None, name: str | None) -> bool:
    """Whether a named piece under the index of `call` belongs to a call of its own."""
    return call.name is not None and name is not None and given_id is not None and given_id != call.id
