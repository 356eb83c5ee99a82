"""What an engine is asked and what it answers.  Shared by both ends of the pipe; imports no library."""

from __future__ import annotations

from typing import Any, Protocol, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.asks import Ask
from hybrid_router.core.call import Adapter, Feature, Message, Operation, Sampling
from hybrid_router.core.event import Event
from hybrid_router.core.upload import Upload

PREFILL_REFUSED = "prefill_refused"
WORKER_BUSY = "worker_busy"  # it has no room for a task's files now
MOST_PARALLEL = 8  # sequences at a time where nobody says how many


class Task(Struct, frozen=True, kw_only=True, array_like=True):
    """A call, as far as an engine needs it.  `id` is the pipe's own, unique for one child's life.

    `written` is the beginning of the answer, which is out already: the engine goes on behind it.
    `sampling.max_tokens` and `Usage.completion_tokens` count it with the rest.
    `private`: nothing of it may be kept on a disk.  `uploads` are the child's own descriptors, open while
    `Engine.begin` runs: what is needed of them later is mapped there.  The other fields are those of
    `core.call.Call`.
    """

    id: int
    operation: Operation
    messages: tuple[Message, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    sampling: Sampling = field(default_factory=Sampling)
    n: int = 1
    written: str = ""
    principal: str = "local"
    private: bool = False
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    top_logprobs: int | None = None
    echo: bool = False
    suffix: str | None = None
    query: str = ""
    truncate: str | None = None
    reasoning_effort: str | None = None
    reasoning_tokens: int | None = None
    template_values: dict[str, Any] = field(default_factory=dict)
    adapters: tuple[Adapter, ...] = ()
    goes_on: bool = False
    ask: Ask | None = None
    uploads: tuple[Upload, ...] = ()


class Output(Struct, frozen=True, kw_only=True, array_like=True, tag="o"):
    """What one decode step brought for one task.  `last`: nothing more will come for it."""

    id: int
    events: list[Event]
    last: bool = False


class Refused(Struct, frozen=True, kw_only=True, array_like=True, tag="x"):
    """A task that ends without an answer.

    `code` is one of core/errors.py, `PREFILL_REFUSED` or `WORKER_BUSY`; `by_call`: the call is at fault, not
    the engine; `param`: the field that is.
    """

    id: int
    code: str
    message: str
    by_call: bool = False
    param: str | None = None


Answer: TypeAlias = Output | Refused


class Opened(Struct, frozen=True, kw_only=True, array_like=True):
    """What an opened model is.

    `can` names what it understands beyond text: tools, schema, images, ….  `width`: of its embeddings.
    `gpu_layers`: that are on GPUs; None: layers cannot be placed one by one.
    `context`: tokens that fit; None: tokens are not what limits it.  `unguarded`: what the system did not
    grant of the sandbox around it, in words; the child's loop adds it.
    """

    description: str
    parallel: int
    context: int | None = None
    has_template: bool = False
    vocabulary_count: int = 0
    can: frozenset[Feature] = frozenset()
    width: int = 0
    gpu_layers: int | None = None
    unguarded: tuple[str, ...] = ()


class EngineFailed(Exception):
    """The model cannot be opened, or can no longer be used.  The text names file and reason."""


class TaskRefused(Exception):
    """One task cannot be done; others are unaffected."""

    def __init__(self, code: str, message: str, *, by_call: bool = False, param: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.by_call = by_call
        self.param = param

    def told(self, task_id: int) -> Refused:
        """It as an answer."""
        return Refused(
            id=task_id, code=self.code, message=self.message, by_call=self.by_call, param=self.param
        )


class Engine(Protocol):
    """What the child's loop drives.  One thread, no waiting inside but for the computation itself."""

    def opened(self) -> Opened:
        """What the model is."""
        ...

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

    def idle(self) -> bool:
        """Do a little that is useful later.  Returns whether there was anything to do."""
        ...

    def close(self) -> None:
        """Put away what is kept, within seconds; free what the library holds."""
        ...
