"""What an answer must look like, as a grammar: calls with arguments bound to their schema, after reasoning.

Grammars are in llguidance's dialect of Lark: `%json {…}` is text of a JSON Schema, `<[7]>` is token 7, a rule
with a `suffix` ends where that text first appears.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from hybrid_router.engines.llama.chat.formats import Format, Script, TagScript
from hybrid_router.engines.llama.chat.parameters import arguments_of, value_of
from hybrid_router.engines.llama.chat.source import Markers
from hybrid_router.engines.llama.chat.tagged import is_text
from hybrid_router.engines.llama.chat.tools import MOST_CALLS_COUNT, Tool, Tools

Ids = Callable[[str], int | None]  # the token that is written so; None: it takes several
_ANYTHING = "/(.|\\n)*/"


@dataclass(frozen=True)
class Grammar:
    """Writes the grammars of one model's format.

    Attributes:
        format: how calls are written.
        ids: which of its markers are single tokens.
        thought: what stands around reasoning that may come first; None: there is none.
        thinks: it has begun already.
        begun: what stands before text has been written.
    """

    format: Format
    ids: Ids
    thought: tuple[str, str] | None = None
    thinks: bool = False
    begun: bool = False

    def calls(self, tools: Tools) -> str:
        """Nothing but calls."""
        return self._whole("calls", self._call_rules(tools))

    def calls_or(self, tools: Tools, answer: str) -> str:
        """Calls, or an answer; `answer` is a grammar's expression."""
        return self._whole("(calls | said)", [*self._call_rules(tools), self._said(answer)])

    def answer(self, answer: str) -> str:
        """An answer behind reasoning."""
        return self._whole("said", [self._said(answer)])

    def lazy(self, tools: Tools) -> str | None:
        """Any text, but calls only as they should be; None: text and calls cannot be told apart."""
        opener = self._opener()
        if opener is None:
            return None
        rules = self._call_rules(tools, without=opener)
        token = self.ids(opener)
        ways = [f"spoken[suffix={_quoted(opener)}]: {_ANYTHING}", "begun: spoken"]
        if token is not None:
            ways[-1] = f"begun: spoken | TEXT <[{token}]>"
        return self._whole("(TEXT | begun calls)", [*rules, *ways, f"TEXT: {_ANYTHING}"])

    def _opener(self) -> str | None:
        """The marker that every call, or all of them together, begin with."""
        if self.format.script is not None:
            begin = self.format.script.begin or self.format.script.before
        else:
            begin = self.format.tagged.begin if self.format.tagged else ""
        return next((opener for opener in self.format.openers if begin.startswith(opener)), None)

    def _whole(self, start: str, rules: Iterable[str]) -> str:
        lines = [f"start: {start}", *rules]
        if self.thought is not None:
            begin, end = self.thought
            lines[0] = f"start: thought GAP? {start}" if self.thinks else f"start: (opened GAP?)? {start}"
            lines += [f"opened: {self._text(begin)} thought", "GAP: /[ \\n]{1,4}/"]
            lines += self._up_to("thought", end)
        return "\n".join(lines) + "\n"

    def _up_to(self, rule: str, end: str) -> list[str]:
        """Text up to the first `end`, and over it."""
        first = Markers(self.format.markers + ((end,) if self.ids(end) is not None else ())).first
        at, marker = first(end, final=True)
        token = self.ids(marker) if marker is not None and at == 0 else None
        by_text = f"{rule}_text[suffix={_quoted(end)}]: {_ANYTHING}"
        if token is None or marker is None:
            return [f"{rule}: {rule}_text", by_text]
        behind = self._text(end[len(marker) :])
        return [
            f"{rule}: {rule}_text | {rule.upper()}_PART <[{token}]> {behind}".rstrip(),
            by_text,
            f"{rule.upper()}_PART: {_ANYTHING}",
        ]

    def _said(self, answer: str) -> str:
        before, after = self.format.said
        before = "" if self.begun else before
        return " ".join(filter(None, ("said:", self._text(before), answer, self._text(after))))

    def _call_rules(self, tools: Tools, without: str = "") -> list[str]:
        """Rules for `calls`; `without` the marker that was read already."""
        script = self.format.script
        if script is not None:
            return self._scripted(script, tools, without)
        if self.format.tagged is not None:
            return self._tagged(self.format.tagged, tools, without)
        raise ValueError(f"{self.format.name} has no grammar")

    def _scripted(self, script: Script, tools: Tools, without: str) -> list[str]:
        outer = script.begin.removeprefix(without)
        many = self._more(script.joint or "", tools.many and script.joint is not None)
        rules = [f"calls: {self._text(outer)} first {many} {self._text(script.end)}"]
        for number, tool in enumerate(tools.offered.values()):
            rules.append(f"rest_{number}: {arguments_of(tool)} {self._text(script.after)}")
        begins = [script.named(name) for name in tools.offered]
        return [*rules, *self._begun(begins, "" if script.begin else without)]

    def _begun(self, begins: list[str], without: str) -> list[str]:
        """Rules for a call, and for the first one, whose marker may have been read."""
        rules = [f"call: {self._choices(begins)}"]
        first = [begin.removeprefix(without) for begin in begins]
        return [*rules, f"first: {self._choices(first)}" if without else "first: call"]

    def _choices(self, begins: list[str]) -> str:
        return " | ".join(f"{self._text(begin)} rest_{number}" for number, begin in enumerate(begins))

    def _more(self, joint: str, many: bool) -> str:
        return f"({self._text(joint)} call){{0,{MOST_CALLS_COUNT - 1}}}" if many else ""

    def _tagged(self, script: TagScript, tools: Tools, without: str) -> list[str]:
        rules = [f"calls: first {self._more(chr(10), tools.many)}"]
        for number, tool in enumerate(tools.offered.values()):
            names, values = self._parameters(script, tool, number)
            rules += [f"rest_{number}: {' '.join([*names, self._text(script.end)])}", *values]
        begins = [script.begin.replace("NAME", name) for name in tools.offered]
        return [*rules, *self._begun(begins, without)]

    def _parameters(self, script: TagScript, tool: Tool, number: int) -> tuple[list[str], list[str]]:
        """The parameters' rules by name, with a question mark where they may be left out; and the rules."""
        names, rules = [], []
        properties = tool.parameters.get("properties")
        for at, name in enumerate(properties if isinstance(properties, dict) else ()):
            rule = f"p_{number}_{at}"
            names.append(rule if name in tool.required else f"{rule}?")
            begin = self._text(script.key.replace("NAME", name))
            schema = tool.schema_of(name)
            if is_text(schema) and "enum" not in schema:
                rules += [f"{rule}: {begin} {rule}_v", *self._up_to(f"{rule}_v", script.value_end)]
                continue
            words = schema.get("enum") if is_text(schema) else None
            value = f"({' | '.join(map(_quoted, words))})" if words else value_of(tool, name)
            rules.append(f"{rule}: {begin} {value} {self._text(script.value_end)}")
        return names, rules

    def _text(self, text: str) -> str:
        """A text as an expression: markers that are tokens as such, or spelled out."""
        pieces = []
        single = tuple(mark for mark in self.thought or () if self.ids(mark) is not None)
        markers = Markers(self.format.markers + single)
        while text:
            at, marker = markers.first(text, final=True)
            if at:
                pieces.append(_quoted(text[:at]))
            if marker is not None:
                token = self.ids(marker)
                pieces.append(_quoted(marker) if token is None else f"(<[{token}]> | {_quoted(marker)})")
            text = text[at + len(marker or "") :]
        return " ".join(pieces)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
