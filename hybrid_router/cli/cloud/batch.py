"""`cloud batch`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import Any, TextIO

import click
import msgspec

from hybrid_router.backends.workers_ai import queue
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.queue import Response, Ticket, TooLarge
from hybrid_router.cli.cloud.opened import INTERRUPTED, About, Wanted, asked, refuse, words
from hybrid_router.core.errors import BackendTimeout, RouterError


@click.command()
@click.option(
    "--within", "within_s", type=click.IntRange(1), default=3600, show_default=True, help="Seconds to wait."
)
@click.option("--to", "out", type=click.File("w", encoding="utf-8"), default="-", help="Write answers there.")
@click.option("--resume", "ids", multiple=True, help="Wait for this batch instead; as it was told.")
@click.argument("model")
@click.argument("file", type=click.File("rb"), required=False)
@click.pass_obj
def batch(
    wanted: Wanted, /, *, model: str, file: Any, within_s: int, out: TextIO, ids: tuple[str, ...]
) -> None:
    """Have MODEL answer every line of FILE, each an input of its own in JSON, when there is capacity.

    Answers are JSON lines: `id` counts the lines that are not empty, from 0.  A line that is no input is
    named as editors count, from 1.  Whoever stops waiting loses nothing: what was told of each batch
    resumes it.  Exit 1 if a line has no answer.
    """
    if (file is None) == (not ids):
        raise click.UsageError("name a FILE, or batches to --resume")
    tickets = [_ticket(model, each) for each in ids]
    inputs = list(_pieces(file)) if file is not None else []

    async def work(desk: Desk) -> bool:
        for first, some in inputs:
            ticket = await queue.put(desk, model, some, first)
            tickets.append(ticket)
            click.echo(f"put in: {_told(ticket)} ({ticket.count} lines)", err=True)
        return all([await _written(desk, ticket, within_s, out) for ticket in tickets])

    try:
        whole = asked(wanted, work, About(name=model))
    except KeyboardInterrupt:
        told = f"no longer waited for; to go on: {_again(tickets)}" if tickets else "nothing was put in"
        click.echo(f"\n{told}", err=True)
        raise SystemExit(INTERRUPTED) from None
    if not whole:
        raise SystemExit(1)


async def _written(desk: Desk, ticket: Ticket, within_s: float, out: TextIO) -> bool:
    """Wait for a batch and write its answers; False: not every line has one."""

    def progress(status: str) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r\x1b[K{_told(ticket)}: {status}", err=True, nl=status == "done")

    try:
        answers = await queue.waited(desk, ticket, within_s=within_s, progress=progress)
    except BackendTimeout as error:
        click.echo(f"{error.message}; to go on: {_again([ticket])}", err=True)
        return False
    except RouterError as error:
        click.echo(f"{_told(ticket)}: {words(error, About(name=ticket.model))}", err=True)
        return False
    for each in answers:
        out.write(_line(each, ticket.first) + "\n")
    out.flush()
    return all(each.success for each in answers) and len(answers) >= ticket.count


def _line(answer: Response, first: int) -> str:
    """Its parts as they came, with the line's own place."""
    told = {
        "id": first + answer.id,
        "success": answer.success,
        "external_reference": answer.external_reference,
        "result": answer.result,
        "errors": answer.errors,
    }
    return msgspec.json.encode({name: value for name, value in told.items() if value is not None}).decode()


def _pieces(file: Any) -> Iterator[tuple[int, list[msgspec.Raw]]]:
    """The file's batches; exit 2 for a line that is no JSON object."""
    try:
        yield from queue.pieces(_inputs(file))
    except TooLarge as error:
        refuse(str(error))


def _inputs(file: Any) -> Iterator[bytes]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            msgspec.json.decode(line, type=dict[str, Any])
        except ValueError as error:
            refuse(f"line {number} is no JSON object: {error}")
        yield line.strip()


def _told(ticket: Ticket) -> str:
    """How a batch is called on the command line: with its first line, unless that is 0."""
    return f"{ticket.request_id}@{ticket.first}" if ticket.first else ticket.request_id


def _again(tickets: Sequence[Ticket]) -> str:
    """The command that waits for batches of one model again."""
    resumed = " ".join(f"--resume {_told(ticket)}" for ticket in tickets)
    return f"hybrid-router cloud batch {resumed} {tickets[0].model}"


def _ticket(model: str, told: str) -> Ticket:
    request_id, _, first = told.partition("@")
    if first and not first.isdecimal():
        refuse(f"{told} names no batch: write it as it was told")
    return Ticket(model=model, request_id=request_id, first=int(first or 0))
