r"""Names of files in a text, by globs: `*.pem`, `**/secrets/**`, `.env`.

`*` and `?` stay within a name, `**` reaches over folders, `{a,b}` and `[a-z]` choose.  A glob without a slash
is for the last part of a path; one with slashes may begin at any folder, or at the root if it begins with a
slash.  Case does not count, and `\` is as good as `/`.

Paths are not cut out of the text first: where a path ends nobody knows.  A glob becomes a pattern between
what cannot be part of a name: white space, quotes, brackets and the like, so `*` reaches over none of these.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import re2

_OUTSIDE = r"\s/\\\"'`<>|*?:;,(){}\[\]=&#\x00"  # what is no part of a name
_SIGN = rf"[^{_OUTSIDE}]"
_SLASH = r"[/\\]+"
_ROOT = rf"(?:(?:^|[^{_OUTSIDE}/\\]:|[\s\"'`<>|*?;,(){{}}\[\]=&#]|://[^\s/]*){_SLASH})"
_BEGIN = rf"(?:^|[{_OUTSIDE}])"
_FOLDERS = rf"(?:{_SIGN}+{_SLASH})*"
# A full stop after a name ends the sentence; a backslash before a quote belongs to JSON.
_END = r"(?:[.!?…]*(?:$|[\s\"'`<>|*?:;,(){}\[\]=&#\x00]|\\[\"'nrt]))"
_TOKEN = re.compile(r"(?P<deep>\*\*/?)|(?P<any>\*)|(?P<one>\?)|(?P<set>\[[^\]/]+\])|(?P<sign>.)", re.DOTALL)
_CHOICE = re.compile(r"\{([^{}]*)\}")


def named(globs: Iterable[str]) -> Any:
    """A pattern that is found in the UTF-8 of a text that names a file which one of `globs` matches."""
    options = re2.Options()
    options.log_errors = False
    options.never_capture = True
    options.case_sensitive = False
    plain = (choice for glob in globs for choice in _choices(glob))
    return re2.compile("|".join(f"(?:{_pattern(glob)})" for glob in plain).encode(), options)


def _choices(glob: str) -> Iterator[str]:
    """`a.{b,c}` as `a.b` and `a.c`."""
    choice = _CHOICE.search(glob)
    if choice is None:
        yield glob
        return
    for option in choice[1].split(","):
        yield from _choices(glob[: choice.start()] + option + glob[choice.end() :])


def _pattern(glob: str) -> str:
    """One glob without choices."""
    begin = _ROOT if glob.startswith("/") else _BEGIN
    return begin + "".join(_piece(token) for token in _TOKEN.finditer(glob.lstrip("/"))) + _END


def _piece(token: re.Match[str]) -> str:
    """What one token of a glob stands for."""
    match token.lastgroup:
        case "deep":
            return _FOLDERS if token[0].endswith("/") else rf"{_FOLDERS}{_SIGN}*"
        case "any":
            return rf"{_SIGN}*"
        case "one":
            return _SIGN
        case "set":
            return _set(token[0][1:-1])
        case _:
            return _SLASH if token[0] == "/" else re.escape(token[0])


def _set(inner: str) -> str:
    """`[a-z]`, `[!a-z]`; what is no set is meant as it is written."""
    negated = inner[0] in "!^" and len(inner) > 1
    signs = re.escape(inner[negated:]).replace(r"\-", "-")
    options = re2.Options()
    options.log_errors = False
    written = f"[{'^' if negated else ''}{signs}]"
    try:
        re2.compile(written.encode(), options)
    except re2.error:
        return re.escape(f"[{inner}]")
    return written
