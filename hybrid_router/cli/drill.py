"""`hybrid-router drill`: the user's own policy against servers that fail, and what a client would see."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.config.schema import Config
from hybrid_router.core.call import Operation
from hybrid_router.drill.chats import chatting
from hybrid_router.drill.routes import Undrilled, Wanted
from hybrid_router.drill.run import Drilled, Finding, OnTrial, Report, drill
from hybrid_router.drill.words import grouped, sentence
from hybrid_router.routing.policy import compile_policy

if TYPE_CHECKING:
    from rich.console import Console


def _headers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, str], ...]:
    """`K=V` options as names in lower case with their values."""
    headers = []
    for value in values:
        name, equals, text = value.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(f"{value!r} is not K=V, as in x-private=true")
        headers.append((name.strip().lower(), text))
    return tuple(headers)


@click.command(name="drill")
@click.option(
    "--config", "path", type=click.Path(path_type=Path), default=Path("router.yaml"), show_default=True
)
@click.option("--alias", "aliases", multiple=True, help="This alias only; may be repeated.")
@click.option(
    "--header",
    "headers",
    metavar="K=V",
    multiple=True,
    callback=_headers,
    help="A header for rules that no call could be made for; may be repeated.",
)
@click.option("--text", default="", help="What the prompt says for such rules.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of text.")
def command(
    *, path: Path, aliases: tuple[str, ...], headers: tuple[tuple[str, str], ...], text: str, as_json: bool
) -> None:
    """Run the policy against servers that fail, and say what a client would see.

    Nothing real is asked: clouds are played on this machine, models are not loaded, credentials, state and
    network are left alone.  A backend that is off is drilled as if it were on.

    Exits 1 if a call that a rule keeps on this machine could leave it, or a call could go without an end;
    2 if the configuration or an alias is wrong.
    """
    loaded = loaded_or_exit(path)
    chosen = _chosen(aliases, loaded.config)
    config, others = chatting(loaded.config, _operations(loaded.config))
    drilled = [alias for alias in chosen if alias not in others]
    with _progress() as on_trial:
        report = drill(config, drilled, Wanted(headers=headers, text=text), on_trial)
    report.others = {alias: others[alias] for alias in chosen if alias in others}
    if as_json:
        click.echo(msgspec.json.encode(document(report)).decode())
    elif sys.stdout.isatty():
        from rich.console import Console  # noqa: PLC0415 - a pipe needs no tables

        draw(report, Console(highlight=False))
    else:
        click.echo("\n".join(lines(report)))
    if report.findings:
        raise SystemExit(1)


def _chosen(aliases: tuple[str, ...], config: Config) -> tuple[str, ...]:
    for alias in aliases:
        if alias not in config.aliases:
            raise click.UsageError(f"no alias {alias}; there is {', '.join(config.aliases)}")
    return tuple(dict.fromkeys(aliases)) or tuple(config.aliases)


def _operations(config: Config) -> dict[str, frozenset[Operation]]:
    """Step → what it can be asked, of every alias."""
    from hybrid_router.cli.abilities import operations  # noqa: PLC0415 - backends only when they are drilled

    policy = compile_policy(config)
    return operations(config, [step for alias in policy.aliases.values() for step in alias.steps])


@contextmanager
def _progress() -> Iterator[OnTrial]:
    """A bar on standard error, if a person looks at it."""
    if not sys.stderr.isatty():
        yield lambda made, of: None
        return
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("drill")
        yield lambda made, of: bar.update(task, completed=made, total=of)


def document(report: Report) -> dict[str, Any]:
    """The report as JSON has it.  Seconds are the policy's own."""
    return {
        "calls": report.calls_count,
        "findings": [msgspec.to_builtins(one) for one in report.findings],
        "not_drilled": [msgspec.to_builtins(one) for one in report.undrilled],
        "not_chatting": report.others,
        "routes": [_route(one) for one in report.drilled],
    }


def _route(drilled: Drilled) -> dict[str, Any]:
    route = drilled.route
    return {
        "alias": route.alias,
        "kinds": route.kinds,
        "steps": [step.name for step in route.plan.steps],
        "deadline_s": route.plan.total_s,
        "kept_here_by": route.private,
        "trials": [
            {
                "who": trial.situation.who,
                "fault": trial.situation.fault,
                **msgspec.to_builtins(trial.seen),
                "sentence": sentence(trial.seen),
            }
            for trial in drilled.trials
        ],
    }


def lines(report: Report) -> Iterator[str]:
    """The report as lines that no width cuts."""
    yield from headlines(report)
    for drilled in report.drilled:
        yield ""
        yield title(drilled)
        for who, rows in grouped(drilled.trials).items():
            if who:
                yield f"  {who} fails:"
            yield from (f"    {how}: {seen}" for how, seen in rows)


def draw(report: Report, console: Console) -> None:
    """The report as tables."""
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    for line in headlines(report):
        console.print(Text(line, style="bold red" if report.findings else "bold"))
    for drilled in report.drilled:
        console.print(Text(f"\n{title(drilled)}", style="bold"))
        for who, rows in grouped(drilled.trials).items():
            table = Table(pad_edge=False)
            table.add_column(f"{who} fails" if who else "all is well", overflow="fold", ratio=2)
            table.add_column("what the client sees", overflow="fold", ratio=3)
            for how, seen in rows:
                table.add_row(Text(how), Text(seen))
            console.print(table)


def headlines(report: Report) -> Iterator[str]:
    """What was found, first."""
    yield from (f"found: {_found(one)}" for one in report.findings)
    yield from (_undrilled(one) for one in report.undrilled)
    yield from (f"not drilled: alias {name}: its models {does}" for name, does in report.others.items())
    if not report.findings:
        kept = sum(len(one.trials) for one in report.drilled if one.route.private)
        yield (
            f"nothing found in {report.calls_count} calls: each ended in time, and none of the {kept} that a "
            "rule keeps on this machine left it"
        )


def _found(one: Finding) -> str:
    where = f" while {one.situation.who} fails ({one.situation.title})" if one.situation.who else ""
    return f"{one.alias}, {one.kind}{where}: {one.what}"


def _undrilled(one: Undrilled) -> str:
    kind = "which keeps calls on this machine, " if one.private else ""
    return (
        f"not drilled: rule {one.rule}, {kind}since no call could be made for which it holds: "
        "describe one with --header K=V or --text"
    )


def title(drilled: Drilled) -> str:
    """The route in a line."""
    route = drilled.route
    if route.plan.refused is not None:
        way = f"refused: {route.plan.refused}"
    else:
        way = ", then ".join(step.name for step in route.plan.steps) or "nobody"
    kept = f" (kept on this machine by rule {route.private})" if route.private else ""
    return f"{route.alias}, {', '.join(route.kinds)}{kept}: {way}"
