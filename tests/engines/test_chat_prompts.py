"""From a task to a prompt: what the model reads, and how its answer is read and held."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec.structs import replace

from hybrid_router.core.call import (
    FunctionCall,
    ImagePart,
    Message,
    Operation,
    RefusalPart,
    TextPart,
    ToolCall,
)
from hybrid_router.core.event import Event, Reasoning, Text, ToolFragment
from hybrid_router.engines.llama.chat.chat import Chat
from hybrid_router.engines.llama.seams import Form, Prompt
from hybrid_router.engines.task import Task, TaskRefused

# Templates of our own, each in the manner of a family of models.
PLAIN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
HERMES = (
    "{% if tools %}<|im_start|>tools\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}<|im_end|>\n"
    "{% endif %}{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}\n<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
)
OPENED = HERMES.replace("{% if enable_thinking is defined and not", "<think>\n{% if false and").replace(
    "<|im_start|>tools", "<|im_start|>tools_"
)
STRINGS = (  # arguments as they came
    "{{ tools | tojson if tools }}{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<function={{ c.function.name }}>{{ '' + c.function.arguments }}"
    "</function>{% endfor %}{% endfor %}<assistant>"
)
NINE = (
    "{% for m in messages %}{% if m.role == 'tool' %}{% if m.tool_call_id|length != 9 %}"
    "{{ raise_exception('nine letters') }}{% endif %}[TOOL_RESULTS]{{ m.tool_call_id }} {{ m.content }}"
    "{% elif m.tool_calls %}{% for c in m.tool_calls %}{% if c.id|length != 9 %}"
    "{{ raise_exception('nine letters') }}{% endif %}[TOOL_CALLS][{{ c.function | tojson }}, {{ c.id }}]"
    "{% endfor %}{% else %}[INST]{{ m.content }}[/INST]{% endif %}{% endfor %}{{ tools | tojson if tools }}"
)
NULL = HERMES.replace("{{ m.content }}", "{% if m.content is not none %}({{ m.content }}){% endif %}")
NO_SYSTEM = (
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system role') }}{% endif %}"
    "<{{ m.role }}>{{ m.content }}{% endfor %}<model>"
)
LISTED = (  # knows tools, but not the calls of earlier turns
    "{{ tools | tojson if tools }}{# answers with <|tool_call|> #}{% for m in messages %}<{{ m.role }}>"
    "{{ m.content }}{% endfor %}<assistant>"
)
CHANNELS = (
    "{% if tools %}{{ tools | tojson }}{% endif %}{% for m in messages %}<|start|>{{ m.role }}<|message|>"
    "{{ m.content }}{% for c in m.tool_calls or [] %}<|channel|>commentary to=functions.{{ c.function.name }}"
    "<|message|>{{ c.function.arguments | tojson }}<|call|>{% endfor %}<|end|>{% endfor %}"
    "Reasoning: {{ reasoning_effort or 'medium' }}<|start|>assistant"
)

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Looks at the sky.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
HISTORY = (
    Message(role="user", content="Rome?"),
    Message(
        role="assistant",
        reasoning_content="I look.",
        tool_calls=[ToolCall(id="call_123", function=FunctionCall("get_weather", '{"city": "Rome"}'))],
    ),
    Message(role="tool", tool_call_id="call_123", content="sunny"),
)


class File:
    """A model file with these templates, and these texts as single tokens."""

    def __init__(
        self, template: str | None, named: dict[str, str] | None = None, single: tuple[str, ...] = ()
    ):
        self._default, self._named = template, named or {}
        self._single = single

    def template(self, name: str | None = None) -> str | None:
        return self._default if name is None else self._named.get(name)

    def special_text(self, which: str) -> str:
        return f"<{which}>"

    def tokenize(self, text: str, *, add_special: bool = True, read_special: bool = True) -> list[int]:
        return [256 + self._single.index(text)] if text in self._single else list(text.encode())

    def shown_piece(self, token: int) -> bytes:
        return self._single[token - 256].encode() if token >= 256 else bytes([token])


def task(*messages: Message, **fields: Any) -> Task:
    """A chat."""
    return Task(
        id=1, operation=Operation.CHAT, messages=messages or (Message(role="user", content="Hi"),), **fields
    )


def read(prompt: Prompt, text: str, index: int = 0) -> list[Event]:
    """What an answer shows."""
    assert prompt.parser is not None
    parser = prompt.parser(index)
    return [*parser.feed(text), *parser.flush("stop")]


def form_of(prompt: Prompt) -> Form:
    assert prompt.form is not None
    return prompt.form


def test_plain_words_need_no_parser() -> None:
    """A model without tools and reasoning: all text is content."""
    prompt = Chat(File(PLAIN)).prepare(task())

    assert prompt == Prompt("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n")


def test_the_template_renders_tools_calls_and_reasoning() -> None:
    """Arguments as an object where it wants one, what is missing in a tool as nothing."""
    bare = {"type": "function", "function": {"name": "now"}}
    prompt = Chat(File(HERMES)).prepare(task(*HISTORY, tools=(bare,)))

    assert prompt.text == (
        '<|im_start|>tools\n{"type": "function", "function": {"name": "now", "description": "", '
        '"parameters": {"type": "object", "properties": {}}}}\n<|im_end|>\n'
        "<|im_start|>user\nRome?<|im_end|>\n<|im_start|>assistant\n<think>I look.</think><tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>tool\nsunny<|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.form is None


def test_arguments_stay_text_where_the_template_joins_them() -> None:
    """Some templates put them together with other text."""
    prompt = Chat(File(STRINGS)).prepare(task(*HISTORY, tools=(WEATHER,)))

    assert '<function=get_weather>{"city": "Rome"}</function>' in prompt.text


def test_ids_of_nine_letters() -> None:
    """Where the template insists on them, ids are shortened, the same way for call and result."""
    text = Chat(File(NINE)).prepare(task(*HISTORY, tools=(WEATHER,))).text

    call_id = text.split("[TOOL_RESULTS]")[1].split(" ")[0]
    assert len(call_id) == 9
    assert call_id.isalnum()
    assert f", {call_id}]" in text


def test_a_message_of_calls_alone_has_no_content_where_that_matters() -> None:
    """Null and empty differ for some templates."""
    text = Chat(File(NULL)).prepare(task(*HISTORY, tools=(WEATHER,))).text

    assert "()" not in text
    assert "(Rome?)" in text


@pytest.mark.parametrize("system", ["", "Be brief."])
def test_tools_are_explained_where_the_template_ignores_them(system: str) -> None:
    """In the system message; earlier calls and results are told in the same words."""
    first = (Message(role="system", content=system),) if system else ()
    chat = Chat(File(PLAIN))
    prompt = chat.prepare(task(*first, *HISTORY, tools=(WEATHER,)))

    begin, rest = prompt.text.split("<|im_end|>", 1)
    assert begin.startswith(f"<|im_start|>system\n{system}")
    assert '"name": "get_weather"' in begin
    assert rest == (
        "\n<|im_start|>user\nRome?<|im_end|>\n<|im_start|>assistant\n<tool_call>\n"
        '{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>\n'
        "<|im_start|>user\n<tool_response>\nsunny\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )
    shown = read(prompt, '<tool_call>{"name": "get_weather", "arguments": {"city": "Oslo"}}</tool_call>', 3)
    assert [type(event) for event in shown] == [ToolFragment, ToolFragment]
    assert all(isinstance(event, ToolFragment) and event.index == 3 for event in shown)


def test_calls_are_told_in_the_models_words() -> None:
    """A template that shows tools, but no calls of earlier turns: they become its words."""
    text = Chat(File(LISTED)).prepare(task(*HISTORY, tools=(WEATHER,))).text

    assert (
        '<assistant><|tool_call|>[{"name": "get_weather", "arguments": {"city": "Rome"}}]<tool>sunny' in text
    )


def test_a_template_of_its_own_for_tools() -> None:
    """Files may hold one named `tool_use`; it is taken where there are tools."""
    chat = Chat(File(PLAIN, {"tool_use": HERMES}))

    assert chat.prepare(task()).text.startswith("<|im_start|>user")
    assert chat.prepare(task(tools=(WEATHER,))).text.startswith("<|im_start|>tools")
    assert chat.prepare(task(tools=(WEATHER,), tool_choice="none")).text.startswith("<|im_start|>user")


def test_without_a_system_role_the_user_says_it() -> None:
    """The template refuses, so the words go before the first user's."""
    messages = (Message(role="developer", content="Be brief."), Message(role="user", content="Hi"))

    assert Chat(File(NO_SYSTEM)).prepare(task(*messages)).text == "<user>Be brief.\n\nHi<model>"


