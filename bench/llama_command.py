"""`python -m bench.llama_command`: everything about the local engine in one run, side by side."""

from __future__ import annotations

import os
import shlex
import signal
from pathlib import Path
from typing import Any

import click
import msgspec
from rich.console import Console

from bench import llama, machine
from bench.llama_figures import block
from bench.llama_subjects import Setup
from bench.processes import BenchError
from bench.progress import progress
from bench.report import Report, llama_head, markdown_block, show_block
from bench.routing_report import Block

_WIDTH = 120
_FILE = click.Path(dir_okay=False, path_type=Path)
_SECTION = click.Choice(tuple(llama.SECTIONS))
_BINARY = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.option("--llama-server", "binary", type=_BINARY, help="Measure this program too.")
@click.option("--server-arguments", default="", help="More for it, such as '-kvu -fa off'.")
@click.option("--only", multiple=True, type=_SECTION, help="One section; repeatable.")
@click.option("--leak", is_flag=True, help="Also look for what ten thousand calls leave behind.")
@click.option("--rounds", default=3, show_default=True, help="How often each figure is taken.")
@click.option("--tokens", default=128, show_default=True, help="A stream has so many.")
@click.option("--threads", default=len(os.sched_getaffinity(0)), show_default=True, help="Of each subject.")
@click.option("--prefix-tokens", default=2000, show_default=True, help="That the calls of `prefix` share.")
@click.option("--long-tokens", default=4000, show_default=True, help="Of the long prompt of `evenness`.")
@click.option("--pause", default=5.0, show_default=True, help="Seconds between the waves of `prefix`.")
@click.option("--schemas", default=500, show_default=True, help="Random schemas of `schemas`.")
@click.option("--calls", default=10_000, show_default=True, help="Calls of `leak`.")
@click.option("--json", "json_path", type=_FILE, help="Write all figures here.")
@click.option("--markdown", "as_markdown", is_flag=True, help="Print Markdown, as in docs/benchmarks.md.")
def main(**options: Any) -> None:
    """Measure the local engine beside llama-server and llama-cpp-python's own class."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # or its servers would go on
    try:
        setup = _setup(options)
    except BenchError as error:
        raise click.ClickException(str(error)) from None
    report = Report(machine=machine.look())
    told = markdown_block if options["as_markdown"] else _printed
    click.echo(report.machine.line + ("." if options["as_markdown"] else ""))

    def done(llamas: llama.Llamas) -> None:
        """Tell of the newest section, and put all figures so far into the file."""
        if len(llamas.sections) == 1:
            click.echo(told(llama_head(llamas)))
        click.echo(told(block(llamas.sections[-1])))
        report.llamas = llamas
        if options["json_path"] is not None:
            options["json_path"].write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")

    llama.measure(setup, _names(options), done)


def _printed(block: Block) -> str:
    """As on a terminal."""
    console = Console(width=_WIDTH)
    with console.capture() as found:
        show_block(block, console)
    return found.get()


def _names(options: dict[str, Any]) -> list[str]:
    """The sections asked for; those that take long only by name."""
    chosen = options["only"] or [name for name in llama.SECTIONS if name != llama.LEAK]
    return list(dict.fromkeys([*chosen, *([llama.LEAK] if options["leak"] else [])]))


def _setup(options: dict[str, Any]) -> Setup:
    return Setup(
        path=llama.model(),
        binary=options["binary"],
        server_arguments=tuple(shlex.split(options["server_arguments"])),
        say=progress(),
        rounds_count=options["rounds"],
        tokens_count=options["tokens"],
        threads=options["threads"],
        prefix_count=options["prefix_tokens"],
        long_count=options["long_tokens"],
        pause_s=options["pause"],
        calls_count=options["calls"],
        schemas_count=options["schemas"],
    )


if __name__ == "__main__":
    main(prog_name="python -m bench.llama_command")
