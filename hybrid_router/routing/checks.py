"""Whether what looks like a secret or an address is one.

Each check is given a text's UTF-8 bytes and where a candidate begins and ends.  It says where the finding
begins and ends, which may be less or more of the text, or None.
"""

from __future__ import annotations

import binascii
import math
import re
from collections import Counter
from typing import TypeAlias

Place: TypeAlias = tuple[int, int]

_KEY_RUN = re.compile(rb"[0-9]|[A-Za-z]{16}")
_ARMOUR_END = re.compile(rb"-{4,5} ?END [0-9A-Z ]{1,60}-{4,5}")
_ARMOUR_LINES = re.compile(rb"[-0-9A-Za-z+/=\s\\:,]*")
_LONGEST_ARMOUR_BYTES = 32_768
_PUTTY_END = re.compile(rb"Private-(?:MAC|Hash): [0-9a-f]+")
_MARK = re.compile(  # what stands where a secret will be
    rb"<.*>|\[.*\]|\{.*\}|\$[\w.]+|\$[({].*|%\(.*|%\w%?|%\w+%|x+|\*+|\.+|\W*your.*", re.DOTALL | re.IGNORECASE
)
_CODE = re.compile(rb".*[(<>{}\[\]$].*|[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+", re.DOTALL)
_PATH = re.compile(rb"(?:~|\.{0,2})/(?:.*/.*)|.*://.*", re.DOTALL)
_SAMPLES = frozenset(
    b"pass passwd password passwort pwd secret token user changeme hunter2 none null true false".split()
)
_SETTING = re.compile(rb"[0-9A-Z_]+=\Z")
_FEWEST_BITS = 2.5  # a byte: of eight different ones 3, of English words about the same
_LONG_BYTES = 16
# What follows the last dot of a picture's or a systemd unit's name, and is no country's or company's.
_NOT_A_DOMAIN = frozenset(
    b"conf css device gif htm html jpeg jpg js json jsx lock log mount path png scope service slice socket"
    b" svg swap timer ts tsx txt webp xml yaml yml".split()
)
_OPENING = "“‘„«‹「『"
_CLOSING = "\\,;.)]}”’“»›」』。，；：！？）】…"
_ESCAPED = b"nrtbf"


def key(utf8: bytes, begin: int, end: int) -> Place | None:
    """A key has digits, or letters without order; `sk-fading-circle-container` has neither."""
    value = utf8[begin:end].partition(b"-")[2] or utf8[begin:end]
    return (begin, end) if _KEY_RUN.search(value) else None


def armoured(utf8: bytes, begin: int, end: int) -> Place:
    """From BEGIN to END; without END as far as it looks like the inside of a key."""
    closed = _ARMOUR_END.search(utf8, end, end + _LONGEST_ARMOUR_BYTES)
    inside = closed or _ARMOUR_LINES.match(utf8, end, end + _LONGEST_ARMOUR_BYTES)
    return begin, inside.end() if inside else end


def putty(utf8: bytes, begin: int, end: int) -> Place:
    """From the first line to the last, which is a check sum."""
    closed = _PUTTY_END.search(utf8, end, end + _LONGEST_ARMOUR_BYTES)
    return begin, closed.end() if closed else min(len(utf8), end + _LONGEST_ARMOUR_BYTES)


def bearer(utf8: bytes, begin: int, end: int) -> Place | None:
    """What follows `Bearer` and has digits: no word and no `YOUR_TOKEN_HERE`."""
    value = utf8[begin:end]
    return (begin, end) if any(byte in b"0123456789" for byte in value) and _varied(value) else None


def basic(utf8: bytes, begin: int, end: int) -> Place | None:
    """Base64 of `user:password`."""
    try:
        decoded = binascii.a2b_base64(utf8[begin:end], strict_mode=True)
    except binascii.Error:
        return None
    return (begin, end) if b":" in decoded and decoded.isascii() and decoded.decode().isprintable() else None


def url_password(utf8: bytes, begin: int, end: int) -> Place | None:
    """A password in a URL, up to the @, that is not a placeholder for one."""
    end -= 1
    value = utf8[begin:end]
    return None if value.lower() in _SAMPLES or _MARK.fullmatch(value) else (begin, end)


def password(utf8: bytes, begin: int, end: int) -> Place | None:
    """What a name that ends in `password` is given: letters and something else, at least eight."""
    place = _written(utf8, begin, end)
    if place is None:
        return None
    value = utf8[slice(*place)]
    return place if _varied(value) and not value.isalpha() and not _is_words(value) else None


def named(utf8: bytes, begin: int, end: int) -> Place | None:
    """What a name that ends in `token`, `secret` or `key` is given: long, and without order."""
    place = _written(utf8, begin, end)
    if place is None or place[1] - place[0] < _LONG_BYTES:
        return None
    value = utf8[slice(*place)]
    return place if _varied(value) and any(byte in b"0123456789" for byte in value) else None


def _written(utf8: bytes, begin: int, end: int) -> Place | None:
    """Where a literal value stands, without its quotes; None if it is a placeholder, a path or code."""
    value = utf8[begin:end]
    bare = value.lstrip(b"\\").lstrip(b"\"'`")
    quoted = len(bare) < len(value)
    begin = end - len(bare)
    if not quoted:
        inner = bare.decode("utf-8", "ignore").lstrip(_OPENING)
        begin = end - len(inner.encode())
        bare = inner.rstrip(_CLOSING).encode()
    setting = _SETTING.search(utf8, max(0, begin - 64), begin)
    if len(bare) < 8 or bare.lower() in _SAMPLES or _MARK.fullmatch(bare) or _PATH.fullmatch(bare):  # noqa: PLR2004
        return None
    if not quoted and not setting and _CODE.fullmatch(bare):
        return None
    return begin, begin + len(bare)


def _is_words(value: bytes) -> bool:
    """Whether it is made of words and the marks between them, as `access_token` and `my-secret` are."""
    return all(part.isalpha() or not part for part in re.split(rb"[-_./:\\]", value))


def _varied(value: bytes) -> bool:
    """Whether a value has letters and is not the same few again and again."""
    if not any(65 <= byte <= 90 or 97 <= byte <= 122 for byte in value):  # noqa: PLR2004 - ASCII letters
        return False
    count = len(value)
    bits = -sum(n / count * math.log2(n / count) for n in Counter(value).values())
    return bits >= _FEWEST_BITS


def email(utf8: bytes, begin: int, end: int) -> Place | None:
    """An address of a person, and no picture, unit, Git remote or method.

    Within JSON in a text `\\n` stands for the end of a line, so there the address begins after the n.
    """
    if begin and utf8[begin - 1] == ord("\\") and utf8[begin] in _ESCAPED and utf8[begin + 1] != ord("@"):
        begin += 1
    local, _, domain = utf8[begin:end].rpartition(b"@")
    following = utf8[end : end + 1]
    if following.isdigit() or domain.rpartition(b".")[2].lower() in _NOT_A_DOMAIN or following == b"(":
        return None
    return None if local == b"git" and following in (b":", b"/") else (begin, end)