@pytest.mark.parametrize("template", ["single", "channels"])
def test_calls_of_one_turn_are_told_one_by_one(template: str) -> None:
    """Where the template takes one at a time, each has its result behind it; none is left out."""
    single = HERMES.replace(
        "<|im_start|>{{ m.role }}",
        "{% if m.tool_calls|length > 1 %}{{ raise_exception('one') }}{% endif %}<|im_start|>{{ m.role }}",
    )
    calls = [
        ToolCall(id=f"c{at}", function=FunctionCall("get_weather", f'{{"city": "{city}"}}'))
        for at, city in enumerate(("Rome", "Oslo"))
    ]
    messages = (
        Message(role="user", content="Both?"),
        Message(role="assistant", tool_calls=calls),
        Message(role="tool", tool_call_id="c0", content="sunny"),
        Message(role="tool", tool_call_id="c1", content="snowy"),
        Message(role="user", content="Thanks"),
    )
    chat = Chat(File(single if template == "single" else CHANNELS))

    text = chat.prepare(task(*messages, tools=(WEATHER,))).text

    words = ("Both?", '"Rome"', "sunny", '"Oslo"', "snowy", "Thanks")
    assert [text.count(word) for word in words] == [1] * len(words)
    assert sorted(words, key=text.index) == list(words)


