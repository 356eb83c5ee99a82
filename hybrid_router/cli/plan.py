"""`hybrid-router plan`: who would answer a call, in which order, and why.  Asks nobody, loads nothing."""

from __future__ import annotations

import datetime
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from hybrid_router.catalogue.refresh import newest
from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.config.schema import Config, Loaded
from hybrid_router.config.state import state_folder
from hybrid_router.core.call import Call, Feature, Message, Operation, usual
from hybrid_router.core.step import Plan
from hybrid_router.dispatch import interpreting
from hybrid_router.routing.conditions import minute_of_day
from hybrid_router.routing.estimate import prompt_tokens
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, compile_policy
from hybrid_router.routing.subject import everything_written

if TYPE_CHECKING:
    from rich.console import Console

NO_KEY = "local"


def _headers(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    """`K=V` options as a call has them: names in lower case, repeated ones joined."""
    headers: dict[str, str] = {}
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{value!r} is not K=V, as in x-private=true")
        key = name.strip().lower()
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    return headers


def _minute(ctx: click.Context, param: click.Parameter, value: str | None) -> int:
    """Minute of the day of `HH:MM`; of now without one."""
    if value is None:
        now = datetime.datetime.now().astimezone()
        return now.hour * 60 + now.minute
    if not re.fullmatch(r"([01]\d|2[0-3]):[0-5]\d", value, re.ASCII):
        raise click.BadParameter(f"{value!r} is not a time of day, as in 22:30")
    return minute_of_day(value)


@click.command(name="plan")
@click.argument("alias")
@click.option(
    "--config", "path", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True
)
@click.option("--offline", is_flag=True, help="As if no cloud could be reached.")
@click.option("--prompt-tokens", type=click.IntRange(0), help="As if the prompt had this many tokens.")
@click.option(
    "--header",
    "headers",
    metavar="K=V",
    multiple=True,
    callback=_headers,
    help="A request header; may be repeated.",
)
@click.option("--text", default="", help="What the prompt says.")
@click.option("--has", multiple=True, type=click.Choice([str(feature) for feature in Feature]))
@click.option(
    "--operation",
    type=click.Choice([str(each) for each in Operation]),
    help="What the call asks for.  [default: chat, or what the models are for if none chats]",
)
@click.option("--key", default=NO_KEY, help="Name of the caller's key.")
@click.option(
    "--time",
    "minute",
    metavar="HH:MM",
    callback=_minute,
    help="As if it were this time of day.  [default: now]",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of a table.")
def command(
    *,
    alias: str,
    path: Path,
    offline: bool,
    prompt_tokens: int | None,
    headers: dict[str, str],
    text: str,
    has: tuple[str, ...],
    operation: str | None,
    key: str,
    minute: int,
    as_json: bool,
) -> None:
    """Show which steps a call to ALIAS would take, in which order, and why.

    Takes every backend with its credentials to be up, and every local model that fits the memory it is
    given.  Exits 1 if nothing would run, 2 if the
    configuration or ALIAS is wrong.
    """
    loaded = loaded_or_exit(path)
    policy = compile_policy(loaded.config)
    _check_names(loaded.config, policy, alias, key)
    facts = _facts(loaded, policy, alias, online=not offline, minute=minute)
    call = Call(
        id="plan",
        operation=usual(facts.operations.values()) if operation is None else Operation(operation),
        alias=alias,
        messages=(Message(role="user", content=text),) if text else (),
        headers=headers,
        features=frozenset(Feature(name) for name in has),
        principal=key,
    )
    call = _sized(call, prompt_tokens)
    decided = plan(call, facts, policy)
    click.echo(_json(alias, decided)) if as_json else _show(alias, decided)
    if not decided.steps:
        raise SystemExit(1)


def _check_names(config: Config, policy: Policy, alias: str, key: str) -> None:
    """Exit 2 on an alias or a key that is not there."""
    if alias not in policy.aliases:
        raise click.UsageError(f"no alias {alias}; there is {', '.join(policy.aliases)}")
    keys = [each.name for each in config.server.keys]
    if key != NO_KEY and key not in keys:
        raise click.UsageError(f"no key {key}; there is {', '.join(keys) or 'none'}")


def _sized(call: Call, wanted_count: int | None) -> Call:
    """The call with token ids added until its prompt counts as `wanted_count` tokens."""
    if wanted_count is None:
        return call
    missing_count = wanted_count - prompt_tokens(call, everything_written(call))
    if missing_count < 0:
        raise click.UsageError(f"--text alone is {wanted_count - missing_count} tokens")
    return msgspec.structs.replace(call, prompts=((0,) * missing_count,))


def _facts(loaded: Loaded, policy: Policy, alias: str, *, online: bool, minute: int) -> Facts:
    """What is known without asking anybody."""
    from hybrid_router.cli.abilities import (  # noqa: PLC0415 - backends only when a plan is wanted
        abilities,
        operations,
        too_big,
    )

    steps = policy.aliases[alias].steps
    models = newest(state_folder(loaded, os.environ)).by_id()
    return Facts(
        off=loaded.off,
        down=too_big(loaded),
        local=policy.local,
        features=abilities(loaded.config, steps, models),
        operations=interpreting.widened(operations(loaded.config, steps, models)),
        online=online,
        minute_of_day=minute,
    )


def _json(alias: str, decided: Plan) -> str:
    return msgspec.json.encode({"alias": alias, **msgspec.to_builtins(decided)}).decode()


def _show(alias: str, decided: Plan) -> None:
    """A table on a terminal, one line a step elsewhere."""
    if sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - a pipe needs no tables

        draw(alias, decided, Console(highlight=False))
    else:
        click.echo("\n".join(lines(alias, decided)))


def lines(alias: str, decided: Plan) -> Iterator[str]:
    """The plan as lines that no width cuts."""
    yield _headline(alias, decided)
    for title, rows in _sections(decided):
        yield f"{title}:"
        yield from (f"  {name}: {because}" for name, because in rows)
    if decided.rules:
        yield f"rules that hold: {', '.join(decided.rules)}"


def draw(alias: str, decided: Plan, console: Console) -> None:
    """The plan as tables."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console.print(Text(_headline(alias, decided), style="bold"))
    for title, rows in _sections(decided):
        table = Table(pad_edge=False)
        table.add_column(title, overflow="fold", ratio=1)
        table.add_column("because", overflow="fold", ratio=1)
        for name, because in rows:
            table.add_row(Text(name), Text(because))
        console.print(table)
    if decided.rules:
        console.print(Text(f"rules that hold: {', '.join(decided.rules)}"))


def _headline(alias: str, decided: Plan) -> str:
    if decided.refused is not None:
        return f"{alias} is refused: {decided.refused}"
    return f"{alias}: who would run it" if decided.steps else f"{alias}: nobody would run it"


def _sections(decided: Plan) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Titles with rows of (step, because); none without rows."""
    if decided.steps:
        numbered = enumerate(decided.steps, 1)
        yield "tried in this order", [(f"{number}. {step.name}", step.because) for number, step in numbered]
    if decided.left_out:
        yield "left out", [(left.step, left.because) for left in decided.left_out]
