"""Chat templates: other people's Jinja, in a sandbox, in the child, bounded in size, time and memory."""

from __future__ import annotations

import datetime
import json
import resource
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hybrid_router.engines.task import TaskRefused

_SOURCE_LIMIT_CHARS = 2**20
_OUTPUT_LIMIT_CHARS = 16 * 2**20
_TIME_LIMIT_S = 5.0
_MEMORY_LIMIT_BYTES = 2**28  # beyond what the process has already
_NUMBER_LIMIT_BITS = 256
_INDENT_LIMIT_COUNT = 16
_STATM = Path("/proc/self/statm")  # its first field: the address space in pages
_BROKEN = (
    jinja2.TemplateError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    AttributeError,
    RecursionError,
    MemoryError,
    SyntaxError,  # Python's own: blocks nested too deep
)


class TemplateSaysNo(Exception):
    """The template itself raised: the conversation does not suit this model."""


class OutOfTime(Exception):
    """The template ran too long."""


class Template:
    """A compiled chat template.

    `bos` and `eos` are how the model writes its first and last token.

    Attributes:
        source: the template's text.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        """Compile.

        Raises:
            jinja2.TemplateError: not valid Jinja, or too much of it.
        """
        if len(source) > _SOURCE_LIMIT_CHARS:
            raise jinja2.TemplateError(f"it is longer than {_SOURCE_LIMIT_CHARS} characters")
        try:
            with _bounded():
                self._template = _Sandbox().from_string(source)
        except (RecursionError, MemoryError, SyntaxError, ValueError, OverflowError, OutOfTime) as error:
            raise jinja2.TemplateError(f"it cannot be compiled ({type(error).__name__})") from error
        self.source = source
        self._constants = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: Sequence[Mapping[str, Any]], values: Mapping[str, Any] | None = None) -> str:
        """The prompt of a conversation, ready for the model's next words.

        `values` are the other variables the template may look at.

        Raises:
            TaskRefused: the template refuses the conversation, is broken, too slow or too long-winded.
        """
        variables = {"add_generation_prompt": True, **(values or {}), **self._constants}
        try:
            with _bounded():
                return _joined(self._template.generate(messages=messages, **variables))
        except TemplateSaysNo as error:
            raise TaskRefused("template_refused", f"the model's chat template says: {error}") from error
        except OutOfTime as error:
            raise TaskRefused("template_failed", "the model's chat template ran too long") from error
        except _BROKEN as error:
            raise TaskRefused(
                "template_failed", f"the model's chat template failed ({type(error).__name__})"
            ) from error


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it."""

    intercepted_binops = frozenset({"*", "**"})

    def __init__(self) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation], autoescape=False
        )
        self.filters["tojson"] = _to_json
        self.globals["raise_exception"] = _raise
        self.globals["strftime_now"] = _strftime_now

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Multiply, but no numbers so big that no signal could interrupt it."""
        if operator == "**" or any(
            isinstance(number, int) and number.bit_length() > _NUMBER_LIMIT_BITS for number in (left, right)
        ):
            raise OverflowError
        return super().call_binop(context, operator, left, right)


class _Generation(Extension):
    """`{% generation %}` marks the answers for training; here they are rendered like the rest."""

    tags = {"generation"}  # noqa: RUF012 - Jinja's own way to declare it

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The block's content."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _joined(pieces: Iterator[str]) -> str:
    """Join, but not for ever."""
    gathered, count = [], 0
    for piece in pieces:
        gathered.append(piece)
        count += len(piece)
        if count > _OUTPUT_LIMIT_CHARS:
            raise TaskRefused("template_failed", "the model's chat template writes without end")
    return "".join(gathered)


@contextmanager
def _bounded() -> Iterator[None]:
    """Bound time and memory: a template may loop, or double a text, without writing anything."""
    with _alarm(_TIME_LIMIT_S), _rations(_MEMORY_LIMIT_BYTES):
        yield


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    """Interrupt the main thread after `limit_s`."""

    def ring(signum: int, frame: object) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _rations(limit_bytes: int) -> Iterator[None]:
    """Let the process grow by no more than `limit_bytes`."""
    try:
        used_bytes = int(_STATM.read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    except (OSError, ValueError):  # no Linux: no ration
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    ceiling = used_bytes + limit_bytes
    wanted = ceiling if soft == resource.RLIM_INFINITY else min(soft, ceiling)
    resource.setrlimit(resource.RLIMIT_AS, (wanted, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Templates want `tojson` without HTML escapes, unlike Jinja's own filter."""
    if indent is not None and not 0 <= indent <= _INDENT_LIMIT_COUNT:
        raise ValueError(f"indent is {indent}")
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=(separators[0], separators[1]) if separators else None,
        sort_keys=sort_keys,
    )


def _raise(message: str) -> NoReturn:
    raise TemplateSaysNo(str(message)[:500])


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().astimezone().strftime(pattern)