def test_a_refusal_of_the_template_is_heard() -> None:
    """What it says reaches the client, also where another way was tried."""
    with pytest.raises(TaskRefused, match="no system role"):
        Chat(File(NO_SYSTEM)).prepare(task(Message(role="system", content="Be brief.")))


def test_parts_are_joined_and_media_marked() -> None:
    """Where there is a projector, a mark of its own stands for an image; else it is refused by name."""
    message = Message(
        role="user", content=[TextPart("a"), ImagePart({"url": "data:x"}), TextPart("b"), RefusalPart("c")]
    )
    seeing = Chat(File(PLAIN), media=True)
    prompts = [seeing.prepare(task(message)) for _ in range(2)]

    marks = [next(iter(prompt.media)) for prompt in prompts]
    assert all(f"a{mark}bc" in prompt.text for mark, prompt in zip(marks, prompts, strict=True))
    assert marks[0] != marks[1]
    with pytest.raises(TaskRefused, match="no projector") as refused:
        Chat(File(PLAIN)).prepare(task(message))
    assert refused.value.by_call


def test_a_template_that_wants_lists_gets_lists() -> None:
    """Those made for images often render nothing else; what is said must not vanish."""
    listing = (
        "{% for m in messages %}<{{ m.role }}>{% for line in m.content %}"
        "{% if line.type == 'text' %}{{ line.text }}{% endif %}{% endfor %}{% endfor %}"
    )
    message = Message(role="user", content=[TextPart("a"), ImagePart({"url": "data:x"}), TextPart("b")])

    prompt = Chat(File(listing), media=True).prepare(
        task(Message(role="system", content="Be brief."), message)
    )

    assert prompt.text == f"<system>Be brief.<user>a{next(iter(prompt.media))}b"


def test_reasoning_is_read_where_the_template_knows_it() -> None:
    """The model may begin it, or the prompt has."""
    for template, answer in ((HERMES, "<think>Hm.</think>\n\nYes."), (OPENED, "Hm.</think>\n\nYes.")):
        prompt = Chat(File(template)).prepare(task())
        assert read(prompt, answer) == [Reasoning("Hm."), Text("Yes.")]


def test_reasoning_is_read_where_the_vocabulary_knows_it() -> None:
    """Some templates leave out what the model was taught."""
    prompt = Chat(File(PLAIN, single=("<think>", "</think>"))).prepare(task())

    assert read(prompt, "<think>Hm.</think>Yes.") == [Reasoning("Hm."), Text("Yes.")]
    assert prompt.visible == ("<think>", "</think>")


@pytest.mark.parametrize(
    "fields",
    [
        {"reasoning_effort": "none"},
        {"reasoning_tokens": 0},
        {"template_values": {"enable_thinking": False}},
    ],
)
def test_reasoning_can_be_turned_off(fields: dict[str, Any]) -> None:
    """By the template if it can; what a template has begun regardless is ended."""
    for template in (HERMES, OPENED):
        prompt = Chat(File(template)).prepare(task(**fields))
        assert prompt.text.endswith("<think>\n\n</think>\n\n")
        assert read(prompt, "Yes.") == [Text("Yes.")]


def test_effort_reaches_the_template() -> None:
    """In its own words where it knows three."""
    chat = Chat(File(CHANNELS))

    assert "Reasoning: medium" in chat.prepare(task()).text
    assert "Reasoning: high" in chat.prepare(task(reasoning_effort="max")).text
    assert "Reasoning: low" in chat.prepare(task(reasoning_effort="minimal")).text


@pytest.mark.parametrize(
    "values",
    [
        {"messages": "x"},
        {"bos_token": "x"},
        {"__class__": "x"},
        {"a-b": 1},
        {"x": ["a"]},
        {"x": "y" * 1001},
        {f"v{i}": i for i in range(17)},
    ],
)
def test_template_values_are_few_and_plain(values: dict[str, Any]) -> None:
    """And none of those that the conversation is made of."""
    with pytest.raises(TaskRefused) as refused:
        Chat(File(PLAIN)).prepare(task(template_values=values))

    assert refused.value.by_call


