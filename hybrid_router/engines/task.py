"""What an engine is asked and what it answers.  Shared by both ends of the pipe; imports no library."""

from __future__ import annotations

from typing import Protocol, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.call import Message, Operation, Sampling
from hybrid_router.core.event import Event

PREFILL_REFUSED = "prefill_refused"


class Task(Struct, frozen=True, kw_only=True, array_like=True):
    """A call, as far as an engine needs it.  `id` is the pipe's own, unique for one child's life.

    `written` is the beginning of the answer, which is out already: the engine goes on behind it.
    `sampling.max_tokens` and `Usage.completion_tokens` count it with the rest.
    """

    id: int
    operation: Operation
    messages: tuple[Message, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    written: str = ""


class Output(Struct, frozen=True, kw_only=True, array_like=True, tag="o"):
    """What one decode step brought for one task.  `last`: nothing more will come for it."""

    id: int
    events: list[Event]
    last: bool = False


class Refused(Struct, frozen=True, kw_only=True, array_like=True, tag="x"):
    """A task that ends without an answer.

    `code` is one of core/errors.py, or `PREFILL_REFUSED`; `by_call`: the call is at fault, not the engine.
    """

    id: int
    code: str
    message: str
    by_call: bool = False


Answer: TypeAlias = Output | Refused


class Settings(Struct, frozen=True, kw_only=True, array_like=True):
    """How a llama model is opened.

    `context` is tokens of prompt and answer for one sequence; `busy_wait` lets threads spin for each other.
    """

    path: str
    context: int | None
    parallel: int
    threads: int
    prefill_chunk: int
    gpu_layers: int
    busy_wait: bool = False


class Opened(Struct, frozen=True, kw_only=True, array_like=True):
    """What an opened model is."""

    description: str
    context: int
    parallel: int
    has_template: bool
    vocabulary_count: int


class EngineFailed(Exception):
    """The model cannot be opened, or can no longer be used.  The text names file and reason."""


class TaskRefused(Exception):
    """One task cannot be done; others are unaffected."""

    def __init__(self, code: str, message: str, *, by_call: bool = False) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.by_call = by_call


class Engine(Protocol):
    """What the child's loop drives.  One thread, no waiting inside but for the computation itself."""

    @property
    def busy(self) -> bool:
        """Whether `step` has something to do."""
        ...

    def begin(self, task: Task) -> list[Answer]:
        """Take a task; the answer holds its refusal, if it is refused."""
        ...

    def cancel(self, task_id: int) -> None:
        """Forget a task at once; unknown ids are fine."""
        ...

    def step(self) -> list[Answer]:
        """Compute once for everybody."""
        ...

    def close(self) -> None:
        """Free what the library holds."""
        ...
