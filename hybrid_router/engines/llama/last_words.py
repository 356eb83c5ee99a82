"""What llama.cpp says before it gives up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import llama_cpp as llama

_STDERR = 2
_ERROR_LEVEL = 4  # GGML_LOG_LEVEL_ERROR
_MOST_COUNT = 20
_SHOWN_COUNT = 300


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collect the library's errors while something is opened.  All it says goes to standard error as ever."""
    said: list[str] = []

    def hear(level: int, text: bytes, ignored: object) -> None:
        os.write(_STDERR, text)
        if level == _ERROR_LEVEL and len(said) < _MOST_COUNT:
            said.append(text.decode("utf-8", "replace"))

    callback = llama.llama_log_callback(hear)
    llama.llama_log_set(callback, None)
    try:
        yield said
    finally:
        llama.llama_log_set(llama.llama_log_callback(0), None)  # the C logger again: it costs nothing


def reason(said: list[str]) -> str:
    """The first error in one line, without the name of the function that met it."""
    if not said:
        return "it gives no reason"
    first = said[0].rpartition("error loading model: ")[2]
    words = " ".join(first.split())[:_SHOWN_COUNT]
    return "".join(c if c.isprintable() else "?" for c in words)
