"""Tasks that one request does, or several at once: each is written, and its reply read, by a pure function.

Nothing of an answer is told before all of it is there.  So the next step may still try when a late request
fails, and no answer is of two models.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import aclosing
from functools import partial
from typing import TypeAlias, TypeVar

from msgspec import Struct

from hybrid_router.backends.errand import Errand
from hybrid_router.backends.readers import Decode, Whole
from hybrid_router.backends.tally import parted, total
from hybrid_router.backends.workers_ai.tasks import sending
from hybrid_router.backends.workers_ai.tasks.task import Asked, Send
from hybrid_router.catalogue.families import Family
from hybrid_router.core.call import Call, Feature
from hybrid_router.core.errors import Inexpressible
from hybrid_router.core.event import Batch, Progress, Usage, says_something

T = TypeVar("T")
AT_ONCE = 8


class Piece(Struct, frozen=True):
    """One request.

    Attributes:
        decode: the events of its reply's body, at most one `Usage` among them; it raises `Unreadable`.
    """

    errand: Errand
    decode: Decode


Write: TypeAlias = Callable[[Asked], Sequence[Piece]]


class Pieces:
    """A task whose requests can all be written beforehand.  See `task.Task`.

    Args:
        write: the requests; it raises `Inexpressible`.
        able: what models can do beyond the plain task.
        check: raises `BackendError` for replies that are well-formed and do not belong together.
    """

    def __init__(
        self,
        write: Write,
        able: frozenset[Feature] = frozenset(),
        check: Callable[[Batch], None] = lambda answer: None,
    ) -> None:
        self._write = write
        self._able = able
        self._check = check

    def features(self, family: Family, model: str) -> frozenset[Feature]:
        """Alike for all families that it is for."""
        return self._able

    async def run(self, asked: Asked, send: Send) -> AsyncGenerator[Batch]:
        """Ask, and tell the answer once it is whole."""
        async with aclosing(answered(self._write(asked), send)) as batches:
            async for batch in batches:
                if says_something(batch):
                    self._check(batch)
                yield batch


async def answered(pieces: Sequence[Piece], send: Send, given: Batch | None = None) -> AsyncGenerator[Batch]:
    """Signs of life, then the whole answer: `given`, then what the pieces bring, in their order.

    Its usage is that of all pieces; there is none if one of them tells none.
    """
    answer: Batch = list(given or ())
    told: list[Usage | None] = []
    works = [partial(_brought, piece, send) for piece in pieces]
    async with aclosing(sending.in_order(works, AT_ONCE)) as brought:
        async for batch in brought:
            said, usage = parted(batch)
            answer += said
            told.append(usage)
            if len(told) < len(pieces):
                yield [Progress(len(told) / len(pieces))]
    whole = total(told)
    yield answer if whole is None else [*answer, whole]


async def _brought(piece: Piece, send: Send) -> Batch:
    async with aclosing(send(piece.errand, Whole(piece.decode))) as batches:
        return [event async for batch in batches for event in batch]


def portions(given: Sequence[T], most: int) -> Iterator[tuple[int, Sequence[T]]]:
    """All of it, `most` at a time, each portion with the place of its first."""
    for first in range(0, len(given), most):
        yield first, given[first : first + most]


def texts(call: Call, param: str = "input") -> list[str]:
    """A call's prompts.

    Raises:
        Inexpressible: one is token ids.
    """
    found = [prompt for prompt in call.prompts if isinstance(prompt, str)]
    if len(found) < len(call.prompts):
        raise Inexpressible(f"Workers AI takes text only: `{param}` holds token ids", param=param)
    return found
