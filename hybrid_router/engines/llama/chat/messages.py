"""Messages as templates expect them, which differ in what they take and what they cannot stand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from hybrid_router.core.call import FunctionCall, Message, Part, RefusalPart, TextPart, ToolCall
from hybrid_router.engines.llama.chat.formats import Script
from hybrid_router.engines.llama.chat.json_text import parsed
from hybrid_router.engines.task import TaskRefused

Plain = dict[str, Any]
Mark = Callable[[Part], str]
Render = Callable[[list[Plain], dict[str, Any]], str]
_SHORT_ID_CHARS = 9


@dataclass(frozen=True)
class Taste:
    """What a template wants.

    Attributes:
        tools: it renders tools itself.
        calls: it renders tool calls itself.
        parsed_arguments: arguments of earlier calls as an object; else as their JSON text.
        null_content: a message of tool calls alone has no content; else an empty one.
        short_ids: ids of calls have nine letters and digits.
        thinking_key: reasoning of earlier turns is called `thinking` and excludes content beside calls.
        listed: content is a list of parts; else a text.
    """

    tools: bool = True
    calls: bool = True
    parsed_arguments: bool = True
    null_content: bool = False
    short_ids: bool = False
    thinking_key: bool = False
    listed: bool = False


def plain(messages: Iterable[Message], taste: Taste, script: Script | None, mark: Mark | None) -> list[Plain]:
    """The conversation as a template's variable.

    Args:
        script: how calls are written that the template does not render.
        mark: what to write in place of an image or sound.

    Raises:
        TaskRefused: it holds an image or sound, and none can be read.
    """
    names: dict[str, str] = {}
    written = []
    for message in messages:
        names.update((call.id, call.function.name) for call in message.tool_calls or ())
        written.append(_plain(message, taste, names, mark))
    if taste.calls or script is None or not any(map(_about_calls, written)):
        return written
    return _told(written, script, results=not taste.tools)


def _about_calls(message: Plain) -> bool:
    return message["role"] == "tool" or "tool_calls" in message


def _plain(message: Message, taste: Taste, names: dict[str, str], mark: Mark | None) -> Plain:
    content = _content(message, mark)
    out: Plain = {"role": _ROLES.get(message.role, message.role), "content": content}
    if message.role in {"tool", "function"}:
        name = message.name or names.get(message.tool_call_id or "")
        out |= {"name": name} if name else {}
        if message.tool_call_id is not None:
            out["tool_call_id"] = _id(message.tool_call_id, taste)
    elif message.name:
        out["name"] = message.name
    if message.reasoning_content:
        out["reasoning_content"] = message.reasoning_content
        if taste.thinking_key and not (message.tool_calls and content):
            out["thinking"] = message.reasoning_content
    if message.tool_calls:
        out["tool_calls"] = [_call(call, taste) for call in message.tool_calls]
        if taste.null_content and not content:
            out["content"] = None
    return out


_ROLES = {"developer": "system", "function": "tool"}


def _content(message: Message, mark: Mark | None) -> str:
    """Text parts joined; a marker where an image or sound belongs."""
    if message.content is None or isinstance(message.content, str):
        return message.content or ""
    pieces = []
    for part in message.content:
        if isinstance(part, TextPart):
            pieces.append(part.text)
        elif isinstance(part, RefusalPart):
            pieces.append(part.refusal)
        elif mark is None:
            raise TaskRefused(
                "unsupported_parameter",
                "messages: this model reads text only; it has no projector for images, sound or files",
                by_call=True,
            )
        else:
            pieces.append(mark(part))
    return "".join(pieces)


def _call(call: ToolCall, taste: Taste) -> Plain:
    arguments: Any = call.function.arguments
    if taste.parsed_arguments:
        found = parsed(arguments or "{}")
        arguments = found[0] if found and isinstance(found[0], dict) else arguments
    return {
        "id": _id(call.id, taste),
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _id(call_id: str, taste: Taste) -> str:
    if not taste.short_ids or (len(call_id) == _SHORT_ID_CHARS and call_id.isalnum()):
        return call_id
    return hashlib.sha256(call_id.encode("utf-8", "replace")).hexdigest()[:_SHORT_ID_CHARS]


def _told(messages: list[Plain], script: Script, *, results: bool) -> list[Plain]:
    """Calls as words of the assistant, and `results` as words of the user."""
    out: list[Plain] = []
    for message in messages:
        if message["role"] == "tool" and results:
            message = _answer(message["content"])  # noqa: PLW2901 - it stands for the same turn
        elif calls := message.pop("tool_calls", ()):
            message["content"] = "\n".join(filter(None, (message["content"], _spelled(calls, script))))
        if out and out[-1]["role"] == message["role"] == "user":
            out[-1] = {**out[-1], "content": f"{out[-1]['content']}\n{message['content']}"}
        else:
            out.append(message)
    return out


def _answer(content: str) -> Plain:
    return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}


def _spelled(calls: list[Plain], script: Script) -> str:
    functions = [call["function"] for call in calls]
    return script.spelled((function["name"], _json(function["arguments"])) for function in functions)


def _json(arguments: Any) -> str:
    return arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def instructed(messages: list[Plain], documents: Iterable[Plain]) -> list[Plain]:
    """The conversation with the tools explained in its system message."""
    listed = "\n".join(json.dumps(document, ensure_ascii=False) for document in documents)
    words = _INSTRUCTION.format(listed)
    if messages and messages[0]["role"] == "system":
        first = {**messages[0], "content": f"{messages[0]['content']}\n\n{words}"}
        return [first, *messages[1:]]
    return [{"role": "system", "content": words}, *messages]


_INSTRUCTION = """\
You may call functions. Their signatures, one JSON object per line:
<tools>
{}
</tools>
To call one, write nothing but a JSON object with its name and arguments between these tags, and wait for \
the result. Repeat this for each call:
<tool_call>
{{"name": "function name", "arguments": {{"parameter": "value"}}}}
</tool_call>"""


def folded(messages: list[Plain]) -> list[Plain] | None:
    """The system message put before the first user message, for templates without a system role."""
    if len(messages) < 2 or messages[0]["role"] != "system" or messages[1]["role"] != "user":  # noqa: PLR2004
        return None
    first = {**messages[1], "content": f"{messages[0]['content']}\n\n{messages[1]['content']}"}
    return [first, *messages[2:]]


def one_by_one(messages: list[Plain]) -> list[Plain]:
    """Each call as a turn of its own with its result behind it, for templates that take one at a time."""
    out: list[Plain] = []
    placed: set[int] = set()
    for message in messages:
        calls = message.get("tool_calls", ())
        if len(calls) < 2 and id(message) not in placed:  # noqa: PLR2004
            out.append(message)
        for at, call in enumerate(calls if len(calls) > 1 else ()):
            bare = {"role": "assistant", "content": None if message["content"] is None else ""}
            results = [other for other in messages if other.get("tool_call_id") == call["id"]]
            out += [{**(bare if at else message), "tool_calls": [call]}, *results]
            placed.update(map(id, results))
    return out


def listed(messages: Iterable[Plain]) -> list[Plain]:
    """Contents as lists of one text each."""
    return [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if isinstance(message["content"], str)
        else message
        for message in messages
    ]


def taste_of(source: str, render: Render) -> Taste:
    """Find out what a template wants, from its words and by trying.

    `render` may raise `TaskRefused`.
    """
    if _wants_lists(render):
        found = _textual_taste(source, lambda messages, values: render(listed(messages), values))
        return replace(found, listed=True)
    return _textual_taste(source, render)


def _wants_lists(render: Render) -> bool:
    """Whether what is said is only rendered from a list of parts, as some templates for images have it."""
    said = [{"role": "user", "content": _PROBE_WORD}]
    return not _renders(render, said) and _renders(render, listed(said))


def _renders(render: Render, messages: list[Plain]) -> bool:
    try:
        return _PROBE_WORD in render(messages, {})
    except TaskRefused:
        return False


def _textual_taste(source: str, render: Render) -> Taste:
    """What a template wants beside."""
    short_ids = "length != 9" in source or "length!=9" in source
    thinking_key = "message.thinking" in source or 'message["thinking"]' in source
    wants_null = "content is not none" in _squeezed(source)
    tools = takes_tools(render)
    taste = Taste(tools=tools, short_ids=short_ids, thinking_key=thinking_key, null_content=wants_null)
    for candidate in _candidates(taste):
        if _suits(candidate, render):
            return candidate
    return replace(taste, calls=False)


def takes_tools(render: Render) -> bool:
    """Whether the rendered text changes when there are tools."""
    turns = [{"role": "user", "content": "hello"}]
    try:
        return render(turns, {"tools": [_PROBE_TOOL]}) != render(turns, {})
    except TaskRefused:
        return False


def _squeezed(source: str) -> str:
    """Ways to say that content is there, as one."""
    for old, new in (("['content']", ".content"), ('["content"]', ".content")):
        source = source.replace(old, new)
    return source


def _candidates(taste: Taste) -> Iterable[Taste]:
    for null_content in dict.fromkeys((taste.null_content, False)):
        for parsed_arguments in (True, False):
            yield replace(taste, null_content=null_content, parsed_arguments=parsed_arguments)


def _suits(taste: Taste, render: Render) -> bool:
    """Whether the template renders a call, with arguments as JSON."""
    try:
        text = render(plain(_PROBE, taste, None, None), {"tools": [_PROBE_TOOL]})
    except TaskRefused:
        return False
    return "pr0be" in text and "'pr0be'" not in text and '\\"pr0be' not in text


_PROBE_WORD = "pr0be"
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks something up.",
        "parameters": {
            "type": "object",
            "properties": {"word": {"type": "string", "description": "What to look up."}},
            "required": ["word"],
        },
    },
}
_PROBE = (
    Message(role="user", content="hello"),
    Message(
        role="assistant",
        tool_calls=[ToolCall(id="abcdefghi", function=FunctionCall("look_up", '{"word": "pr0be"}'))],
    ),
    Message(role="tool", content="found", tool_call_id="abcdefghi"),
)
