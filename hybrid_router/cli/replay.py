"""`hybrid-router replay`: where stored calls would go under another policy.  Sends nothing anywhere."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import click
import msgspec

from hybrid_router.catalogue.refresh import newest
from hybrid_router.catalogue.workers_ai import Catalogue
from hybrid_router.cli.abilities import abilities
from hybrid_router.cli.check import loaded_or_exit
from hybrid_router.config.schema import Config
from hybrid_router.config.state import state_folder, store_path
from hybrid_router.core import units
from hybrid_router.dispatch.replay import Rehearsal
from hybrid_router.dispatch.replay_report import Change, Report, report
from hybrid_router.routing.policy import compile_policy
from hybrid_router.routing.speed import Speed
from hybrid_router.store.errors import StoreError
from hybrid_router.store.reader import Reader, open_reader

_SPEED = "speed"
_SHOWN_IDS = 20


def _since(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """Unix time of so long ago."""
    try:
        return time.time() - units.seconds(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(name="replay")
@click.option(
    "--policy",
    "policy_path",
    type=click.Path(path_type=Path),
    required=True,
    help="The policy to try: a whole router.yaml.",
)
@click.option(
    "--config",
    "path",
    type=click.Path(path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration whose store is read.",
)
@click.option(
    "--since",
    "since_s",
    metavar="DURATION",
    default="7d",
    show_default=True,
    callback=_since,
    help="Calls of this last while.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document instead of lines.")
def command(*, policy_path: Path, path: Path, since_s: float, as_json: bool) -> None:
    """Plan stored calls again under another policy, and say what would change.

    Takes every backend to be as it was then, as far as that was noted, and up otherwise.  Exits 1 if a call
    that was kept on this machine would leave it, or might; 2 if a configuration is wrong or there is no
    store.
    """
    loaded = loaded_or_exit(path)
    store = store_path(loaded, os.environ)
    known = newest(state_folder(loaded, os.environ))
    config = loaded_or_exit(policy_path).config
    try:
        with open_reader(store) as reader:
            made = report(reader.decisions(since_s), _rehearsal(config, reader, known))
    except StoreError as error:
        click.echo(str(error), err=True)
        raise SystemExit(2) from error
    click.echo(msgspec.json.encode(made).decode() if as_json else "\n".join(lines(made)))
    if made.leaving or made.may_leave:
        raise SystemExit(1)


def _rehearsal(config: Config, reader: Reader, known: Catalogue) -> Rehearsal:
    steps = [step for route in compile_policy(config).aliases.values() for step in route.steps]
    return Rehearsal(config, abilities(config, steps, known.by_id()), dict(_speeds(reader)), known)


def _speeds(reader: Reader) -> Iterator[tuple[str, Speed]]:
    """What was learned of each step; what another version wrote counts as nothing."""
    for step_name, note in reader.notes(_SPEED).items():
        try:
            yield step_name, msgspec.json.decode(note, type=Speed)
        except (msgspec.MsgspecError, UnicodeError):
            continue


def lines(made: Report) -> Iterator[str]:
    """The report as lines that no width cuts."""
    yield f"calls: {made.calls_count}"
    yield f"to another first step: {made.moved_count}"
    yield from (f"  {move.count} from {move.was} to {move.now}" for move in made.moves)
    if made.undecidable_count:
        yield f"undecidable, for lack of text or headers that nobody kept: {made.undecidable_count}"
        yield from (f"  {count} by rule {rule}" for rule, count in made.undecidable_rules.items())
    if made.unreadable_count:
        yield f"records of another version, left out: {made.unreadable_count}"
    yield _mean("predicted first token", made.first_token_s)
    yield _mean("predicted whole answer", made.total_s)
    if made.neurons.count:
        neurons = made.neurons
        yield f"neurons: {neurons.before:.1f} -> {neurons.after:.1f} ({neurons.count} calls)"
    yield f"private calls that would leave: {len(made.leaving)}"
    yield from _ids(made.leaving)
    if made.may_leave:
        yield f"private calls of which nobody can tell that they would not: {len(made.may_leave)}"
        yield from _ids(made.may_leave)


def _mean(what: str, change: Change) -> str:
    if not change.count:
        return f"{what}: not known"
    before_s, after_s = change.before / change.count, change.after / change.count
    return f"{what}: {before_s:.3g} s -> {after_s:.3g} s (mean of {change.count} calls)"


def _ids(ids: list[str]) -> Iterator[str]:
    yield from (f"  {decision_id}" for decision_id in ids[:_SHOWN_IDS])
    if len(ids) > _SHOWN_IDS:
        yield f"  and {len(ids) - _SHOWN_IDS} more; --json lists all"
