"""Conversations of one model: from a task to its prompt, and to what reads the answer."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol

from hybrid_router.core.call import Feature, Part
from hybrid_router.engines.llama.chat.formats import (
    FUNCTIONARY,
    GENERIC,
    HARMONY,
    THOUGHTS,
    Format,
    Thought,
    format_of,
    generic,
    thought_of,
)
from hybrid_router.engines.llama.chat.forms import Grammar, Ids
from hybrid_router.engines.llama.chat.harmony import HarmonyParser
from hybrid_router.engines.llama.chat.messages import (
    Plain,
    Taste,
    folded,
    instructed,
    listed,
    one_by_one,
    plain,
    taste_of,
)
from hybrid_router.engines.llama.chat.parameters import inlined
from hybrid_router.engines.llama.chat.parser import ChatParser, Manner
from hybrid_router.engines.llama.chat.template import Template
from hybrid_router.engines.llama.chat.tools import Tools, tools_of
from hybrid_router.engines.llama.chat.values import reasons, values_of
from hybrid_router.engines.llama.seams import Form, Parser, Prompt
from hybrid_router.engines.task import Task, TaskRefused

_HARMONY_THOUGHT = Thought("<|channel|>analysis<|message|>", "<|end|><|start|>assistant")


class Vocabulary(Protocol):
    """What is needed of `weights.Weights`."""

    def template(self, name: str | None = None) -> str | None:
        """The file's chat template, or the one of this name."""
        ...

    def special_text(self, which: str) -> str:
        """How `bos` and `eos` are written."""
        ...

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        """Token ids of `text`."""
        ...

    def shown_piece(self, token: int) -> bytes:
        """A token's bytes, special ones as templates write them."""
        ...


class Chat:
    """Prepares the conversations of one model.

    Attributes:
        can: what answers may hold beyond text.
        media: images or sound may be in the prompt.
    """

    can = frozenset({Feature.TOOLS})

    def __init__(self, vocabulary: Vocabulary, *, media: bool = False) -> None:
        """Compile the file's templates.

        Raises:
            jinja2.TemplateError: one is not valid Jinja, or too much of it.
            TaskRefused: the file has none.
        """
        source = vocabulary.template()
        if source is None:
            raise TaskRefused("template_failed", "this model has no chat template; use /v1/completions")
        self._vocabulary = vocabulary
        self.media = media
        self._voices = [_Way(vocabulary, source)]
        tool_source = vocabulary.template("tool_use")
        if tool_source is not None and tool_source != source:
            self._voices.append(_Way(vocabulary, tool_source))

    def prepare(self, task: Task, *, opening: str = "") -> Prompt:
        """The task's prompt.

        `opening`: how the answer begins; it is not in the prompt's text, and the parser has read it already.

        Raises:
            TaskRefused: the template refuses the conversation, or a field asks for what cannot be.
        """
        tools = tools_of(task)
        way = self._voices[-1 if tools else 0]
        values = values_of(task, way.format)
        marks = _Marks()
        conversation = plain(task.messages, way.taste, way.format.script, marks if self.media else None)
        if tools and way.taste.tools:
            values["tools"] = list(tools.documents)
        elif tools:
            conversation = instructed(conversation, tools.documents)
        text = way.render(conversation, values)
        prompt = _Draft(way, self._id, task, tools=tools, text=text, opening=opening).prompt()
        return replace(prompt, media=marks.parts)

    def _id(self, text: str) -> int | None:
        tokens = self._vocabulary.tokenize(text, add_special=False)
        if len(tokens) != 1 or self._vocabulary.shown_piece(tokens[0]) != text.encode():
            return None
        return tokens[0]


