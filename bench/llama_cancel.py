"""How many steps of our engine a cancelled task holds its slot.

`python -m bench.llama_cancel OPENING COUNT` prints one number a trial, as a list.  All slots are taken and
one more task waits; one of those that run is cancelled.  Counted are the steps until the waiting one computes
in its place; how long its prompt takes then is another matter.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import count

import msgspec

from bench.llama_asks import Opening, prompt
from bench.llama_engine import opened, task
from hybrid_router.engines.llama.engine import LlamaEngine

_LONG, _SETTLED_STEPS, _PATIENCE_STEPS = 100, 4, 50


def main(opening: Opening, trials_count: int) -> None:
    """Print the steps of each trial."""
    engine, ids = opened(opening), count(1)
    steps = [_trial(engine, opening.parallel, ids) for _ in range(trials_count)]
    engine.close()
    sys.stdout.write(msgspec.json.encode(steps).decode() + "\n")


def _trial(engine: LlamaEngine, slots_count: int, ids: Iterator[int]) -> int:
    running = [next(ids) for _ in range(slots_count)]
    for task_id in running:
        engine.begin(task(task_id, prompt(task_id), _LONG))
    _until_shown(engine, set(running))
    waiting = next(ids)
    engine.begin(task(waiting, "Hello?", 1))
    for _ in range(_SETTLED_STEPS):
        engine.step()
    engine.cancel(running[waiting % slots_count])
    steps = _until_run(engine, waiting)
    for task_id in (*running, waiting):
        engine.cancel(task_id)
    return steps


def _until_run(engine: LlamaEngine, waiting: int) -> int:
    """Steps until this task has a slot or an answer."""
    for steps in range(1, _PATIENCE_STEPS + 1):
        answered = waiting in {answer.id for answer in engine.step()}
        if answered or waiting in engine.running_ids:
            return steps
    raise SystemExit(f"no slot was free in {_PATIENCE_STEPS} steps")


def _until_shown(engine: LlamaEngine, wanted: set[int]) -> int:
    """Steps until each of these tasks has answered something."""
    for steps in range(1, _PATIENCE_STEPS + 1):
        wanted -= {answer.id for answer in engine.step()}
        if not wanted:
            return steps
    raise SystemExit(f"{len(wanted)} tasks showed nothing in {_PATIENCE_STEPS} steps")


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Opening), int(sys.argv[2]))
