"""The account's own catalogue: which models there are, and what each takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import urlencode

from hybrid_router.backends.errand import Errand, Unreadable
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.tasks import results, sending
from hybrid_router.core.errors import BackendMisconfigured, CallRefused

PAGE_COUNT = 50
_MOST_PAGES = 200
_AT_ONCE = 4


async def search(desk: Desk, wanted: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Every model that fits, as the API shows it.

    Some servers give all on the first page, whatever page is asked for: a row that was there before ends it.

    Args:
        wanted: `search`, `task`, `author`, `include_deprecated` and the like.
    """
    found: dict[str, dict[str, Any]] = {}
    for page in range(1, _MOST_PAGES + 1):
        query = urlencode({**(wanted or {}), "page": str(page), "per_page": str(PAGE_COUNT)})
        errand = Errand(method="GET", path="models/search", query=query)
        rows = await desk.ask(errand, lambda body: results.read(body, list[dict[str, Any]], "models"))
        fresh = {name: row for row in rows if isinstance(name := row.get("name"), str) and name not in found}
        found |= fresh
        if len(rows) < PAGE_COUNT or not fresh:
            break
    return list(found.values())


async def schema(desk: Desk, model: str) -> dict[str, Any]:
    """What a model takes (`input`) and gives (`output`), as JSON Schema; either may be None."""
    errand = Errand(method="GET", path="models/schema", query=urlencode({"model": model}))
    return await desk.ask(errand, _schemas)


async def schemas(
    desk: Desk, models: Sequence[str], progress: Callable[[], None] = lambda: None
) -> dict[str, dict[str, Any]]:
    """Those of all these models, some at a time; one whose schema is not told is left out."""

    async def one(model: str) -> tuple[str, dict[str, Any] | None]:
        try:
            return model, await schema(desk, model)
        except (CallRefused, BackendMisconfigured):
            return model, None
        finally:
            progress()

    found = await sending.all_of([partial(one, model) for model in models], _AT_ONCE)
    return {model: told for model, told in found if told is not None}


def _schemas(body: bytes) -> dict[str, Any]:
    found = results.read(body, dict[str, Any], "a schema")
    if "input" not in found and "output" not in found:
        raise Unreadable("answered without a schema")
    return {side: found.get(side) for side in ("input", "output")}