class _Marks:
    """Stands for images and sound in one prompt.  Nobody can write what it writes: it is drawn anew."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self._secret = secrets.token_hex(16)

    def __call__(self, part: Part) -> str:
        mark = f"<media-{self._secret}-{len(self.parts)}>"
        self.parts[mark] = part
        return mark


class _Way:
    """A template, and what is known of it."""

    def __init__(self, vocabulary: Vocabulary, source: str) -> None:
        self._template = Template(source, vocabulary.special_text("bos"), vocabulary.special_text("eos"))
        self.source = source
        self._format = format_of(source)
        self.thought = _HARMONY_THOUGHT if self._format is HARMONY else thought_of(source)

    @cached_property
    def taste(self) -> Taste:
        """What the template wants messages to be; what it says in a way unknown to us is said in ours."""
        found = taste_of(self.source, self._template.render)
        known = found.tools and self._format is not GENERIC
        return found if known else replace(found, tools=False, calls=False)

    @property
    def format(self) -> Format:
        """How calls are written."""
        return self._format if self.taste.tools or self._format is HARMONY else generic(self._format)

    def render(self, messages: list[Plain], values: dict[str, Any]) -> str:
        """The prompt.

        Where the template refuses, it is asked again without a system role, what the system says being said
        by the user, and with calls one at a time.
        """
        if self._format is HARMONY:  # shows one call of a turn, and says nothing about the others
            messages = one_by_one(messages)
        try:
            return self._written(messages, values)
        except TaskRefused as refused:
            if refused.code != "template_refused":
                raise
            for other in (folded(messages), one_by_one(messages)):
                text = self._rendered(other, values)
                if text is not None:
                    return text
            raise

    def _written(self, messages: list[Plain], values: dict[str, Any]) -> str:
        return self._template.render(listed(messages) if self.taste.listed else messages, values)

    def _rendered(self, messages: list[Plain] | None, values: dict[str, Any]) -> str | None:
        try:
            return None if messages is None else self._written(messages, values)
        except TaskRefused:
            return None


class _Draft:
    """A rendered conversation on its way to a prompt."""

    def __init__(self, way: _Way, ids: Ids, task: Task, *, tools: Tools, text: str, opening: str) -> None:
        self._format = way.format
        self._ids = ids
        self._task = task
        self._tools = tools
        self._opening = opening
        self._thought = way.thought or self._ended_by(text) or self._spelled()
        self._text = text
        self._thinks = self._thought is not None and self._ends_with(self._thought.begin)
        self._may_think = self._thought is not None and not self._closed() and reasons(task) is not False
        self._begun = bool(opening) or self._kind == "grammar"
        if self._begun or not self._may_think:
            self._conclude()

    @property
    def _kind(self) -> str | None:
        return (self._task.response_format or {}).get("type")

    def _ended_by(self, text: str) -> Thought | None:
        """Reasoning that the prompt begins, though the template's words do not tell so."""
        return next((thought for thought in THOUGHTS if text.rstrip().endswith(thought.begin.strip())), None)

    def _spelled(self) -> Thought | None:
        """Reasoning that the vocabulary has a token for."""
        return next((thought for thought in THOUGHTS[:2] if self._ids(thought.begin) is not None), None)

    def _ends_with(self, marker: str) -> bool:
        return self._text.rstrip().endswith(marker.strip())

    def _closed(self) -> bool:
        """Whether the template has ended the reasoning before it began."""
        return self._thought is not None and self._ends_with(self._thought.end)

    def _conclude(self) -> None:
        """No reasoning: what the prompt has begun ends here; so does what stands before text, if it must."""
        self._may_think = False
        if self._thinks and self._thought is not None:
            self._text += f"\n{self._thought.end}\n\n"
        if self._begun:
            self._text += self._format.said[0]
        self._thinks = False

    def prompt(self) -> Prompt:
        """The prompt."""
        return Prompt(
            text=self._text,
            parser=self._parser(),
            form=self._form(),
            visible=self._visible(),
        )

    def _parser(self) -> Callable[[int], Parser] | None:
        primed = ">>>" if self._format is FUNCTIONARY and self._text.endswith(">>>") else ""
        harmony = self._format is HARMONY
        silent = harmony or self._format.silent or primed
        if not (self._tools or self._thought or silent):
            return None
        manner = Manner(self._format, self._tools, self._thought, self._thinks, primed, self._begun)
        kind = HarmonyParser if harmony else ChatParser
        opening = self._opening
        return lambda index: kind(index, manner, opening)

    def _visible(self) -> tuple[str, ...]:
        """Markers that are tokens of their own, which would not show otherwise."""
        thought = (self._thought.begin, self._thought.end) if self._thought else ()
        markers = (*self._format.markers, *self._format.silent, *thought)
        return tuple(marker for marker in dict.fromkeys(markers) if self._ids(marker) is not None)

    def _form(self) -> Form | None:
        answer = form_of(self._task.response_format)
        if self._tools and self._tools.choice == "required":
            return Form("lark", self._grammar.calls(self._tools))
        if answer is None:
            lark = self._grammar.lazy(self._tools) if self._tools.strict else None
            return None if lark is None else Form("lark", lark)
        if answer.kind == "gbnf":
            return answer
        if self._tools:
            return Form("lark", self._grammar.calls_or(self._tools, _inlined(answer)))
        if self._may_think or (self._format.said[0] and not self._begun):
            return Form("lark", self._grammar.answer(_inlined(answer)))
        return answer

    @property
    def _grammar(self) -> Grammar:
        thought = (self._thought.begin, self._thought.end) if self._thought and self._may_think else None
        return Grammar(self._format, self._ids, thought, self._thinks, self._begun)


def form_of(response_format: dict[str, Any] | None) -> Form | None:
    """What a call's text must look like; None: anything."""
    match response_format:
        case {"type": "json_object"}:
            return Form("json_schema", {"type": "object"})
        case {"type": "json_schema", "json_schema": {"schema": schema}}:
            return Form("json_schema", schema)
        case {"type": "json_schema"}:
            return Form("json_schema", {})
        case {"type": "grammar", "grammar": str(grammar)}:
            return Form("gbnf", grammar)
        case {"type": "regex", "regex": str(pattern)}:
            return Form("regex", pattern)
    return None


def _inlined(answer: Form) -> str:
    """An answer's form as a grammar's expression."""
    if answer.kind == "regex":
        return f"/{_SLASH.sub(_escaped, answer.source)}/"
    return inlined(answer.source)


_SLASH = re.compile(r"\\.|/", re.DOTALL)


def _escaped(found: re.Match[str]) -> str:
    return "\\/" if found.group() == "/" else found.group()
