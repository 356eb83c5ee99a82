"""Everything that a cloud can do wrong, for any adapter: a module of tests says what the cloud looks like.

    class TestMine(CloudFaults):
        cloud = Cloud(make=…, model=…, frames=…, begins=…, whole_from=…, …)

The cloud is a raw socket that acts out one fault, so that not a byte of it is anybody's good manners.
"""

from __future__ import annotations

import asyncio
import io
import socket
import traceback
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import ClassVar

import pytest
from cloud_stage import (
    SAID,
    TEXT,
    TOKEN,
    WITHIN_S,
    Act,
    Cloud,
    Stage,
    answering,
    at,
    bytewise,
    close,
    hold,
    in_band,
    late_first,
    late_head,
    malformed,
    pinging,
    playing,
    refusing,
    reset,
    silent,
)

from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.errors import (
    BackendBusy,
    BackendError,
    BackendMisconfigured,
    BackendUnavailable,
    BackendUnreachable,
    CallRefused,
    RouterError,
    StreamBroken,
)
from hybrid_router.core.event import Batch, Finish, Text, says_something
from hybrid_router.core.step import Step, Timeouts

__all__ = ["SAID", "TEXT", "TOKEN", "Cloud", "CloudFaults"]

BEFORE_FIRST: dict[str, tuple[Act, type[RouterError]]] = {
    "rate limit": (refusing(status="429 Too Many Requests"), BackendBusy),
    "internal error": (refusing(), BackendError),
    "bad gateway": (refusing(status="502 Bad Gateway"), BackendUnavailable),
    "unavailable": (refusing(status="503 Service Unavailable"), BackendUnavailable),
    "origin unreachable": (refusing(status="522 Oops"), BackendUnavailable),
    "page of a proxy": (refusing(status="200 OK", kind="text/html"), BackendError),
    "page with a status": (refusing(status="503 Service Unavailable", kind="text/html"), BackendUnavailable),
    "token not accepted": (refusing(status="401 Unauthorized"), BackendMisconfigured),
    "address not known": (refusing(status="404 Not Found"), BackendMisconfigured),
    "redirect": (refusing(status="302 Found", more="Location: /elsewhere\r\n"), BackendMisconfigured),
    "token quoted": (refusing(f"Bearer {TOKEN} is not welcome"), BackendError),
    "prompt quoted": (refusing(f"cannot answer {SAID!r}"), BackendError),
    "reset": (at(0, reset), BackendError),
    "close": (at(0, close), BackendError),
    "malformed": (at(0, malformed), BackendError),
    "error as an event": (at(0, in_band), BackendError),
}
SILENCES: dict[str, Act] = {
    "before the head": silent,
    "after the head": at(0, hold),
    "comments alone": pinging,
    "in the middle": at(-3, hold),
}
BREAKS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "reset": reset,
    "close": close,
    "malformed": malformed,
    "error as an event": in_band,
}


def the_call(*, stream: bool = True) -> Call:
    """What every cloud is asked."""
    message = Message(role="user", content=SAID)
    return Call(id="c1", operation=Operation.CHAT, alias="a", messages=(message,), stream=stream)


def the_step(model: str) -> Step:
    """A step with waits that no test reaches."""
    waits = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=9)
    return Step(backend="cloud", model=model, timeouts=waits, because="a test")


@dataclass
class Outcome:
    """How a call went."""

    batches: list[Batch] = field(default_factory=list)
    error: RouterError | None = None

    @property
    def text(self) -> str:
        """What was answered."""
        return "".join(event.text for batch in self.batches for event in batch if isinstance(event, Text))

    @property
    def finishes(self) -> list[str]:
        """How it ended."""
        return [event.reason for batch in self.batches for event in batch if isinstance(event, Finish)]

    @property
    def began(self) -> bool:
        """Whether anything of an answer was given."""
        return any(says_something(batch) for batch in self.batches)


