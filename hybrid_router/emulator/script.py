"""The emulator's own answers: a pure function of the call, so that a test knows them in advance.

repeat: TEXT      TEXT, to the letter
count to N        1 2 3 … N
think: TEXT       some reasoning, then as for TEXT
anything else     `You said: ` and what was said

A raw prompt is answered on a new line, so that a prompt that ends with the beginning of its own answer can
be told, and is gone on from.  One that ends with a series, `1, 2, 3,`, is gone on from in its own line.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from hybrid_router.backends.tally import added
from hybrid_router.core.backend import GENERATES, IDLE, Load
from hybrid_router.core.call import Call, Feature, Message, Operation
from hybrid_router.core.event import Batch, Event, Finish, FinishReason, Reasoning, Text, ToolFragment, Usage
from hybrid_router.core.step import Step
from hybrid_router.emulator import example, tokens

REASONING = "Let me see what was said."
_COUNT = re.compile(r"count to (\d{1,5})\b", re.IGNORECASE)
_SERIES = re.compile(r"(?:\A|\n)((\d{1,5}), \d[\d, ]*)\Z", re.ASCII)
_SERIES_COUNT = 100
_VERBATIM = "repeat: "
_THINK = "think: "


class Expected(Struct, frozen=True, kw_only=True):
    """What the script answers to a call: either `text` or a tool call, and what it costs.

    Of an answer whose beginning is in the call, `text` is the rest; limits hold for that alone.
    """

    text: str = ""
    reasoning: str = ""
    tool: str | None = None
    arguments: str = ""
    finish: FinishReason = "stop"
    prompt_tokens: int = 0
    completion_tokens: int = 0


def expected(call: Call) -> Expected:
    """The whole answer to `call`.  Each of its choices is the same."""
    prompt_tokens = tokens.prompt_tokens(call)
    tool = chosen_tool(call)
    if tool is not None:
        arguments = json.dumps(example.value_for(tool.get("parameters") or {"type": "object"}))
        spent = tokens.count(arguments)
        return Expected(
            tool=tool["name"],
            arguments=arguments,
            finish="tool_calls",
            prompt_tokens=prompt_tokens,
            completion_tokens=spent,
        )
    said = last_said(call)
    begun = (call.messages[-1].text if call.goes_on else "") + call.written
    thinks = said.startswith(_THINK) and not begun
    said = said.removeprefix(_THINK)
    if call.messages:
        whole = _json_answer(call) or text_answer(said, after_tool=_after_tool(call))
    else:
        whole = _json_answer(call) or raw_answer(said)
    return _limited(call, REASONING if thinks else "", whole.removeprefix(begun), prompt_tokens)


def raw_answer(prompt: str) -> str:
    """What follows a raw prompt, before any limit."""
    if found := _SERIES.search(prompt):
        first = int(found[2])
        series = ", ".join(str(number) for number in range(first, first + _SERIES_COUNT))
        if series.startswith(found[1]):
            return series.removeprefix(found[1])
    for border in re.finditer("\n", prompt):
        said, begun = prompt[: border.start()], prompt[border.start() :]
        whole = "\n" + text_answer(said)
        if whole.startswith(begun):
            return whole.removeprefix(begun)
    return "\n" + text_answer(prompt)


def text_answer(said: str, *, after_tool: bool = False) -> str:
    """What the script says to `said`, before any limit."""
    if after_tool:
        return f"The tool said: {said}"
    if said.startswith(_VERBATIM):
        return said.removeprefix(_VERBATIM)
    if found := _COUNT.search(said):
        return " ".join(str(number) for number in range(1, int(found[1]) + 1))
    return f"You said: {said}" if said.strip() else "You said nothing."


def last_said(call: Call) -> str:
    """The newest message's text, but for the assistant's, or the prompt."""
    if call.messages:
        return _last(call).text
    return next((prompt for prompt in call.prompts if isinstance(prompt, str)), "")


def functions(call: Call) -> dict[str, dict[str, Any]]:
    """Tool name → its function object, from both the flat and the nested form."""
    found = [tool.get("function") if isinstance(tool.get("function"), dict) else tool for tool in call.tools]
    return {function["name"]: function for function in found if function and "name" in function}


def chosen_tool(call: Call) -> dict[str, Any] | None:
    """The tool the answer calls: a forced one, or one whose name the last user message holds."""
    named, choice = functions(call), call.tool_choice
    match choice:
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}:
            allowed = [tool.get("function", {}).get("name") for tool in tools]
            named = {name: function for name, function in named.items() if name in allowed}
            choice = mode
    if not named or choice == "none":
        return None
    if isinstance(choice, dict):
        return named.get(choice.get("function", {}).get("name"))
    if choice == "required":
        return next(iter(named.values()))
    if _after_tool(call):
        return None
    said = last_said(call)
    return next((function for name, function in named.items() if name in said), None)


def _after_tool(call: Call) -> bool:
    """Whether the newest message is a tool's result."""
    return bool(call.messages) and _last(call).role in ("tool", "function")


