"""The variables a call may set in a template: plain values, few of them, none of the template's own."""

from __future__ import annotations

from typing import Any

from hybrid_router.engines.llama.chat.formats import HARMONY, Format
from hybrid_router.engines.task import Task, TaskRefused

_MOST_COUNT = 16
_LONGEST_CHARS = 1000
_OURS = frozenset(
    {"messages", "tools", "documents", "bos_token", "eos_token", "add_generation_prompt", "raise_exception",
     "strftime_now", "range", "dict", "namespace", "cycler", "joiner", "loop", "self", "caller", "varargs"}
)  # fmt: skip
_SWITCHES = ("enable_thinking", "thinking")
# What templates made for three efforts know.
_THREE = {"none": "low", "minimal": "low", "xhigh": "high", "max": "high"}


def values_of(task: Task, written: Format) -> dict[str, Any]:
    """The variables, beside messages and tools.

    Raises:
        TaskRefused: too many, too long, not plain, or not the caller's to set.
    """
    if len(task.template_values) > _MOST_COUNT:
        raise _refused(f"template values: at most {_MOST_COUNT}")
    for name, value in task.template_values.items():
        _check(name, value)
    values: dict[str, Any] = {}
    wanted = reasons(task)
    if wanted is not None:
        values |= dict.fromkeys(_SWITCHES, wanted)
    if task.reasoning_effort is not None:
        effort = task.reasoning_effort
        values["reasoning_effort"] = _THREE.get(effort, effort) if written is HARMONY else effort
    if task.parallel_tool_calls is not None and task.tools:
        values["parallel_tool_calls"] = task.parallel_tool_calls
    if task.tools and task.tool_choice is not None:
        values["tool_choice"] = task.tool_choice
    return values | task.template_values


def reasons(task: Task) -> bool | None:
    """Whether the caller wants the model to reason; None: as the model likes."""
    for name in _SWITCHES:
        if isinstance(task.template_values.get(name), bool):
            return bool(task.template_values[name])
    if task.reasoning_effort == "none" or task.reasoning_tokens == 0:
        return False
    return True if task.reasoning_effort is not None else None


def _check(name: str, value: Any) -> None:
    if not name.isidentifier() or name.startswith("_") or name in _OURS:
        raise _refused(f"template values: {name[:60]!r} is not one that a call may set")
    if value is not None and not isinstance(value, bool | int | float | str):
        raise _refused(f"template values: {name} must be a text, a number, a boolean or null")
    if isinstance(value, str) and len(value) > _LONGEST_CHARS:
        raise _refused(f"template values: {name} is longer than {_LONGEST_CHARS} characters")


def _refused(message: str) -> TaskRefused:
    return TaskRefused("invalid_request_error", message, by_call=True)
