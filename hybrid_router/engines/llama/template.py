"""Chat templates: other people's Jinja, in a sandbox, in the child, bounded in size and time."""

from __future__ import annotations

import datetime
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import jinja2
import msgspec
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

from hybrid_router.core.call import Message
from hybrid_router.engines.task import TaskRefused

_OUTPUT_LIMIT_COUNT = 16 * 2**20
_TIME_LIMIT_S = 5.0


class TemplateSaysNo(Exception):
    """The template itself raised: the conversation does not suit this model."""


class OutOfTime(Exception):
    """The template ran too long."""


class Template:
    """A compiled chat template.

    `bos` and `eos` are how the model writes its first and last token.
    """

    def __init__(self, source: str, bos: str, eos: str) -> None:
        """Compile.

        Raises:
            jinja2.TemplateError: not valid Jinja.
        """
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols], autoescape=False
        )
        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = _raise
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(source)
        self._constants = {"bos_token": bos, "eos_token": eos}

    def render(self, messages: tuple[Message, ...]) -> str:
        """The prompt of a conversation, ready for the model's next words.

        Raises:
            TaskRefused: the template refuses the conversation, is broken, too slow or too long-winded.
        """
        variables = {**self._constants, "messages": [_plain(message) for message in messages]}
        try:
            with _alarm(_TIME_LIMIT_S):
                return _bounded(self._template.generate(add_generation_prompt=True, **variables))
        except TemplateSaysNo as error:
            raise TaskRefused("template_refused", f"the model's chat template says: {error}") from error
        except OutOfTime as error:
            raise TaskRefused("template_failed", "the model's chat template ran too long") from error
        except (
            jinja2.TemplateError,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            RecursionError,
        ) as error:
            raise TaskRefused(
                "template_failed", f"the model's chat template failed ({type(error).__name__})"
            ) from error


def _plain(message: Message) -> dict[str, Any]:
    """A message as templates expect it: text content as one string, `developer` as `system`."""
    plain: dict[str, Any] = msgspec.to_builtins(message)
    plain["role"] = "system" if message.role == "developer" else message.role
    plain["content"] = message.text
    return plain


def _bounded(pieces: Iterator[str]) -> str:
    """Join, but not for ever."""
    gathered, count = [], 0
    for piece in pieces:
        gathered.append(piece)
        count += len(piece)
        if count > _OUTPUT_LIMIT_COUNT:
            raise TaskRefused("template_failed", "the model's chat template writes without end")
    return "".join(gathered)


@contextmanager
def _alarm(limit_s: float) -> Iterator[None]:
    """Interrupt the main thread after `limit_s`: a template may loop without writing anything."""

    def ring(signum: int, frame: object) -> NoReturn:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _to_json(value: Any, indent: int | None = None, **ignored: Any) -> str:
    """Templates want `tojson` without HTML escapes, unlike Jinja's own filter."""
    return json.dumps(value, ensure_ascii=False, indent=indent)


def _raise(message: str) -> NoReturn:
    raise TemplateSaysNo(str(message)[:500])


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().astimezone().strftime(pattern)