def _last(call: Call) -> Message:
    """The newest message that is not the assistant's, if there is one."""
    asking = [message for message in call.messages if message.role != "assistant"]
    return (asking or call.messages)[-1]


def _json_answer(call: Call) -> str | None:
    """The answer in JSON mode; None outside of it.  Takes a bare schema and OpenAI's `{name, schema}`."""
    wanted = call.response_format or {}
    if wanted.get("type") not in ("json_object", "json_schema"):
        return None
    schema = wanted.get("json_schema")
    if isinstance(schema, dict) and isinstance(schema.get("schema"), dict):
        schema = schema["schema"]
    return json.dumps(example.value_for(schema) if schema else {"answer": text_answer(last_said(call))})


def _limited(call: Call, reasoning: str, whole: str, prompt_tokens: int) -> Expected:
    """Cut an answer at `max_tokens` (reasoning counts) and before the first stop string."""
    thought, said = tokens.split(reasoning), tokens.split(whole)
    limit = call.sampling.max_tokens
    finish: FinishReason = "stop"
    if limit is not None and len(thought) + len(said) > limit:
        finish = "length"
        thought, said = thought[:limit], said[: max(0, limit - len(thought))]
    text = "".join(said)
    places = [place for stop in call.sampling.stop if stop and (place := text.find(stop)) >= 0]
    if places:
        text, finish = text[: min(places)], "stop"
    return Expected(
        text=text,
        reasoning="".join(thought),
        finish=finish,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(thought) + tokens.count(text),
    )


class Script:
    """The script as a backend, one token a batch: the emulator's answers always come from a backend."""

    local = True
    extra_fields: frozenset[str] = frozenset()

    def operations(self, model: str) -> frozenset[Operation]:
        """It writes text."""
        return GENERATES

    def features(self, model: str) -> frozenset[Feature]:
        """It claims to do everything."""
        return frozenset(Feature)

    def down(self, model: str) -> str | None:
        """It is never down."""
        return None

    def not_installed(self, model: str) -> bool:
        return False

    def continues(self, model: str, call: Call) -> bool:
        """It knows all its answers, so it goes on from any place."""
        return call.choices_count == 1

    def context(self, model: str) -> int | None:
        """It has no limit of its own."""
        return None

    def load(self, model: str) -> Load:
        """It is never busy."""
        return IDLE

    async def run(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        """Yield what is `expected` of each prompt for each choice, then one `Usage`."""
        usage = Usage(0, 0)
        for place, asked in enumerate(_alone(call)):
            answer = expected(asked)
            for choice in range(call.n):
                for event in _events(answer, place * call.n + choice):
                    yield [event]
            usage = added(usage, Usage(answer.prompt_tokens, answer.completion_tokens * call.n))
        yield [usage]

    async def close(self) -> None:
        """Nothing to let go of."""


def _alone(call: Call) -> list[Call]:
    """Each of its prompts as a call of its own."""
    return [replace(call, prompts=(prompt,)) for prompt in call.prompts] or [call]


def _events(answer: Expected, index: int) -> list[Event]:
    """One choice's events; a tool call comes as a head and two pieces of its arguments."""
    events: list[Event] = [Reasoning(token, index) for token in tokens.split(answer.reasoning)]
    events += [Text(token, index) for token in tokens.split(answer.text)]
    if answer.tool is not None:
        middle = len(answer.arguments) // 2
        pieces = [piece for piece in (answer.arguments[:middle], answer.arguments[middle:]) if piece]
        events.append(ToolFragment(0, id=f"call_emulated_{index}", name=answer.tool, index=index))
        events += [ToolFragment(0, arguments=piece, index=index) for piece in pieces]
    return [*events, Finish(answer.finish, index)]
