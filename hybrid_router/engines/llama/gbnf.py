"""GBNF, llama.cpp's notation for grammars, written anew as Lark for llguidance.

Why not llama.cpp's own sampler: it takes five to eighty times as long (docs/benchmarks.md), it knows no
forced tokens, and what goes wrong in it ends the process.  Why not llguidance's own conversion: it fuses
rules into greedy lexemes, so that a rule `[a-z]*` swallows the `"z"` behind it, it writes `\\u00e9` so that
it cannot be read back, and `.` leaves line ends out.  Here every character is a lexeme of its own, so that
the language stays exactly the grammar's; that costs 1 ms a token or two where lexemes would mostly take 0.1.

Source: grammars/README.md and src/llama-grammar.cpp of llama.cpp.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from hybrid_router.engines.llama.schemas import refuse

MOST_RULES = 1000
_DEPTH_COUNT = 25  # llguidance reads no more than about 30
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANK_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_REPEAT = re.compile(r"\{\s*(\d+)\s*(?:(,)\s*(\d+)?\s*)?\}")
_ONE = re.compile(r"r\d+|/[^ ]*/|\(.*\)")  # Lark that a repetition can follow as it is
_ESCAPE = re.compile(r'\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([nrt\\"\[\]]))')
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t"}
_LAST_CHARACTER = 0x10FFFF


def lark_of(source: str) -> str:
    """The same language in llguidance's Lark.

    Raises:
        TaskRefused: not GBNF, or too big; says where.
    """
    return _Reader(source).read()


@dataclass
class _Reader:
    """A recursive descent through the source; `at` is where it stands."""

    source: str
    at: int = 0
    depth: int = 0
    names: dict[str, str] = field(default_factory=dict)
    rules: dict[str, str] = field(default_factory=dict)

    def read(self) -> str:
        self._skip(_BLANK_LINES)
        while self.at < len(self.source):
            self._rule()
            self._skip(_BLANK_LINES)
        for name in self.names:
            if name not in self.rules:
                raise refuse(f"the grammar has no rule {name!r}")
        if "root" not in self.rules:
            raise refuse("the grammar has no rule 'root', where it would begin")
        lines = [f"start: {self._lark_name('root')}"]
        lines += [f"{self._lark_name(name)}: {body}" for name, body in self.rules.items()]
        return "\n".join(lines) + "\n"

    def _rule(self) -> None:
        name = self._name()
        self._skip(_BLANK)
        if not self._take("::="):
            raise self._wrong("expected ::=")
        self._skip(_BLANK_LINES)
        if len(self.rules) == MOST_RULES:
            raise refuse(f"the grammar has more than {MOST_RULES} rules")
        self.rules[name] = self._alternatives(_BLANK)
        if self.at < len(self.source) and self.source[self.at] not in "\r\n":
            raise self._wrong("expected the end of the rule")
        self._lark_name(name)

    def _alternatives(self, blank: re.Pattern[str]) -> str:
        """`a b | c`; a rule ends with its line, a group (where `blank` passes over line ends) with `)`."""
        found = [self._sequence(blank)]
        while self._take("|"):
            self._skip(_BLANK_LINES)
            found.append(self._sequence(blank))
        return " | ".join(found)

    def _sequence(self, blank: re.Pattern[str]) -> str:
        items = []
        while (item := self._item()) is not None:
            self._skip(blank)
            while (times := self._times()) is not None:
                item = f"{item if _ONE.fullmatch(item) else f'({item})'}{times}"
                self._skip(blank)
            items.append(item)
        return " ".join(items) or '""'

    def _item(self) -> str | None:
        """One thing of a sequence, as Lark; None: the sequence is over."""
        if self._take('"'):
            return self._literal()
        if self._take("["):
            return self._class()
        if self._take("("):
            return self._group()
        if self._take("."):
            return "/(?s:.)/"
        if _NAME.match(self.source, self.at):
            return self._lark_name(self._name())
        if self.source.startswith(("<", "!"), self.at):
            raise self._wrong("tokens by name are not supported")
        return None

    def _group(self) -> str:
        self.depth += 1
        if self.depth > _DEPTH_COUNT:
            raise self._wrong(f"groups are nested more than {_DEPTH_COUNT} deep")
        self._skip(_BLANK_LINES)
        inside = self._alternatives(_BLANK_LINES)
        if not self._take(")"):
            raise self._wrong("expected )")
        self.depth -= 1
        return f"({inside})"

    def _literal(self) -> str:
        characters = []
        while not self._take('"'):
            characters.append(self._character())
        return " ".join(json.dumps(c, ensure_ascii=False) for c in characters) or '""'

    def _class(self) -> str:
        negated, ranges = self._take("^"), []
        while not self._take("]"):
            first = last = self._character()
            if self.source.startswith("-", self.at) and not self.source.startswith("-]", self.at):
                self.at += 1
                last = self._character()
            if last < first:
                raise self._wrong(f"the range {first}-{last} is empty")
            ranges.append(f"\\x{{{ord(first):x}}}-\\x{{{ord(last):x}}}")
        if not ranges:
            return "/(?s:.)/" if negated else self._nothing()
        return f"/[{'^' if negated else ''}{''.join(ranges)}]/"

    def _nothing(self) -> str:
        raise self._wrong("[] matches nothing")

    def _character(self) -> str:
        """One character of a literal or class, perhaps escaped."""
        if self.at >= len(self.source):
            raise self._wrong("the grammar ends within quotes or brackets")
        if self.source[self.at] != "\\":
            self.at += 1
            return self.source[self.at - 1]
        found = _ESCAPE.match(self.source, self.at)
        if found is None:
            raise self._wrong("unknown escape")
        if found[4]:
            self.at = found.end()
            return _ESCAPED.get(found[4], found[4])
        code = int(found[1] or found[2] or found[3], 16)
        if code > _LAST_CHARACTER or 0xD800 <= code < 0xE000:  # noqa: PLR2004 - surrogates, Unicode 3.9
            raise self._wrong("no such character")
        self.at = found.end()
        return chr(code)

    def _times(self) -> str | None:
        """A repetition behind an item, as Lark writes it."""
        for sign in "*+?":
            if self._take(sign):
                return sign
        if not self.source.startswith("{", self.at):
            return None
        found = _REPEAT.match(self.source, self.at)
        if found is None:
            raise self._wrong("expected {m}, {m,} or {m,n}")
        least, most = int(found[1]), found[3]
        if most is not None and int(most) < least:
            raise self._wrong("the repetition ends before it begins")
        self.at = found.end()
        return f"{{{least},{most or ''}}}" if found[2] else f"{{{least}}}"

    def _name(self) -> str:
        found = _NAME.match(self.source, self.at)
        if found is None:
            raise self._wrong("expected a rule's name")
        self.at = found.end()
        return found[0]

    def _lark_name(self, name: str) -> str:
        """Lark's rules are in small letters, so ours are numbered."""
        return self.names.setdefault(name, f"r{len(self.names)}")

    def _take(self, text: str) -> bool:
        found = self.source.startswith(text, self.at)
        self.at += len(text) if found else 0
        return found

    def _skip(self, blank: re.Pattern[str]) -> None:
        found = blank.match(self.source, self.at)
        self.at = found.end() if found else self.at

    def _wrong(self, what: str) -> Exception:
        line = self.source.count("\n", 0, self.at) + 1
        column = self.at - (self.source.rfind("\n", 0, self.at) + 1) + 1
        return refuse(f"the grammar is not GBNF: line {line}, column {column}: {what}")
