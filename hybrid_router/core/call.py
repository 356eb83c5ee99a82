"""A call: one inference request after parsing.  Immutable, whatever dialect it came in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Literal

from msgspec import Struct, field

from hybrid_router.core.asks import Ask
from hybrid_router.core.upload import Upload


class Operation(StrEnum):
    """What a call asks for."""

    CHAT = "chat"
    COMPLETE = "complete"
    EMBED = "embed"
    RERANK = "rerank"
    TRANSCRIBE = "transcribe"
    SPEAK = "speak"
    IMAGE = "image"
    CLASSIFY = "classify"
    TRANSLATE = "translate"
    MODERATE = "moderate"


# Operations with one answer, however many texts and files they take.
_ONE_FOR_ALL = frozenset({Operation.TRANSCRIBE, Operation.SPEAK, Operation.IMAGE, Operation.CLASSIFY})


def usual(known: Iterable[frozenset[Operation]]) -> Operation:
    """What is asked of models of which nothing else is said: a chat, or the first that any of them does."""
    able = frozenset[Operation]().union(*known)
    return next((each for each in Operation if each in able), Operation.CHAT)


class Feature(StrEnum):
    """What a step must be able to do, or it is left out of the plan."""

    TOOLS = "tools"
    IMAGES = "images"
    AUDIO = "audio"
    SCHEMA = "schema"  # response_format other than text
    LOGPROBS = "logprobs"
    GRAMMAR = "grammar"  # response_format grammar or regex
    INFILL = "infill"  # a completion with a suffix
    ADAPTERS = "adapters"  # LoRA, by name
    PREFILL = "prefill"  # a chat that goes on from the assistant's last message
    SPEECH_TRANSLATION = "speech_translation"  # a transcript in English, whatever is spoken
    IMAGE_INPUT = "image_input"  # a picture made from a picture
    INPAINTING = "inpainting"  # only part of it changes: there is a mask
    PROMPTS = "prompts"  # an embedding with a prompt of the model's own, by its name


class TextPart(Struct, frozen=True, tag="text", tag_field="type"):
    """A piece of a message's text."""

    text: str


class RefusalPart(Struct, frozen=True, tag="refusal", tag_field="type"):
    """An assistant's earlier refusal."""

    refusal: str


class ImagePart(Struct, frozen=True, tag="image_url", tag_field="type"):
    """An image; `image_url` holds `url` (a data: URL) and maybe `detail`."""

    image_url: dict[str, Any]


class AudioPart(Struct, frozen=True, tag="input_audio", tag_field="type"):
    """Sound; `input_audio` holds base64 `data` and `format`."""

    input_audio: dict[str, Any]


class FilePart(Struct, frozen=True, tag="file", tag_field="type"):
    """A file; `file` holds `file_data` or `file_id`."""

    file: dict[str, Any]


Part = TextPart | RefusalPart | ImagePart | AudioPart | FilePart


class FunctionCall(Struct, frozen=True):
    """What a model wants called; `arguments` is a string of JSON and may be invalid."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True, kw_only=True):
    """One call that an assistant message asks for."""

    id: str
    type: Literal["function"] = "function"
    function: FunctionCall


class Message(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    content: str | list[Part] | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None

    @property
    def text(self) -> str:
        """The message's text parts, joined; other parts count as nothing."""
        if self.content is None:
            return ""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.text for part in self.content if isinstance(part, TextPart))


class Adapter(Struct, frozen=True):
    """A LoRA adapter that the model's configuration names, and how strongly it counts."""

    name: str
    scale: float = 1.0


class Sampling(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How the next token is chosen and when to stop.  None means: the backend's own default.

    The names and ranges below `logit_bias` are llama.cpp's (`llama_sampler_init_*` in llama.h).
    """

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repeat_penalty: float | None = None
    seed: int | None = None
    stop: tuple[str, ...] = ()
    logit_bias: dict[int, float] = field(default_factory=dict)
    typical_p: float | None = None
    repeat_last_n: int | None = None
    dry_multiplier: float | None = None
    dry_base: float | None = None
    dry_allowed_length: int | None = None
    dry_penalty_last_n: int | None = None
    dry_sequence_breakers: tuple[str, ...] | None = None
    xtc_probability: float | None = None
    xtc_threshold: float | None = None
    mirostat: int | None = None
    mirostat_tau: float | None = None
    mirostat_eta: float | None = None
    ignore_eos: bool = False


class Call(Struct, frozen=True, kw_only=True):
    """One inference request.

    `messages` is set for chat, `prompts` (texts, or token ids of the model's own vocabulary) for
    complete, for embed, and for rerank, where they are the documents that `query` is compared with.
    Every other operation has its details in `ask`, its texts in `prompts` and its files in `uploads`.
    Choice `i` of `n` for prompt `p` has index `p * n + i`.
    `response_format` is OpenAI's, or `{"type": "grammar", "grammar": GBNF}`, or `{"type": "regex",
    "regex": pattern}`.  `top_logprobs`: log probabilities of the answer's tokens are wanted, and of so many
    others at each place; None: none.  `echo`: those of the prompt too (complete).  `suffix`: what follows
    the text that is wanted (complete).  `truncate`: which part of a conversation, or of a prompt, may be
    left out when it is too long; None: it is refused.
    `reasoning_effort` and `template_values` go to the chat template where it knows them;
    `reasoning_tokens` bounds the reasoning.
    `goes_on`: the last message is the assistant's, and the answer is what follows in it (chat).
    `headers` are the request's, names in lower case, values of one name joined by `, `.
    `path` is the request's, such as `/v1/completions`.  `deadline_s` and `max_cost_usd` are what the client
    allows at most; None: what the policy allows.
    `written` is the beginning of the answer that is out already: a backend that is given one continues it
    and yields only what follows.  Then there is one choice.  It came in `written_count` pieces, mostly of a
    token each.  `session` names the conversation.
    `extra` holds body fields that no dialect field covers, as parsed JSON: a backend forwards those it
    declares, the rest are named to the client.
    """

    id: str
    operation: Operation
    alias: str
    messages: tuple[Message, ...] = ()
    prompts: tuple[str | tuple[int, ...], ...] = ()
    sampling: Sampling = Sampling()
    n: int = 1
    stream: bool = False
    tools: tuple[dict[str, Any], ...] = ()
    tool_choice: Any = None
    parallel_tool_calls: bool | None = None
    response_format: dict[str, Any] | None = None
    top_logprobs: int | None = None
    echo: bool = False
    suffix: str | None = None
    query: str = ""
    truncate: Literal["middle", "oldest", "end"] | None = None
    goes_on: bool = False
    reasoning_effort: str | None = None
    reasoning_tokens: int | None = None
    template_values: dict[str, Any] = field(default_factory=dict)
    adapters: tuple[Adapter, ...] = ()
    features: frozenset[Feature] = frozenset()
    principal: str = "local"
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    deadline_s: float | None = None
    max_cost_usd: float | None = None
    written: str = ""
    written_count: int = 0
    session: str | None = None
    extra: dict[str, Any] = field(default_factory=dict)
    ask: Ask | None = None
    uploads: tuple[Upload, ...] = ()

    @property
    def choices_count(self) -> int:
        """How many choices the answer has."""
        return self.n * answers_count(self.operation, len(self.prompts) + len(self.uploads))


def answers_count(operation: Operation, inputs_count: int) -> int:
    """How many answers so many texts and files get, if each gets one of its own."""
    return 1 if operation in _ONE_FOR_ALL else max(1, inputs_count)
