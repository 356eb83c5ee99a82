"""Many inputs of one model, answered when Workers AI has capacity: put in, and asked for until they are done.

Source: Workers AI's documentation of its batch API: less than 10 MB in one piece, nothing on how long
answers are kept.  It has no word for giving a batch up: whoever no longer waits has it computed all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

import msgspec
from msgspec import Raw, Struct

from hybrid_router.backends.errand import Errand, Unreadable
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.tasks import bodies, results
from hybrid_router.core.errors import BackendBusy, BackendTimeout, BackendUnavailable, BackendUnreachable

MOST_BYTES = 9_500_000  # below 10 MB, with what is around the inputs
FIRST_WAIT_S, LONGEST_WAIT_S, GROWTH = 1.0, 30.0, 1.5
_QUERY = "queueRequest=true"
_WAITING = frozenset({"queued", "running"})
_PASSING = (BackendBusy, BackendTimeout, BackendUnavailable, BackendUnreachable)
Sleep = Callable[[float], Awaitable[None]]


class TooLarge(ValueError):
    """An input that no batch has room for."""


class Ticket(Struct, frozen=True, kw_only=True):
    """A batch that was put in.  `first` is the place of its first input among all."""

    model: str
    request_id: str
    first: int = 0
    count: int = 0


class Response(Struct, frozen=True, kw_only=True):
    """What became of one input: `id` is its place in the batch."""

    id: int
    success: bool = True
    result: Any = None
    errors: Any = None
    external_reference: str | None = None


class State(Struct, frozen=True, kw_only=True):
    """What is told of a batch.  `responses` None: it is on its way."""

    status: str = ""
    request_id: str = ""
    responses: tuple[Response, ...] | None = None


def pieces(inputs: Iterable[bytes], most_bytes: int = MOST_BYTES) -> Iterator[tuple[int, list[Raw]]]:
    """Inputs, each a JSON document, as batches that are small enough, with the first one's place.

    Raises:
        TooLarge: one alone is not.
    """
    first, held, size_bytes = 0, list[Raw](), 0
    for place, each in enumerate(inputs):
        if len(each) > most_bytes:
            raise TooLarge(f"input {place + 1} has {len(each)} bytes: a batch takes {most_bytes}")
        if held and size_bytes + len(each) + 1 > most_bytes:
            yield first, held
            first, held, size_bytes = place, [], 0
        held.append(Raw(each))
        size_bytes += len(each) + 1
    if held:
        yield first, held


async def put(desk: Desk, model: str, inputs: list[Raw], first: int = 0) -> Ticket:
    """Put one batch in."""
    state = await _asked(desk, model, {"requests": inputs})
    if not state.request_id:
        raise BackendUnavailable("Workers AI took a batch and gave it no id")
    return Ticket(model=model, request_id=state.request_id, first=first, count=len(inputs))


async def look(desk: Desk, ticket: Ticket) -> State:
    """What has become of a batch."""
    return await _asked(desk, ticket.model, {"request_id": ticket.request_id})


async def waited(
    desk: Desk,
    ticket: Ticket,
    *,
    within_s: float,
    progress: Callable[[str], None] = lambda status: None,
    sleep: Sleep = asyncio.sleep,
) -> tuple[Response, ...]:
    """A batch's answers, in its inputs' order.  It is asked for less and less often.

    An account that is busy or out of reach for a moment is asked again later; the batch is not lost by it.

    Args:
        within_s: after so long nobody waits any more.
        progress: told how it stands each time that was asked.

    Raises:
        BackendTimeout: it was not done in time; it still runs.
        RouterError: it is refused, or unknown.
    """
    wait_s = FIRST_WAIT_S
    try:
        async with asyncio.timeout(within_s):
            while True:
                state = await _looked(desk, ticket)
                progress(state.status or "done")
                if state.responses is not None:
                    return tuple(sorted(state.responses, key=lambda each: each.id))
                await sleep(wait_s)
                wait_s = min(LONGEST_WAIT_S, wait_s * GROWTH)
    except TimeoutError:
        raise BackendTimeout(
            f"batch {ticket.request_id} was not done in {within_s:.0f} s and runs on"
        ) from None


async def _looked(desk: Desk, ticket: Ticket) -> State:
    try:
        return await look(desk, ticket)
    except _PASSING as error:
        return State(status=f"not to be asked just now ({error.message})")


async def _asked(desk: Desk, model: str, document: dict[str, Any]) -> State:
    errand = Errand(path=bodies.path(model), query=_QUERY, body=msgspec.json.encode(document))
    return await desk.ask(errand, _state)


def _state(body: bytes) -> State:
    state = results.read(body, State, "a batch's state")
    if state.responses is None and state.status not in _WAITING:
        raise Unreadable(f"says of a batch {state.status[:40]!r}, which is no word for waiting")
    return state
