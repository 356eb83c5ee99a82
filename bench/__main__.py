"""`python -m bench [PART]`: measure, print, and keep if asked to."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from bench import fallback, faults, gateway, grammar, hedging, llama, machine, planning, prediction, residency
from bench.llama_subjects import Setup
from bench.processes import BenchError
from bench.progress import progress
from bench.report import Report, markdown, show

_WIDTH = 110
_FILE = click.Path(dir_okay=False, path_type=Path)
_PARTS = (
    "both",
    "gateway",
    "llama",
    "prediction",
    "hedging",
    "planning",
    "fallback",
    "faults",
    "grammar",
    "residency",
)


@click.command()
@click.argument("part", type=click.Choice(_PARTS), default="both")
@click.option("--rounds", default=3, show_default=True, help="How often each figure is taken.")
@click.option(
    "--seconds", default=1.2, show_default=True, help="Of load in each cell of the gateway part; of a storm."
)
@click.option(
    "--connections",
    multiple=True,
    type=click.IntRange(min=1),
    default=gateway.CONNECTIONS,
    show_default=True,
    help="Calls at once; may be given several times.",
)
@click.option("--tokens", default=128, show_default=True, help="A stream of the llama part has so many.")
@click.option("--json", "json_path", type=_FILE, help="Write all figures here.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, as in docs/benchmarks.md.")
def main(part: str, json_path: Path | None, **options: Any) -> None:
    """Measure the router beside a bare proxy and nginx, and its engine beside llama-cpp-python's own.

    The other parts take seconds: how well times are foretold, what hedging brings, what deciding costs,
    what falling back costs, how storms are met, what swaps of models cost; and minutes: what answers within
    a schema cost.
    """
    try:
        report = _measured(part, options)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    if json_path is not None:
        json_path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    if options["as_markdown"]:
        click.echo(markdown(report))
    else:
        show(report, Console(width=_WIDTH))


def _measured(part: str, options: dict[str, Any]) -> Report:
    """One run of a part, or of both that take their time."""
    rounds, say = options["rounds"], progress()
    report = Report(machine=machine.look())
    if part in ("both", "gateway"):
        report.gateways = gateway.measure(rounds, options["seconds"], options["connections"], say)
    if part in ("both", "llama"):
        report.llamas = _llamas(options, say)
    _measure_by_itself(part, report, say)
    if part == "planning":
        report.planning = planning.measure(rounds * planning.TIMES_A_ROUND, say)
    if part == "fallback":
        report.fallbacks = fallback.measure(rounds, say)
    if part == "residency":
        report.swaps = residency.measure(rounds, say)
    if part == "faults":
        report.storms = faults.measure(options["seconds"], say)
    return report


def _measure_by_itself(part: str, report: Report, say: Callable[[str], None]) -> None:
    """The parts that know how long they take."""
    if part == "prediction":
        report.predictions = prediction.measure(say)
    if part == "hedging":
        report.hedging = hedging.measure(say)
    if part == "grammar":
        report.grammars = grammar.measure(say)


def _llamas(options: dict[str, Any], say: Callable[[str], None]) -> llama.Llamas:
    """Tokens a second alone; `make bench-llama` measures the rest, and llama-server."""
    setup = Setup(
        path=llama.model(),
        binary=None,
        say=say,
        rounds_count=options["rounds"],
        tokens_count=options["tokens"],
        threads=len(os.sched_getaffinity(0)),
    )
    return llama.measure(setup, ["throughput"])


if __name__ == "__main__":
    main(prog_name="python -m bench")
