"""Durations and sizes as people write them."""

from __future__ import annotations

import re

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)\Z", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_LONG = ("d", "h", "m")
_SIZE = re.compile(r"(\d+(?:\.\d+)?)(B|KB|MB|GB|KiB|MiB|GiB)\Z", re.ASCII)
_BYTES = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def seconds(text: str) -> float:
    """Read `250ms`, `5s`, `1.5m`, `2h` or `7d`.

    Raises:
        ValueError: anything else; the text says what is expected.
    """
    found = _DURATION.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a duration: write a number and ms, s, m, h or d, as in 30s")
    return float(found[1]) * _SECONDS[found[2]]


def size_bytes(text: str) -> int:
    """Read `512KiB`, `8MiB`, `1.5GB` …

    Raises:
        ValueError: anything else; the text says what is expected.
    """
    found = _SIZE.match(text)
    if not found:
        raise ValueError(f"{text!r} is not a size: write a number and B, KiB, MiB or GiB, as in 8MiB")
    return int(float(found[1]) * _BYTES[found[2]])


def duration_text(duration_s: float) -> str:
    """A spelling that `seconds` reads back: 0.25 is `250ms`, 90 is `90s`, 7200 is `2h`, 604800 is `7d`.

    Less than an hour is told in seconds, as timeouts are written.
    """
    if duration_s < 1:
        return f"{duration_s * 1000:g}ms"
    whole = (unit for unit in _LONG if duration_s >= _SECONDS["h"] and duration_s % _SECONDS[unit] == 0)
    unit = next(whole, "s")
    return f"{duration_s / _SECONDS[unit]:.3f}".rstrip("0").rstrip(".") + unit
