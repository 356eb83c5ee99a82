"""What the sections about local models have in common: the router with one model, and rows of figures."""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from bench.llama_figures import ROUTER, Goal, Row
from bench.processes import ROOT, Child, free_port, python

MANIFEST = ROOT / "models" / "manifest.yaml"

_ROUTER_YAML = """
server: {{ listen: "127.0.0.1:{port}" }}
manifest: {manifest}
backends:
  local:
    type: local
    models:
      model: {model}
timeouts: {{ load: 5m, first_token: 10m, between_tokens: 10m, total: 30m }}
aliases:
  default: {{ try: local/model }}
"""


class Setup(Struct, kw_only=True):
    """What a run of the command is asked for."""

    say: Callable[[str], None]
    rounds_count: int = 3
    threads: int = 2


class Service(Struct):
    """A router that listens; its model's name is `default`."""

    url: str
    child: Child


@contextmanager
def router(model: str) -> Iterator[Service]:
    """The real service with one model, as `model` has it in router.yaml: a mapping on one line."""
    with TemporaryDirectory(prefix="bench-") as folder:
        port, config = free_port(), Path(folder) / "router.yaml"
        config.write_text(_ROUTER_YAML.format(port=port, manifest=MANIFEST, model=model))
        command = python("hybrid_router", "serve", "--config", config, "--log-format", "json")
        with Child(command, cores=os.sched_getaffinity(0), stderr=Path(folder) / "log") as child:
            child.wait_for(port)
            yield Service(f"http://127.0.0.1:{port}", child)


def compared(measure: str, ours: Sequence[float], peer: str, theirs: Sequence[float], goal: Goal) -> Row:
    """A row of medians; the ratio is the median of the rounds' own."""
    ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
    return Row(
        measure=measure,
        values={ROUTER: statistics.median(ours), peer: statistics.median(theirs)},
        ratio=ratio,
        goal=goal.text,
        met=goal.met(ratio),
    )
