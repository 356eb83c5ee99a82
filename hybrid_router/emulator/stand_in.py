"""The emulator's own answers as a backend: the script for text, the acts for all else."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping

from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.call import Call, Operation
from hybrid_router.core.event import Batch, Finish, Text, Usage
from hybrid_router.core.step import Step
from hybrid_router.emulator import tokens
from hybrid_router.emulator.script import Script, last_said
from hybrid_router.emulator.stand_ins import meaning
from hybrid_router.emulator.stand_ins.answers import ACTS, DIMENSIONS, VIOLENT, Part

DESCRIBED = "An emulated picture with two colours of stripes."
_SUMMARY_WORDS = 12


class StandIn(Script):
    """Plays every model of the catalogue, each by its family; `Call.alias` names it."""

    def __init__(self, models: Mapping[str, Model]) -> None:
        self._models = models

    def operations(self, model: str) -> frozenset[Operation]:
        """Everything."""
        return frozenset(Operation)

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield the answer, of which a test knows every word."""
        part = self._part(call.alias)
        act = ACTS.get(call.operation)
        if act is not None:
            for batch in act(call, part):
                yield batch
            return
        said = _said(call, part.family)
        if said is None:
            async for batch in super().run(call, step):
                yield batch
            return
        yield [Text(said), Finish("stop"), Usage(tokens.prompt_tokens(call), tokens.count(said))]

    def _part(self, model_id: str) -> Part:
        model = self._models.get(model_id)
        return Part(Family.CHAT) if model is None else Part(family(model), model.dimensions or DIMENSIONS)


def _said(call: Call, played: Family) -> str | None:
    """What text models of other kinds say; None: the script has the word."""
    match played:
        case Family.GUARD:
            return _verdict(call)
        case Family.SUMMARY:
            return " ".join(last_said(call).split()[:_SUMMARY_WORDS])
        case Family.DESCRIPTION:
            return DESCRIBED
    return None


def _verdict(call: Call) -> str:
    """As text, or as JSON where that is asked for."""
    harmful = any(meaning.harmful(message.text) for message in call.messages)
    if (call.response_format or {}).get("type") == "json_object":
        return json.dumps({"safe": not harmful, "categories": [VIOLENT] if harmful else []})
    return f"unsafe\n{VIOLENT}" if harmful else "safe"
