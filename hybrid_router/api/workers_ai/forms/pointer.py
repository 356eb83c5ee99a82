"""Where something is wrong, in the words of this API: `/messages/0/content`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from hybrid_router.core.errors import CallRefused

_INDEX = re.compile(r"\[(\d+)\]")


@contextmanager
def pointed() -> Iterator[None]:
    """Around OpenAI's decoders: their refusals point into the body as those of Workers AI do."""
    try:
        yield
    except CallRefused as error:
        if error.param and not error.param.startswith("/") and not error.param.startswith("x-"):
            path = "/" + _INDEX.sub(r".\1", error.param).replace(".", "/")
            said = error.message.removeprefix(error.param).removeprefix(":").strip()
            error.param, error.message = path, f"'{path}': {said}"
            error.args = (error.message,)
        raise
