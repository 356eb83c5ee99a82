"""The ways in which models write tool calls and reasoning, told by words of their templates."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from hybrid_router.engines.llama.chat.calls import Calls, Either, Named, Objects
from hybrid_router.engines.llama.chat.tagged import Tagged


@dataclass(frozen=True)
class Script:
    """How calls are written where a grammar prescribes them; `NAME` stands for the tool's name.

    Attributes:
        begin, end: around all calls.
        before, after: around the arguments of each.
        joint: between two; None: there is only one.
    """

    before: str
    after: str = ""
    begin: str = ""
    end: str = ""
    joint: str | None = ""

    def spelled(self, calls: Iterable[tuple[str, str]]) -> str:
        """Calls, as names and arguments, as the model would write them."""
        each = (f"{self.named(name)}{arguments}{self.after}" for name, arguments in calls)
        return f"{self.begin}{(self.joint or '').join(each)}{self.end}"

    def named(self, name: str) -> str:
        """`before` of a call to `name`, which is a string where the call is JSON."""
        quoted = ": NAME" in self.before
        return self.before.replace("NAME", json.dumps(name, ensure_ascii=False) if quoted else name)


@dataclass(frozen=True)
class Format:
    """A way to write calls.

    Attributes:
        openers: what begins calls, and what reads on from there.
        bare: reads calls that begin with the answer, or behind another call, without a marker.
        script: for grammars; None: `tagged` tells.
        tagged: the reader of values between tags, for grammars.
        silent: markers around text, which are not shown.
        said: what stands around an answer in text.
        markers: what may be a single token of the vocabulary.
    """

    name: str
    openers: Mapping[str, Calls] = field(default_factory=dict)
    bare: Calls | None = None
    script: Script | None = None
    tagged: TagScript | None = None
    silent: tuple[str, ...] = ()
    said: tuple[str, str] = ("", "")
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class TagScript:
    """How calls with tagged values are written; `NAME` stands for the tool's or the parameter's name."""

    begin: str
    key: str
    value_end: str
    end: str


@dataclass(frozen=True)
class Thought:
    """What stands around reasoning."""

    begin: str
    end: str


THOUGHTS = (
    Thought("<think>", "</think>"),
    Thought("[THINK]", "[/THINK]"),
    Thought("<|START_THINKING|>", "<|END_THINKING|>"),
    Thought("<|channel>thought\n", "<channel|>"),
    Thought("<seed:think>", "</seed:think>"),
    Thought("<reasoning>", "</reasoning>"),
    Thought("<thinking>", "</thinking>"),
    Thought("<thought>", "</thought>"),
)

_OBJECT = '{"name": NAME, "arguments": '
_HERMES_READER = Objects(closers=("</tool_call>",))
HERMES = Format(
    "hermes",
    {"<tool_call>": _HERMES_READER},
    script=Script(f"<tool_call>\n{_OBJECT}", "}\n</tool_call>", joint="\n"),
    markers=("<tool_call>", "</tool_call>"),
)
GENERIC = replace(HERMES, name="generic")

_LLAMA_READER = Objects(between=(";", ","), sure=False)
LLAMA = Format(
    "llama3",
    {"<|python_tag|>": _LLAMA_READER},
    bare=_LLAMA_READER,
    script=Script('{"name": NAME, "parameters": ', "}", joint=None),
    markers=("<|python_tag|>",),
)


def _mistral_name(word: str) -> str:
    """A name, maybe with the call's id behind it."""
    return word.partition("[CALL_ID]")[0].strip()