def test_an_opening_is_behind_the_reasoning() -> None:
    """A beginning that the client has is text: reasoning ends before it, and it is not said again."""
    prompt = Chat(File(OPENED)).prepare(task(tools=(WEATHER,)), opening="The sky ")

    assert prompt.text.endswith("<think>\n\n</think>\n\n")
    assert read(prompt, "is blue.") == [Text("is blue.")]
    channels = Chat(File(CHANNELS)).prepare(task(), opening="The sky ")
    assert channels.text.endswith("<|start|>assistant<|channel|>final<|message|>")
    assert read(channels, "is blue.<|return|>") == [Text("is blue.")]


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
STRICT = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}


def test_a_schema_is_the_form_of_the_answer() -> None:
    """By itself where the model does not reason, behind the reasoning where it may."""
    assert form_of(Chat(File(PLAIN)).prepare(task(response_format=STRICT))) == Form("json_schema", SCHEMA)
    assert form_of(Chat(File(PLAIN)).prepare(task(response_format={"type": "json_object"}))) == Form(
        "json_schema", {"type": "object"}
    )
    reasoned = form_of(Chat(File(OPENED)).prepare(task(response_format=STRICT)))
    assert reasoned.kind == "lark"
    assert reasoned.source.startswith("start: thought")
    off = Chat(File(OPENED)).prepare(task(response_format=STRICT, reasoning_effort="none"))
    assert form_of(off) == Form("json_schema", SCHEMA)


def test_other_forms_of_the_answer() -> None:
    """A regular expression may stand behind reasoning; before a grammar there is none."""
    grammar = {"type": "grammar", "grammar": 'root ::= "a"'}
    prompt = Chat(File(OPENED)).prepare(task(response_format=grammar))
    assert form_of(prompt) == Form("gbnf", 'root ::= "a"')
    assert prompt.text.endswith("</think>\n\n")

    regex = {"type": "regex", "regex": "a/b"}
    assert form_of(Chat(File(PLAIN)).prepare(task(response_format=regex))) == Form("regex", "a/b")
    assert "/a\\/b/" in form_of(Chat(File(OPENED)).prepare(task(response_format=regex))).source


def test_required_calls_have_a_form() -> None:
    """`required`, or a function by name; `auto` binds only strict tools."""
    chat = Chat(File(HERMES))
    named = {"type": "function", "function": {"name": "get_weather"}}
    strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}  # type: ignore[dict-item]

    for choice in ("required", named):
        form = form_of(chat.prepare(task(tools=(WEATHER,), tool_choice=choice)))
        assert form.kind == "lark"
        assert "get_weather" in form.source
    assert chat.prepare(task(tools=(WEATHER,), tool_choice="auto")).form is None
    assert form_of(chat.prepare(task(tools=(strict,)))).kind == "lark"


@pytest.mark.parametrize(
    ("tools", "choice", "words"),
    [
        (({"type": "custom", "custom": {}},), "auto", "type function"),
        (({"type": "function", "function": {}},), "auto", "needs a name"),
        ((WEATHER,), {"type": "function", "function": {"name": "sing"}}, "sing"),
        ((WEATHER,), {"type": "any"}, "tool_choice"),
    ],
)
def test_tools_that_cannot_be_are_refused(tools: tuple[Any, ...], choice: Any, words: str) -> None:
    """By name, before anything is computed."""
    with pytest.raises(TaskRefused, match=words) as refused:
        Chat(File(HERMES)).prepare(task(tools=tools, tool_choice=choice))

    assert refused.value.by_call


def test_allowed_tools_are_the_ones_that_may_be_called() -> None:
    """The model sees all, so that its prompt stays the same; only the allowed count as calls."""
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "now"}}]},
    }
    now = {"type": "function", "function": {"name": "now"}}
    asked = task(tools=(WEATHER, now))
    chat = Chat(File(HERMES))
    call = '<tool_call>{"name": "get_weather", "arguments": {}}</tool_call>'

    limited = chat.prepare(replace(asked, tool_choice=allowed))

    assert limited.text == chat.prepare(asked).text
    assert read(limited, call) == [Text(call)]
    assert len(read(chat.prepare(asked), call)) == 2


def test_a_file_without_a_template_says_so() -> None:
    """And where to go instead."""
    with pytest.raises(TaskRefused, match="/v1/completions"):
        Chat(File(None))
