"""How a call is run: what its alias says, then what the rules that hold say, the later on top."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from hybrid_router.config import schema
from hybrid_router.core.step import Treatment

_PLAIN = (
    "on_break",
    "on_divergence",
    "retries",
    "hedge",
    "prefer",
    "max_cost_usd",
    "affinity",
    "redact",
    "reserve",
    "while_loading",
)
NOTHING: dict[str, Any] = {}


def said(written: schema.Treatment) -> dict[str, Any]:
    """What an alias or a rule says, by the names of `core.step.Treatment`; the rest is left as it is."""
    says = {name: value for name in _PLAIN if (value := getattr(written, name)) is not None}
    if written.retry_wait is not None:
        says["retry_wait_s"] = written.retry_wait
    if written.spill_when is not None:
        says["spill_queue"] = written.spill_when.queue
        says["spill_first_token_s"] = written.spill_when.predicted_first_token
    return says


def merged(treatment: Treatment, says: dict[str, Any]) -> Treatment:
    """`treatment` with what a rule says.  Redaction only grows, and a cost cap only sinks."""
    if not says:
        return treatment
    changes = dict(says)
    if "redact" in changes:
        changes["redact"] = tuple(dict.fromkeys((*treatment.redact, *changes["redact"])))
    if "max_cost_usd" in changes and treatment.max_cost_usd is not None:
        changes["max_cost_usd"] = min(changes["max_cost_usd"], treatment.max_cost_usd)
    return replace(treatment, **changes)
