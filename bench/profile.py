"""Where the router's time goes: the service under cProfile, one load, one number of connections.

`python -m bench.profile --load bench-plain --connections 16`.  cProfile makes every Python call dearer and
leaves C as it is, so small functions look worse than they are: compare, do not add up.
"""

from __future__ import annotations

import pstats
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import click

from bench.answers import LOADS
from bench.load import Plan, Result
from bench.processes import Child, free_port, python
from bench.subjects import router_config

_MARGIN_S = 120.0


@click.command()
@click.option("--load", type=click.Choice([load.name for load in LOADS]), default=LOADS[0].name)
@click.option("--connections", default=16, show_default=True)
@click.option("--seconds", default=3.0, show_default=True)
@click.option("--lines", default=60, show_default=True, help="How many functions are shown.")
@click.option("--sort", type=click.Choice(["tottime", "cumtime"]), default="tottime", show_default=True)
@click.option("--save", type=click.Path(dir_okay=False, path_type=Path), help="Keep the profile here.")
def main(load: str, connections: int, seconds: float, save: Path | None, **shown: Any) -> None:
    """Profile the router under one load."""
    with TemporaryDirectory(prefix="bench-") as folder:
        room = Path(folder)
        kept = room / "profile" if save is None else save.absolute()
        plan = Plan(port=free_port(), load=load, connections_count=connections, seconds=seconds, pids=[])
        result = _profiled(room, kept, plan)
        click.echo(f"{result.calls_count} calls, {result.calls_count / result.seconds:.0f} a second")
        pstats.Stats(str(kept), stream=sys.stdout).strip_dirs().sort_stats(shown["sort"]).print_stats(
            shown["lines"]
        )


def _profiled(room: Path, kept: Path, plan: Plan) -> Result:
    upstream = free_port()
    config = router_config(room, plan.port, upstream)
    serve = ("-m", "hybrid_router", "serve", "--config", config, "--log-format", "json")
    with ExitStack() as stack:
        fake = stack.enter_context(Child(python("bench.upstream", upstream), cores={0}))
        fake.wait_for(upstream)
        service = Child(python("cProfile", "-o", kept, *serve), cores={1}, stderr=room / "log")
        stack.enter_context(service).wait_for(plan.port)
        generator = stack.enter_context(Child(python("bench.load"), cores={0}))
        return generator.ask(plan, Result, plan.seconds + _MARGIN_S)


if __name__ == "__main__":
    main()
