"""`python -m bench.models_command [SECTION …]`: local models of every kind, each beside its bare library."""

from __future__ import annotations

import importlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import click
import msgspec
from msgspec import Struct, field
from rich.console import Console

from bench import machine
from bench.llama_figures import Section, block
from bench.machine import Machine
from bench.models_setup import Setup
from bench.processes import BenchError
from bench.progress import progress
from bench.report import markdown_block, show_block

# Each module has `measure(setup) -> Section`, and is imported when it is asked for.
SECTIONS: Mapping[str, str] = MappingProxyType(
    {
        "idle": "bench.models_idle",
        "embeddings": "bench.embeddings",
        "transcription": "bench.transcription",
        "speech": "bench.speech",
    }
)
_WIDTH = 120
_FILE = click.Path(dir_okay=False, path_type=Path)


class Report(Struct, kw_only=True):
    """One run."""

    machine: Machine
    sections: list[Section] = field(default_factory=list)


@click.command()
@click.argument("sections", nargs=-1, type=click.Choice(tuple(SECTIONS)))
@click.option("--rounds", default=3, show_default=True, help="How often each figure is taken.")
@click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="Of each subject.")
@click.option("--json", "json_path", type=_FILE, help="Write all figures here.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, as in docs/benchmarks.md.")
def main(sections: tuple[str, ...], **options: Any) -> None:
    """Measure SECTIONS, or all: local models through the service, beside the libraries that run them."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or its services would go on
    setup = Setup(say=progress(), rounds_count=options["rounds"], threads=options["threads"])
    report = Report(machine=machine.look())
    told = markdown_block if options["as_markdown"] else None
    click.echo(report.machine.line + ("." if told else ""))
    for name in dict.fromkeys(sections or SECTIONS):
        try:
            section = importlib.import_module(SECTIONS[name]).measure(setup)
        except BenchError as error:
            raise click.ClickException(f"{name}: {error}") from None
        report.sections.append(section)
        click.echo(told(block(section)) if told else _printed(section))
        if options["json_path"] is not None:
            options["json_path"].write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


def _printed(section: Section) -> str:
    """As on a terminal."""
    console = Console(width=_WIDTH)
    with console.capture() as found:
        show_block(block(section), console)
    return found.get()


if __name__ == "__main__":
    main(prog_name="python -m bench.models_command")
