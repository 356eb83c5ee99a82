"""`chat_template_kwargs`: what a client tells the model's chat template."""

from __future__ import annotations

import re
from typing import Any, TypeAlias

from hybrid_router.core.errors import CallRefused, UnsupportedParameter

Scalar: TypeAlias = str | int | float | bool

MOST_VALUES = 32
LONGEST_VALUE = 1024
_FIELD = "chat_template_kwargs"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
# What the router itself gives a template: a client that set them would write another prompt than it shows.
_OURS = frozenset(
    {
        "add_generation_prompt", "bos_token", "continue_final_message", "eos_token", "messages",
        "raise_exception", "strftime_now", "tools",
    }
)  # fmt: skip


def read(values: dict[str, Any] | None) -> dict[str, Scalar]:
    """The values, without those that are null.

    Raises:
        CallRefused: one is more than a text, a number or a truth value, too long, or not for a client to set.
    """
    if not values:
        return {}
    if len(values) > MOST_VALUES:
        raise CallRefused(f"{_FIELD}: {MOST_VALUES} values are accepted", param=_FIELD)
    return {name: _checked(name, value) for name, value in values.items() if value is not None}


def _checked(name: str, value: Any) -> Scalar:
    if not _NAME.fullmatch(name):
        raise CallRefused(f"{_FIELD}: a name is a word of at most 64 characters", param=_FIELD)
    if name in _OURS:
        raise UnsupportedParameter(
            f"{_FIELD}.{name} is not for a call to choose; leave it out", param=f"{_FIELD}.{name}"
        )
    if isinstance(value, bool | int | float) or (isinstance(value, str) and len(value) <= LONGEST_VALUE):
        return value
    raise CallRefused(
        f"{_FIELD}.{name}: expected a number, true, false, or a text of at most {LONGEST_VALUE} characters",
        param=f"{_FIELD}.{name}",
    )