async def outcome(cloud: Cloud, root: str, *, stream: bool = True) -> Outcome:
    """One call, from its beginning to whatever end."""
    told = Outcome()
    backend = cloud.make(root, TOKEN)
    try:
        async with (
            asyncio.timeout(WITHIN_S),
            aclosing(backend.run(the_call(stream=stream), the_step(cloud.model))) as batches,
        ):
            async for batch in batches:
                assert batch
                told.batches.append(batch)
    except RouterError as error:
        told.error = error
    finally:
        await backend.close()
    return told


class CloudFaults:
    """The faults.  A subclass says of which cloud."""

    cloud: ClassVar[Cloud]

    @pytest.mark.parametrize("stream", [True, False], ids=["streamed", "plain"])
    async def test_a_good_answer_is_whole(self, stream: bool) -> None:
        """All of the text, one finish, and the token went where it belongs."""
        async with playing(self.cloud, answering(*self.cloud.frames)) as played:
            told = await outcome(self.cloud, played.root, stream=stream)

        assert (told.error, told.text, told.finishes) == (None, TEXT, ["stop"])
        assert self.cloud.token_header in played.requests[-1].decode().lower()

    @pytest.mark.parametrize("name", BEFORE_FIRST)
    async def test_before_the_first_event_the_next_step_may_try(self, name: str) -> None:
        """The failure is named and says nothing secret; no event came before it."""
        act, kind = BEFORE_FIRST[name]
        async with playing(self.cloud, act) as played:
            told = await outcome(self.cloud, played.root)

        assert isinstance(told.error, kind)
        assert isinstance(told.error, BackendError)
        assert not told.began
        shown = f"{told.error!r} {told.error.message} {told.error.detail}"
        assert TOKEN not in shown
        assert SAID not in shown

    async def test_a_call_at_fault_is_refused_for_good(self) -> None:
        """What the cloud says of it reaches the client: no other step would do better."""
        async with playing(self.cloud, refusing("temperature is odd", status="400 Bad Request")) as played:
            told = await outcome(self.cloud, played.root)

        assert isinstance(told.error, CallRefused)
        assert "temperature is odd" in told.error.message

    async def test_advice_on_when_to_come_back_is_kept(self) -> None:
        """Retry-After, in seconds."""
        act = refusing(status="429 Too Many Requests", more="Retry-After: 7\r\n")
        async with playing(self.cloud, act) as played:
            told = await outcome(self.cloud, played.root)

        assert isinstance(told.error, BackendBusy)
        assert told.error.retry_after_s == 7

    @pytest.mark.parametrize("ending", ["reset", "close", "malformed", "error as an event"])
    async def test_wherever_a_stream_breaks_its_text_is_exact(self, ending: str) -> None:
        """At every event: an error with nothing before it, an exact beginning and a break, or all of it."""
        cloud = self.cloud
        for place in range(len(cloud.frames)):
            async with playing(cloud, at(place, BREAKS[ending])) as played:
                told = await outcome(cloud, played.root)
            if place >= cloud.whole_from:
                assert (told.error, told.text, told.finishes) == (None, TEXT, ["stop"]), place
            elif place <= cloud.begins:
                assert isinstance(told.error, BackendError), place
                assert not told.began, place
            else:
                assert isinstance(told.error, StreamBroken), place
                assert told.text, place
                assert TEXT.startswith(told.text), place

    @pytest.mark.parametrize("name", SILENCES)
    async def test_a_silent_cloud_is_let_go_of(self, name: str) -> None:
        """Closing the answer closes the connection, however little has come."""
        cloud, given = self.cloud, list[Batch]()
        async with playing(cloud, SILENCES[name]) as played:
            backend = cloud.make(played.root, TOKEN)

            async def listen() -> None:
                async with aclosing(backend.run(the_call(), the_step(cloud.model))) as batches:
                    async for batch in batches:
                        given.append(batch)

            listening = asyncio.create_task(listen())
            async with asyncio.timeout(WITHIN_S):
                await played.holding.wait()
                assert not listening.done()
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)
                await played.gone.wait()
            await backend.close()
        assert listening.cancelled()
        if name != "in the middle":
            assert given == []

    @pytest.mark.parametrize("act", [late_head, late_first], ids=["head", "first event"])
    async def test_a_late_answer_is_the_same(self, act: Act) -> None:
        """The adapter has no patience of its own to lose."""
        async with playing(self.cloud, act) as played:
            asking = asyncio.create_task(outcome(self.cloud, played.root))
            async with asyncio.timeout(WITHIN_S):
                await played.holding.wait()
            played.go_on.set()
            told = await asking

        assert (told.error, told.text) == (None, TEXT)

    async def test_oddities_do_no_harm(self) -> None:
        """One byte a write, comments between events, more after the end, a document for a stream."""
        cloud = self.cloud
        commented = tuple(piece for frame in cloud.frames for piece in (b": ping\n\n", frame))
        acts = [bytewise, answering(*commented), answering(*cloud.frames, *cloud.harmless)]
        if (plain := cloud.plain) is not None:

            async def whole(stage: Stage) -> None:
                await stage.head("application/json")
                await stage.write(plain)

            acts.append(whole)
        for act in acts:
            async with playing(cloud, act) as played:
                told = await outcome(cloud, played.root)
            assert (told.error, told.text, told.finishes) == (None, TEXT, ["stop"])

    async def test_a_redirect_carries_nothing_anywhere(self) -> None:
        """Neither the token nor the prompt reaches the address that it names."""
        async with playing(self.cloud, answering(*self.cloud.frames)) as trap:
            act = refusing(status="307 Temporary Redirect", more=f"Location: {trap.root}/v1/trap\r\n")
            async with playing(self.cloud, act) as played:
                told = await outcome(self.cloud, played.root)

        assert isinstance(told.error, BackendMisconfigured)
        assert trap.requests == []

    async def test_a_closed_port_is_unreachable(self) -> None:
        """The network's fault is told from the cloud's; the address is not shown to the client."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            told = await outcome(self.cloud, f"http://127.0.0.1:{free.getsockname()[1]}")

        assert isinstance(told.error, BackendUnreachable)
        assert "127.0.0.1" not in told.error.message

    @pytest.mark.parametrize("name", [*BEFORE_FIRST, "whole", "broken"])
    async def test_the_token_shows_nowhere(self, name: str, everything_logged: io.StringIO) -> None:
        """Not in messages, `repr`s, causes, tracebacks with their locals, nor in anyone's debug log."""
        others = {"whole": answering(*self.cloud.frames), "broken": at(self.cloud.begins + 1, close)}
        act = others.get(name) or BEFORE_FIRST[name][0]
        told = ""
        async with playing(self.cloud, act) as played:
            backend = self.cloud.make(played.root, TOKEN)
            told += f"{backend!r} {vars(backend)!r}"
            try:
                async with aclosing(backend.run(the_call(), the_step(self.cloud.model))) as batches:
                    _ = [batch async for batch in batches]
            except RouterError as error:
                told += f"{error!r} {error.detail} {error.__cause__!r} {error.__context__!r}"
                trace = traceback.TracebackException.from_exception(error, capture_locals=True)
                told += "".join(trace.format())
            finally:
                await backend.close()

        assert TOKEN.encode() in played.requests[-1]
        assert TOKEN not in told
        assert TOKEN not in everything_logged.getvalue()

    async def test_a_token_that_the_cloud_repeats_is_taken_out(self, everything_logged: io.StringIO) -> None:
        """Wherever it does: in an error, an odd word, a content type, or what is no HTTP."""

        async def typed(stage: Stage) -> None:
            await stage.head(f"text/{TOKEN}")

        async def no_http(stage: Stage) -> None:
            await stage.write(f"HTTP/1.1 200 {TOKEN}\x00\r\nx\r\n\r\n".encode())

        acts = [typed, no_http, refusing(TOKEN, "400 Bad Request"), refusing(TOKEN, kind="text/html")]
        acts += [refusing(status="302 Found", more=f"Location: /{TOKEN}\r\n")]
        acts += [answering(frame) for frame in self.cloud.echoing]
        for act in acts:
            async with playing(self.cloud, act) as played:
                told = await outcome(self.cloud, played.root)
            assert told.error is not None
            shown = f"{told.error!r} {told.error.message} {told.error.detail} {everything_logged.getvalue()}"
            assert TOKEN not in shown
