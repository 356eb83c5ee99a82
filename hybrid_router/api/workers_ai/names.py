"""Which alias answers for a model of Workers AI.  Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.config.front_schema import WorkersAIDialect
from hybrid_router.config.problems import meant
from hybrid_router.core.errors import ModelNotFound

_MOST_SUCCESSORS = 4
_MOST_SHOWN_CHARS = 128


class NoSuchModel(ModelNotFound):
    """No alias answers for it; with the status that Workers AI has for it."""

    status = 400


def alias_of(
    asked: str, aliases: Collection[str], dialect: WorkersAIDialect, models: Mapping[str, Model]
) -> str:
    """An alias of that very name, or the one that `dialects.workers_ai` names.

    A model that is gone is looked for by its successors' names too, before its task.  A guard is not found by
    its task: that is text generation, and whoever reads a chat's words as a verdict takes them for `safe`.  A
    name that the catalogue lacks has no task: it may be misspelt, and Workers AI would not answer either.

    Raises:
        NoSuchModel: there is none; it says what to write where.
    """
    for name in _names(asked, models):
        if name in aliases:
            return name
        if (named := named_by(dialect.models, name, models)) is not None:
            return named
    known = models.get(asked)
    task = None if known is None else _task(known)
    tasks: Mapping[str, str] = {str(each): alias for each, alias in dialect.tasks.items()}
    if task is not None and task in tasks:
        return tasks[task]
    raise NoSuchModel(_advice(asked, task, models), param="model")


def named_by(patterns: Mapping[str, str], name: str, models: Mapping[str, Model]) -> str | None:
    """The alias of the first pattern that fits; `*` is any characters.

    For a guard only patterns count that fit guards alone: `@cf/meta/llama-*` means the models that chat.
    """
    is_guard = name in models and family(models[name]) is Family.GUARD
    for pattern, alias in patterns.items():
        if fnmatchcase(name, pattern) and not (is_guard and _fits_others(pattern, models)):
            return alias
    return None


def family_of(asked: str, models: Mapping[str, Model], body: Mapping[str, Any] | None) -> Family:
    """How the model is asked; of one that nobody knows the input tells."""
    if (known := models.get(asked)) is not None:
        return family(known)
    fields = frozenset(body or ())
    if fields & {"messages", "prompt"}:
        return Family.CHAT
    if {"query", "contexts"} <= fields:
        return Family.RERANK
    if {"text", "target_lang"} <= fields:
        return Family.TRANSLATION
    return Family.VECTORS if "text" in fields else Family.CHAT


def _names(asked: str, models: Mapping[str, Model]) -> Iterator[str]:
    """The model's name, then those of its successors."""
    name: str | None = asked
    for _ in range(_MOST_SUCCESSORS):
        if name is None:
            return
        yield name
        known = models.get(name)
        name = None if known is None else known.aliased_to or known.successor


def _task(known: Model) -> str | None:
    return None if family(known) is Family.GUARD else known.task


def _fits_others(pattern: str, models: Mapping[str, Model]) -> bool:
    return any(
        fnmatchcase(name, pattern) for name, model in models.items() if family(model) is not Family.GUARD
    )


def _advice(asked: str, task: str | None, models: Mapping[str, Model]) -> str:
    """What was meant, or what to write into router.yaml."""
    shown = asked[:_MOST_SHOWN_CHARS]
    ways = [f'models: {{ "{shown}": ALIAS }}']
    if task is not None:
        ways.append(f'tasks: {{ "{task}": ALIAS }}')
    told = " or ".join(f"dialects: {{ workers_ai: {{ {way} }} }}" for way in ways)
    likely = "" if asked in models else meant(shown, models)
    return f"No such model {shown} or task: router.yaml names who answers for it, as in {told}{likely}"
