"""`hybrid-router budget`: what the day's neurons have come to, and what is left of them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import click
import msgspec
from msgspec import Struct

from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.config import cloud_schema
from hybrid_router.config.cloud_schema import WorkersAIBackend
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import store_path
from hybrid_router.dispatch.account import KIND, Note, read
from hybrid_router.dispatch.clocks import machine_clock
from hybrid_router.dispatch.metered import metered
from hybrid_router.routing.day import Day, next_midnight
from hybrid_router.routing.ledger import paid_usd
from hybrid_router.routing.moments import Moment


class Stage(Struct, frozen=True, kw_only=True):
    """Part of a pace: neurons that may be gone before a UTC time."""

    until: str
    neurons: float


class Budget(Struct, frozen=True, kw_only=True):
    """One backend's day.  Neurons, unless the name says USD; times are UTC.

    Attributes:
        used: by calls that have ended.
        reserved: by calls that may be running; what a crash left open is in it too.
        left, left_with_reserve: for any call, and for those that may use the reserve.
        held_back: why there is no more at present.
        noted: when the router wrote this down last; None: it never did.
    """

    backend: str
    day: str
    daily: float
    used: float
    reserved: float
    left: float
    left_with_reserve: float
    reserve: float
    held_back: str
    pace: tuple[Stage, ...]
    paid_usd: float
    overflow_usd: float | None
    renewed: datetime
    noted: datetime | None


@click.command(name="budget")
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def command(*, path: Path, as_json: bool) -> None:
    """Show what each backend's day has used and what is left.

    Reads what the router has noted, whether it runs or not: of a router that runs, at most half a minute old.
    """
    loaded = loaded_or_exit(path)
    found = budgets(loaded, _notes(store_path(loaded, os.environ)), machine_clock()())
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        click.echo("\n\n".join(_lines(budget) for budget in found))
    else:
        click.echo("No backend of this configuration counts neurons.")


def _notes(path: Path) -> dict[str, Note]:
    """What is noted, by account; exit 1 if it cannot be read."""
    if not path.is_file():
        return {}
    from hybrid_router.store.reader import open_reader  # noqa: PLC0415  # SQLAlchemy is slow to import

    try:
        with open_reader(path) as store:
            return {key: read(document) for key, document in store.notes(KIND).items()}
    except (OSError, ValueError) as error:
        click.echo(f"what was noted cannot be read: {error}", err=True)
        raise SystemExit(1) from error


def budgets(loaded: Loaded, notes: Mapping[str, Note], now: Moment) -> list[Budget]:
    """The day of every backend that counts neurons, in the file's order."""
    accounts = {name: backend.account for name, backend in metered(loaded).items()}
    return [
        _budget(name, backend.neurons, _note(name, accounts.get(name), notes), now)
        for name, backend in loaded.config.backends.items()
        if isinstance(backend, WorkersAIBackend)
    ]


def _note(backend: str, account: str | None, notes: Mapping[str, Note]) -> Note | None:
    """The account's note.  Where the account is a secret that is not here: the backend's latest."""
    if account is not None:
        return notes.get(account)
    named = [note for note in notes.values() if backend in note.backends]
    return max(named, key=lambda note: note.state.wall_s, default=None)


def _budget(name: str, config: cloud_schema.Neurons, note: Note | None, now: Moment) -> Budget:
    state = None if note is None else note.state
    day = Day(now) if state is None else Day.restored(state, now)
    most = day.used(now)
    used = 0.0 if state is None or state.day < day.date else state.spent
    allowance = day.allowance(config, now)
    return Budget(
        backend=name,
        day=day.date.isoformat(),
        daily=config.daily,
        used=used,
        reserved=max(0.0, most - used),
        left=allowance.neurons,
        left_with_reserve=allowance.reserve_neurons,
        reserve=config.reserve,
        held_back=allowance.because,
        pace=tuple(
            Stage(until=until, neurons=share * config.daily) for until, share in sorted(config.pace.items())
        ),
        paid_usd=paid_usd(config, used),
        overflow_usd=config.overflow_usd,
        renewed=next_midnight(now.wall),
        noted=None if state is None else datetime.fromtimestamp(int(state.wall_s), UTC),
    )


def _lines(budget: Budget) -> str:
    """For people."""
    noted = "nothing noted yet" if budget.noted is None else f"noted {budget.noted:%Y-%m-%d %H:%M:%S} UTC"
    open_ = f", {budget.reserved:,.0f} reserved" if budget.reserved else ""
    lines = [
        f"{budget.backend}: {budget.day} UTC, {noted}",
        f"  used  {budget.used:,.0f} of {budget.daily:,.0f} neurons{open_}",
        f"  left  {budget.left:,.0f} now ({budget.held_back})",
    ]
    if budget.reserve:
        lines.append(f"        {budget.left_with_reserve:,.0f} for calls that may use the reserve")
    if budget.pace:
        stages = ", ".join(f"{stage.neurons:,.0f} before {stage.until}" for stage in budget.pace)
        lines.append(f"  pace  {stages} UTC, then all")
    if budget.overflow_usd is not None:
        lines.append(f"  paid  {budget.paid_usd:.4f} of {budget.overflow_usd:.4f} USD")
    return "\n".join(lines)