_MISTRAL_READER = Either(Objects(), Named(ends=("[ARGS]",), clean=_mistral_name))
MISTRAL = Format(
    "mistral",
    {"[TOOL_CALLS]": _MISTRAL_READER},
    script=Script(_OBJECT, "}", begin="[TOOL_CALLS][", end="]", joint=", "),
    markers=("[TOOL_CALLS]",),
)
MISTRAL_NAMED = Format(
    "mistral-named",
    {"[TOOL_CALLS]": _MISTRAL_READER},
    script=Script("[TOOL_CALLS]NAME[ARGS]"),
    markers=("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
)

FUNCTIONARY_TAGS = Format(
    "functionary-3.1",
    {"<function=": Named(ends=(">",), closers=(("</function>",),))},
    script=Script("<function=NAME>", "</function>"),
)
FUNCTIONARY = Format(
    "functionary-3.2",
    {">>>": Named(ends=("\n",), plain="all")},
    script=Script("NAME\n", joint="\n>>>"),
    said=("all\n", ""),
)

_DEEPSEEK_READER = Named(
    begin="<｜tool▁call▁begin｜>",
    kinds=("function",),
    ends=("<｜tool▁sep｜>", "\n"),
    lead=("```json",),
    closers=(("```",), ("<｜tool▁call▁end｜>",)),
    last=("<｜tool▁calls▁end｜>",),
)
_DEEPSEEK_MARKERS = (
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
    "<｜tool▁calls▁end｜>",
)
DEEPSEEK_R1 = Format(
    "deepseek-r1",
    {"<｜tool▁calls▁begin｜>": _DEEPSEEK_READER},
    script=Script(
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>NAME\n```json\n",
        "\n```<｜tool▁call▁end｜>",
        begin="<｜tool▁calls▁begin｜>",
        end="<｜tool▁calls▁end｜>",
        joint="\n",
    ),
    markers=_DEEPSEEK_MARKERS,
)
DEEPSEEK = Format(
    "deepseek-v3.1",
    {"<｜tool▁calls▁begin｜>": _DEEPSEEK_READER},
    script=Script(
        "<｜tool▁call▁begin｜>NAME<｜tool▁sep｜>",
        "<｜tool▁call▁end｜>",
        begin="<｜tool▁calls▁begin｜>",
        end="<｜tool▁calls▁end｜>",
    ),
    markers=_DEEPSEEK_MARKERS,
)


def _kimi_name(word: str) -> str:
    """`functions.NAME:0` without its frame."""
    return word.strip().removeprefix("functions.").rpartition(":")[0]


KIMI = Format(
    "kimi",
    {
        "<|tool_calls_section_begin|>": Named(
            begin="<|tool_call_begin|>",
            ends=("<|tool_call_argument_begin|>",),
            closers=(("<|tool_call_end|>",),),
            last=("<|tool_calls_section_end|>",),
            clean=_kimi_name,
        )
    },
    script=Script(
        "<|tool_call_begin|>functions.NAME:0<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        begin="<|tool_calls_section_begin|>",
        end="<|tool_calls_section_end|>",
    ),
    markers=(
        "<|tool_calls_section_begin|>",
        "<|tool_call_begin|>",
        "<|tool_call_argument_begin|>",
        "<|tool_call_end|>",
        "<|tool_calls_section_end|>",
    ),
)


def _coder(name: str, begin: str, end: str) -> Format:
    """Functions and parameters as tags, their names behind an equals sign."""
    tags = ((">",), "<parameter=", (">",), "</parameter>", "</function>")
    return Format(
        name,
        {begin: Tagged("<function=", *tags, last=(end,)), "<function=": Tagged("", *tags, last=(end,))},
        tagged=TagScript(
            f"{begin}\n<function=NAME>\n",
            "<parameter=NAME>\n",
            "\n</parameter>\n",
            f"</function>\n{end}",
        ),
        markers=(begin, end),
    )


QWEN_CODER = _coder("qwen-coder", "<tool_call>", "</tool_call>")
SEED = _coder("seed", "<seed:tool_call>", "</seed:tool_call>")
GLM = Format(
    "glm",
    {
        "<tool_call>": Tagged(
            "",
            ("\n", "<arg_key>", "</tool_call>"),
            "<arg_key>",
            ("</arg_key>",),
            "</arg_value>",
            "</tool_call>",
            value=("<arg_value>",),
        )
    },
    tagged=TagScript(
        "<tool_call>NAME\n", "<arg_key>NAME</arg_key>\n<arg_value>", "</arg_value>\n", "</tool_call>"
    ),
    markers=("<tool_call>", "</tool_call>", "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"),
)
MINIMAX = Format(
    "minimax",
    {
        "<minimax:tool_call>": Tagged(
            '<invoke name="',
            ('">',),
            '<parameter name="',
            ('">',),
            "</parameter>",
            "</invoke>",
            last=("</minimax:tool_call>",),
            many=True,
        )
    },
    tagged=TagScript(
        '<minimax:tool_call>\n<invoke name="NAME">\n',
        '<parameter name="NAME">',
        "</parameter>\n",
        "</invoke>\n</minimax:tool_call>",
    ),
    markers=("<minimax:tool_call>", "</minimax:tool_call>"),
)

COMMAND = Format(
    "command-r7b",
    {
        "<|START_ACTION|>": Objects(
            closers=("<|END_ACTION|>",), names=("tool_name",), arguments=("parameters",)
        )
    },
    script=Script(
        '{"tool_call_id": "0", "tool_name": NAME, "parameters": ',
        "}",
        begin="<|START_ACTION|>[\n    ",
        end="\n]<|END_ACTION|>",
        joint=",\n    ",
    ),
    silent=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    said=("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    markers=("<|START_ACTION|>", "<|END_ACTION|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
)


def _listed(name: str, begin: str, end: str = "") -> Format:
    """A JSON list of calls behind a marker."""
    return Format(
        name,
        {begin: Objects(closers=(end,) if end else ())},
        script=Script(_OBJECT, "}", begin=f"{begin}[", end=f"]{end}", joint=", "),
        markers=(begin, end) if end else (begin,),
    )


GRANITE = _listed("granite-3", "<|tool_call|>")
PHI = _listed("phi-4", "<|tool_call|>", "<|/tool_call|>")
NEMOTRON = _listed("nemotron", "<TOOLCALL>", "</TOOLCALL>")

HARMONY = Format(
    "harmony",
    script=Script("<|channel|>commentary to=functions.NAME <|constrain|>json<|message|>", joint=None),
    said=("<|channel|>final<|message|>", ""),
    markers=(
        "<|channel|>",
        "<|message|>",
        "<|constrain|>",
        "<|start|>",
        "<|end|>",
        "<|call|>",
        "<|return|>",
    ),
)

# The first whose words are all in the template.
_TOLD_BY = (
    (HARMONY, ("<|channel|>", "<|message|>", "<|start|>")),
    (MISTRAL_NAMED, ("[TOOL_CALLS]", "[ARGS]")),
    (MISTRAL, ("[TOOL_CALLS]",)),
    (DEEPSEEK_R1, ("<｜tool▁calls▁begin｜>", "```json")),
    (DEEPSEEK, ("<｜tool▁calls▁begin｜>",)),
    (KIMI, ("<|tool_calls_section_begin|>",)),
    (FUNCTIONARY, (">>>", "recipient")),
    (SEED, ("<seed:tool_call>", "<parameter=")),
    (QWEN_CODER, ("<function=", "<parameter=")),
    (GLM, ("<arg_key>", "<tool_call>")),
    (MINIMAX, ("minimax:tool_call", "<invoke name=")),
    (COMMAND, ("<|START_ACTION|>", "tool_name")),
    (FUNCTIONARY_TAGS, ("<function=",)),
    (NEMOTRON, ("<TOOLCALL>",)),
    (PHI, ("<|tool_call|>", "<|/tool_call|>")),
    (GRANITE, ("<|tool_call|>",)),
    (HERMES, ("<tool_call>",)),
    (LLAMA, ("ipython", '"parameters": ')),
)


def format_of(template: str) -> Format:
    """The way a model writes calls; `GENERIC` where its template does not tell."""
    for known, words in _TOLD_BY:
        if all(word in template for word in words):
            return known
    return GENERIC


def thought_of(template: str) -> Thought | None:
    """What stands around a model's reasoning; None: its template does not tell."""
    return next((thought for thought in THOUGHTS if thought.begin.strip() in template), None)


def generic(native: Format) -> Format:
    """How calls are asked for where the template does not; the model may still write them its own way."""
    return replace(
        GENERIC,
        openers={**native.openers, **GENERIC.openers},
        silent=native.silent,
        said=native.said,
        markers=(*GENERIC.markers, *native.markers),
    )
