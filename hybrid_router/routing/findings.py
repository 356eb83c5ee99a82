"""Secrets and personal numbers in a text: whether there are any, and where.

One pattern that is found wherever any form is comes first, so that a text in which nothing is to be found, as
nearly all are, is read once.  Then candidates are checked.  Reading is linear (RE2) and checking is bounded:
a text that is longer than `MOST_BYTES`, or has more candidates than `MOST_EFFORT` pays for, counts as found.

Text beyond ASCII is searched as a reader sees it: without invisible characters, and with full-width and other
forms of letters and digits as plain ones (Unicode's NFKC).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Any, Final, NamedTuple

import re2

from hybrid_router.routing import numbers
from hybrid_router.routing.forms import FORMS, Form

KINDS: Final = ("api_keys", "private_keys", "tokens", "emails", "phones", "cards", "ibans")
_GROUPS: Final = {"secrets": KINDS[:3], "pii": KINDS[3:]}
MOST_BYTES: Final = 4 * 2**20
MOST_EFFORT: Final = 30_000  # of checking one text, in microseconds or so
_PREFIX_BYTES = 1_024  # no form has more before the finding itself

_BEYOND_ASCII = re.compile(r"[^\x00-\x7f]+")
_INVISIBLE = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
# What NFKC makes letters, digits, dots, signs or spaces of ASCII from: common marks of Chinese, Japanese and
# typography are not here, for normalizing takes long.
_DISGUISED = (
    "\u00aa\u00b2\u00b3\u00b9\u00ba\u00bc-\u00be\u0132\u0133\u013f\u0140\u0149\u017f\u01c4-\u01cc\u01f1-\u01f3"
    "\u02b0-\u02b8\u02e1-\u02e3\u1d2c-\u1dbf\u1e9a\u2000-\u200a\u2010-\u2012\u2024\u2025\u202f\u2070-\u209c"
    "\u20a8\u2100-\u218f\u2460-\u24ff\u2c7c\u2c7d\u3250-\u325f\u32b1-\u33ff\ua7f2-\ua7f4\ufb00-\ufb06\ufb29"
    "\ufe19\ufe30-\ufe6b\uff0b\uff0d\uff0e\uff10-\uff19\uff20-\uff3a\uff3f\uff41-\uff5a\U000107a5"
    "\U0001d400-\U0001d7ff\U0001f100-\U0001f190\U0001fbf0-\U0001fbf9"
)
_DASHES = str.maketrans("\u2010\u2011\u2012", "---")


class Span(NamedTuple):
    """Where something was found, in characters."""

    begin: int
    end: int
    kind: str


class Flood(Exception):
    """The text is too long, or has more candidates than are checked.  It may hold anything."""


class Effort:
    """What may be spent on checking candidates, of one text or of several together."""

    __slots__ = ("_left",)

    def __init__(self, left: int = MOST_EFFORT) -> None:
        self._left = left

    def spend(self, cost: int) -> None:
        """Pay for a candidate.

        Raises:
            Flood: nothing is left.
        """
        self._left -= cost
        if self._left < 0:
            raise Flood


def kinds_of(names: Iterable[str]) -> frozenset[str]:
    """The kinds that are named, each group by its members."""
    return frozenset(kind for name in names for kind in _GROUPS.get(name, (name,)))


def readable(text: str) -> bytes:
    """The UTF-8 of `text` as a reader sees it; half a surrogate pair becomes `?`."""
    if text.isascii():
        return text.encode()
    utf8 = text.encode("utf-8", "replace")
    if _signs(_INVISIBLE + _DISGUISED).search(utf8) is None:
        return utf8
    lines = text.translate(_DASHES).split("\n")  # most are ASCII, as a rule: those cost nothing
    plain = "\n".join(line if line.isascii() else unicodedata.normalize("NFKC", line) for line in lines)
    return bytes(_signs(_INVISIBLE).sub(b"", plain.encode("utf-8", "replace")))


@functools.cache
def _signs(ranges: str) -> Any:
    """A pattern of some of these characters."""
    return re2.compile(f"[{ranges}]+".encode())


@functools.cache
def finder(kinds: frozenset[str]) -> Finder:
    """The one that looks for these kinds; compiled once."""
    return Finder(kinds)


class Finder:
    """Looks for some kinds of findings.

    Attributes:
        guard: a pattern that is found in the UTF-8 of every text in which there may be a finding.
    """

    __slots__ = ("_forms", "_which", "guard")

    def __init__(self, kinds: frozenset[str]) -> None:
        numbers.prepare(kinds)
        forms = [form for form in FORMS if form.kind in kinds]
        self._forms = [_Search(form) for form in forms]
        self.guard = _compiled(b"|".join(b"(?:" + form.pattern + b")" for form in forms), capture=False)
        self._which = re2.Set.SearchSet(_options())
        for form in forms:
            self._which.Add(form.pattern)
        self._which.Compile()

    def found(self, utf8: bytes) -> bool | None:
        """Whether there is one in a readable text; None: too much may be one to be checked."""
        if len(utf8) > MOST_BYTES:
            return None
        if self.guard.search(utf8) is None:
            return False
        try:
            return next(self._places(utf8, Effort()), None) is not None
        except Flood:
            return None

    def spans(self, text: str, effort: Effort | None = None) -> list[Span]:
        """Where they are, in order.  What overlaps is one, of the longest's kind.

        Raises:
            Flood: there is too much that may be one.
        """
        utf8 = readable(text)
        effort = effort or Effort()
        if len(utf8) > MOST_BYTES:
            raise Flood
        if self.guard.search(utf8) is None:
            return []
        if text.isascii():
            return united(sorted(self._places(utf8, effort)))
        shown, origins = _with_origins(text)
        utf8 = shown.encode("utf-8", "replace")
        places = united(sorted(self._places(utf8, effort)))
        chars = _in_chars(utf8, places)
        return [Span(origins[begin], origins[end - 1] + 1, kind) for begin, end, kind in chars]

    def _places(self, utf8: bytes, effort: Effort) -> Iterator[Span]:
        """Every finding, in bytes, a form after the other.

        Raises:
            Flood: checking costs too much.
        """
        # A set that runs out of memory says that nothing was found; the guard has said otherwise.
        for number in self._which.Match(utf8) or range(len(self._forms)):
            search = self._forms[number]
            at = 0
            while (candidate := search.next(utf8, at)) is not None:
                effort.spend(search.form.cost)
                place = search.form.check(utf8, *candidate) if search.form.check else candidate
                if place is not None:
                    yield Span(*place, search.form.kind)
                    at = place[1]
                else:
                    at = candidate[0] + 1 if search.form.overlapping else candidate[1]


class _Search:
    """Finds the candidates of one form."""

    __slots__ = ("_group", "_whole", "form")

    def __init__(self, form: Form) -> None:
        self.form = form
        self._whole = _compiled(form.pattern, capture=False)
        self._group = _compiled(form.pattern) if form.grouped else None

    def next(self, utf8: bytes, at: int) -> tuple[int, int] | None:
        """Where the next candidate begins and ends.

        A group ends where its pattern does, so only its beginning is looked for, and nearby: RE2 takes ten
        times as long for groups.
        """
        match = self._whole.search(utf8, at)
        if match is None:
            return None
        begin, end = match.span()
        if self._group is None:
            return begin, end
        near = self._group.match(utf8, begin, min(end, begin + _PREFIX_BYTES))
        return (near or self._group.match(utf8, begin, end)).start(1), end


def _options() -> Any:
    options = re2.Options()
    options.encoding = re2.Options.Encoding.LATIN1
    options.log_errors = False
    return options


def _compiled(pattern: bytes, *, capture: bool = True) -> Any:
    options = _options()
    options.never_capture = not capture
    return re2.compile(pattern, options)


def united(spans: list[Span]) -> list[Span]:
    """Spans without overlaps: nothing of a finding stays because it was part of two."""
    united: list[Span] = []
    longest = 0
    for span in spans:
        if united and span.begin < united[-1].end:
            last = united[-1]
            kind = span.kind if span.end - span.begin > longest else last.kind
            united[-1] = Span(last.begin, max(last.end, span.end), kind)
            longest = max(longest, span.end - span.begin)
        else:
            united.append(span)
            longest = span.end - span.begin
    return united


def _in_chars(utf8: bytes, spans: list[Span]) -> Iterator[Span]:
    """Spans of bytes as spans of characters; whole characters, whatever the bytes say."""
    at_byte = at_char = 0
    for begin, end, kind in spans:
        at_char += len(utf8[at_byte:begin].decode("utf-8", "ignore"))
        first = at_char
        at_char += len(utf8[begin:end].decode("utf-8", "ignore"))
        at_byte = end
        yield Span(first, at_char, kind)


def _with_origins(text: str) -> tuple[str, list[int]]:
    """`text` as a reader sees it, and for each of its characters where it stands in `text`."""
    shown: list[str] = []
    origins: list[int] = []
    at = 0
    for run in _BEYOND_ASCII.finditer(text):
        shown.append(text[at : run.start()])
        origins += range(at, run.start())
        for at, char in enumerate(run[0], run.start()):
            plain = readable(char).decode()
            shown.append(plain)
            origins += [at] * len(plain)
        at = run.end()
    shown.append(text[at:])
    origins += range(at, len(text))
    return "".join(shown), origins
