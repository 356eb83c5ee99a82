"""What the parts of the engine are to each other: forms, constraints, parsers, prompts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from hybrid_router.core.call import Part
from hybrid_router.core.event import Event, FinishReason


@dataclass(frozen=True)
class Form:
    """What an answer must look like.

    `kind` says what `source` is: a JSON Schema (as parsed JSON), a Lark grammar in llguidance's dialect, a
    GBNF grammar, or a regular expression.
    """

    kind: Literal["json_schema", "lark", "gbnf", "regex"]
    source: Any


class Constraint(Protocol):
    """Keeps one sequence within its form."""

    def restrict(self, logits: NDArray[np.float32]) -> None:
        """Set the logits of every token that may not come next to minus infinity."""
        ...

    def accept(self, token: int) -> None:
        """Take the token that was chosen."""
        ...

    @property
    def complete(self) -> bool:
        """Whether nothing can follow any more: the answer is over."""
        ...

    def forced(self) -> list[int]:
        """The tokens that must come next, as far as there is only one way on; mostly none."""
        ...


class Parser(Protocol):
    """Reads one choice's text as it grows: what is said, what is thought, what is to be called."""

    @property
    def thinking(self) -> bool:
        """Whether what comes now is reasoning."""
        ...

    @property
    def closing(self) -> str:
        """The text that ends the reasoning."""
        ...

    @property
    def over(self) -> bool:
        """Whether the answer is over, whatever the model goes on to say."""
        ...

    def feed(self, text: str) -> list[Event]:
        """Take more text; what it shows."""
        ...

    def flush(self, reason: FinishReason) -> list[Event]:
        """What was held back, now that nothing more comes; `reason`: why."""
        ...

    def reason(self, reason: FinishReason) -> FinishReason:
        """Why the answer ended, in the client's words: `tool_calls` for a `stop` after calls."""
        ...


@dataclass(frozen=True)
class Prompt:
    """A conversation as a model reads it, and how to read what it says.

    Attributes:
        text: rendered by the model's template, up to where the answer begins.
        parser: makes a parser for choice `index`; None: all text is content.
        form: what the answer must look like; None: anything.
        visible: special tokens that the parser wants to see, as they are written.
        stops: texts behind which nothing of this answer can come.
        media: what stands in the text for an image or sound → the part of the conversation.
    """

    text: str
    parser: Callable[[int], Parser] | None = None
    form: Form | None = None
    visible: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    media: Mapping[str, Part] = field(default_factory=dict)
