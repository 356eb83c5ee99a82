"""The smallest model, held to calls: its own words between what the grammar allows."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest

from hybrid_router.core.call import Message, Operation
from hybrid_router.core.event import ToolFragment
from hybrid_router.engines.llama.chat.chat import Chat
from hybrid_router.engines.llama.constraint import Constraints
from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Task

pytestmark = pytest.mark.model
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def weights(model_settings: LlamaSettings) -> Iterator[Weights]:
    opened = Weights(model_settings.path, model_settings.offload)
    yield opened
    opened.close()


def test_the_smallest_model_makes_valid_calls(weights: Weights, model_settings: LlamaSettings) -> None:
    """A required call: name and arguments within the schema, although the model never learned to call."""
    prompt = Chat(weights).prepare(
        Task(
            id=1,
            operation=Operation.CHAT,
            messages=(Message(role="user", content="How is the weather in Oslo on the next 3 days?"),),
            tools=(TOOL,),
            tool_choice="required",
            parallel_tool_calls=False,
        )
    )
    assert prompt.form is not None
    assert prompt.parser is not None
    constraint, parser = Constraints(weights).compile(prompt.form), prompt.parser(0)
    tokens = weights.tokenize(prompt.text)
    context = Context(weights, model_settings, cells_count=512, sequences_count=1, batch_count=512)
    context.decode([(token, at, 0, at == len(tokens) - 1) for at, token in enumerate(tokens)])
    entry, events = len(tokens) - 1, []
    while not constraint.complete:
        logits = np.array(context.logits(entry), np.float32)
        constraint.restrict(logits)
        token = int(logits.argmax())
        if weights.ends(token):
            break
        constraint.accept(token)
        events += parser.feed(weights.piece(token).decode())
        context.decode([(token, len(tokens), 0, True)])
        tokens.append(token)
        entry = 0
    events += parser.flush("stop")
    context.close()

    fragments = [event for event in events if isinstance(event, ToolFragment)]
    assert fragments == events
    assert [event.name for event in fragments if event.name] == ["get_weather"]
    assert json.loads("".join(event.arguments for event in fragments))["city"] == "Oslo"
    assert len(fragments) > 3
    assert parser.reason("stop") == "tool_calls"
