"""What an engine is asked and what it answers.  Shared by both ends of the pipe; imports no library."""

from __future__ import annotations

from typing import Any, Literal, Protocol, TypeAlias

from msgspec import Struct, field

from hybrid_router.core.call import Adapter, Feature, Message, Operation, Sampling
from hybrid_router.core.event import Event

PREFILL_REFUSED = "prefill_refused"
MOST_PARALLEL = 8  # sequences at a time where nobody says how many


class Task(Struct, frozen=True, kw_only=True, array_like=True):
    """A call, as far as an engine needs it.  `id` is the pipe's own, unique for one child's life.

    `written` is the beginning of the answer, which is out already: the engine goes on behind it.
    `sampling.max_tokens` and `Usage.completion_tokens` count it with the rest.
    `private`: nothing of it may be kept on a disk.  The other fields are those of `core.call.Call`.
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


class Output(Struct, frozen=True, kw_only=True, array_like=True, tag="o"):
    """What one decode step brought for one task.  `last`: nothing more will come for it."""

    id: int
    events: list[Event]
    last: bool = False


class Refused(Struct, frozen=True, kw_only=True, array_like=True, tag="x"):
    """A task that ends without an answer.

    `code` is one of core/errors.py, or `PREFILL_REFUSED`; `by_call`: the call is at fault, not the engine;
    `param`: the field that is.
    """

    id: int
    code: str
    message: str
    by_call: bool = False
    param: str | None = None


Answer: TypeAlias = Output | Refused


class AdapterFile(Struct, frozen=True, array_like=True):
    """A LoRA adapter beside a model: its name in calls, and its GGUF.

    `always`: the scale it has in calls that name no adapter; 0: it is used only where it is named.
    """

    name: str
    path: str
    always: float = 0.0


class Offload(Struct, frozen=True, kw_only=True, array_like=True):
    """What runs on GPUs.  `layers` None: as many as fit the free memory; -1: all.

    `split` is how layers are spread over several (`llama_split_mode`), `shares` their proportions.
    """

    layers: int | None = 0
    split: Literal["none", "layer", "row"] = "layer"
    main: int = 0
    shares: tuple[float, ...] = ()


class Keeping(Struct, frozen=True, kw_only=True, array_like=True):
    """What is kept of prompts that were computed, so that they need not be computed again.

    `ram_bytes` bounds what is kept beside the context, `folder` (None: no files) and `disk_bytes` what
    survives this process.  `everyone`: a principal may profit from another's prompts.
    """

    ram_bytes: int = 512 * 2**20
    folder: str | None = None
    disk_bytes: int = 0
    everyone: bool = False


class Drafting(Struct, frozen=True, kw_only=True, array_like=True):
    """Tokens guessed ahead, at most `most_tokens` a step: by looking them up in the prompt, or by a small
    model of the same vocabulary."""

    most_tokens: int = 0
    model_path: str | None = None


class Settings(Struct, frozen=True, kw_only=True, array_like=True):
    """How a llama model is opened.

    `context` is tokens of prompt and answer for one sequence; `parallel` None: from memory and context;
    `busy_wait` lets threads spin for each other.  `sha256` is the file's.  `purpose`: what it is asked for.
    `projector_path`: the model that turns images and sound into its tokens.
    `key_type` and `value_type` are how the KV cache holds its numbers.
    """

    path: str
    context: int | None
    parallel: int | None
    threads: int
    prefill_chunk: int
    busy_wait: bool = False
    sha256: str = ""
    purpose: Literal["generate", "embed", "rerank"] = "generate"
    offload: Offload = Offload()
    flash_attention: Literal["auto", "on", "off"] = "auto"
    key_type: str = "f16"
    value_type: str = "f16"
    keeping: Keeping = Keeping()
    drafting: Drafting = Drafting()
    adapters: tuple[AdapterFile, ...] = ()
    projector_path: str | None = None


class Opened(Struct, frozen=True, kw_only=True, array_like=True):
    """What an opened model is.

    `can` names what it understands beyond text: tools, schema, images, ….  `width`: of its embeddings.
    """

    description: str
    context: int
    parallel: int
    has_template: bool
    vocabulary_count: int
    can: frozenset[Feature] = frozenset()
    width: int = 0
    gpu_layers: int = 0


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
