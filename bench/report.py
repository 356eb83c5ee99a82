"""The figures as tables: for a terminal, and as Markdown for docs/benchmarks.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

from msgspec import Struct
from rich import box
from rich.console import Console
from rich.table import Table

from bench import fault_report, gateway, grammar, llama_figures, residency, routing_report
from bench.fallback import Row as Fallback
from bench.faults import Storm
from bench.gateway import TARGET_RATIO, Gateways
from bench.hedging import Hedging
from bench.llama import Llamas
from bench.machine import Machine
from bench.planning import Planning
from bench.prediction import Predictions
from bench.routing_report import Block
from bench.subjects import DIRECT, ROUTER

_SATURATED = 0.85
_NOTHING = "–"


class Report(Struct, kw_only=True):
    """One run."""

    machine: Machine
    gateways: Gateways | None = None
    llamas: Llamas | None = None
    predictions: Predictions | None = None
    hedging: Hedging | None = None
    planning: Planning | None = None
    fallbacks: list[Fallback] | None = None
    storms: list[Storm] | None = None
    grammars: grammar.Grammars | None = None
    swaps: residency.Residency | None = None


def show(report: Report, console: Console) -> None:
    """Print everything."""
    console.print(report.machine.line, soft_wrap=True, highlight=False)
    for block in blocks(report):
        show_block(block, console)


def show_block(block: Block, console: Console) -> None:
    """Print a table and its notes."""
    console.print(f"\n[bold]{block.title}[/bold]", highlight=False)
    for note in block.notes:
        console.print(note, soft_wrap=True, highlight=False, markup=False)
    if block.rows:
        console.print(_table(block.rows))


def _table(rows: list[list[str]]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(rows[0]):
        table.add_column(name, justify="left" if at == 0 else "right", no_wrap=True)
    for row in rows[1:]:
        table.add_row(*row)
    return table


def markdown(report: Report) -> str:
    """Everything, to be pasted into docs/benchmarks.md."""
    return "\n".join([report.machine.line + ".\n", *map(markdown_block, blocks(report))])


def markdown_block(block: Block) -> str:
    """A table and its notes."""
    parts = [f"### {block.title}", *block.notes]
    if block.rows:
        parts.append("\n".join(_markdown_rows(block.rows)))
    return "\n\n".join(parts) + "\n"


def _markdown_rows(rows: list[list[str]]) -> Iterator[str]:
    head, *body = rows
    yield f"| {' | '.join(head)} |"
    yield f"| --- |{' ---: |' * (len(head) - 1)}"
    for row in body:
        yield f"| {' | '.join(row)} |"


def blocks(report: Report) -> Iterator[Block]:
    """What there is to tell, in order."""
    if report.gateways is not None:
        yield from _gateway_blocks(report.gateways)
    if report.llamas is not None:
        yield from _llama_blocks(report.llamas)
    if report.predictions is not None:
        yield from routing_report.prediction_blocks(report.predictions)
    if report.hedging is not None:
        yield routing_report.hedging_block(report.hedging)
    if report.planning is not None:
        yield routing_report.planning_block(report.planning)
    yield from _single_blocks(report)


def _single_blocks(report: Report) -> Iterator[Block]:
    """The parts of one table each."""
    if report.swaps is not None:
        yield from residency.blocks(report.swaps)
    if report.fallbacks is not None:
        yield fault_report.fallback_block(report.fallbacks)
    if report.storms is not None:
        yield fault_report.storm_block(report.storms)
    if report.grammars is not None:
        yield grammar.block(report.grammars)


def _gateway_blocks(gateways: Gateways) -> Iterator[Block]:
    for title, rows in groupby(gateways.rows, key=lambda row: row.load):
        yield Block(f"Gateways: {title}", [], [_GATEWAY_COLUMNS, *map(_gateway_row, rows)])
    yield Block("Gateways: target and reading", [verdict(gateways), *_gateway_notes(gateways)], [])


_GATEWAY_COLUMNS = [
    "gateway",
    "at once",
    "CPU ms a call",
    "× bare",
    "calls/s",
    "added p50 ms",
    "added p99 ms",
    "core used",
]


def _gateway_row(row: gateway.Row) -> list[str]:
    limited = row.is_paced or row.connections_count == 1  # by the load itself, whoever answers
    saturated = limited or row.busy is None or row.busy >= _SATURATED
    return [
        row.gateway,
        str(row.connections_count),
        _number(row.cpu_ms, "{:.3f}"),
        _number(row.cpu_ratio, "{:.2f}"),
        ("" if saturated else "≥ ") + f"{row.calls_per_s:,.0f}",
        _number(row.added_p50_ms, "{:.2f}"),
        _number(row.added_p99_ms, "{:.2f}"),
        _number(row.busy, "{:.0%}"),
    ]


def verdict(gateways: Gateways) -> str:
    """Whether the target is met, cell by cell."""
    ratios = [
        (f"{row.load}, {row.connections_count} at once", row.cpu_ratio)
        for row in gateways.rows
        if row.gateway == ROUTER and row.cpu_ratio is not None
    ]
    missed = [f"{where} ({ratio:.2f} ×)" for where, ratio in ratios if ratio > TARGET_RATIO]
    met = f"Target: CPU a call of the router ≤ {TARGET_RATIO:g} × the bare aiohttp proxy's. "
    met += f"Met in {len(ratios) - len(missed)} of {len(ratios)} cells."
    return f"{met} Missed: {'; '.join(missed)}." if missed else met


def _gateway_notes(gateways: Gateways) -> Iterator[str]:
    yield (
        f"Medians of {gateways.rounds_count} interleaved rounds; ratios and differences are taken inside "
        f"each round. Pinning: {gateways.pinning}. CPU is user and system time of the whole process tree. "
        f"Added latency is above `{DIRECT}`: of the whole answer for plain calls, of its first bytes for "
        f"streams. `core used` below {_SATURATED:.0%}: something else was the limit (load, upstream or other "
        f"programs), so calls/s is a lower bound (≥)."
    )
    yield from gateways.skipped


def _llama_blocks(llamas: Llamas) -> Iterator[Block]:
    yield llama_head(llamas)
    yield from map(llama_figures.block, llamas.sections)


def llama_head(llamas: Llamas) -> Block:
    """What all sections of the llama part have in common."""
    note = (
        f"The starter model, {llamas.threads} threads; medians of {llamas.rounds_count} interleaved rounds, "
        "one subject busy at a time. Ratio: the router's figure to llama-server's in the same round, or to "
        f"{llama_figures.BARE}'s where there is no llama-server."
    )
    return Block("The local engine", [note], [])


def _number(value: float | None, form: str) -> str:
    write: Callable[[float], str] = form.format
    return _NOTHING if value is None else write(value)
