"""Calls for clouds, and what comes of them."""

from __future__ import annotations

from contextlib import aclosing
from typing import Any

from hybrid_router.backends.declared import Declared
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.event import Event
from hybrid_router.core.step import Step, Timeouts

MODEL = "m"


def chat(*messages: Message | str, **more: Any) -> Call:
    """A chat; a text is a message of the user's, and `hi` is said where nothing is."""
    said = messages or ("hi",)
    turns = (Message(role="user", content=each) if isinstance(each, str) else each for each in said)
    return Call(id="c1", operation=Operation.CHAT, alias="a", messages=tuple(turns), **more)


def ask_for(operation: Operation, *prompts: Any, **more: Any) -> Call:
    """A call that is no chat."""
    return Call(id="c1", operation=operation, alias="a", prompts=prompts, **more)


def a_step(model: str = MODEL) -> Step:
    """A step with waits that no test reaches."""
    waits = Timeouts(connect_s=5, load_s=5, first_token_s=5, between_tokens_s=5, total_s=9)
    return Step(backend="box", model=model, timeouts=waits, because="a test")


async def answer(backend: Declared, call: Call, model: str = MODEL) -> list[Event]:
    """All events of an answer."""
    async with aclosing(backend.run(call, a_step(model))) as batches:
        return [event async for batch in batches for event in batch]


async def last_answer(backend: Declared, call: Call, model: str = MODEL) -> list[Event]:
    """The same; the backend is closed with it."""
    try:
        return await answer(backend, call, model)
    finally:
        await backend.close()
