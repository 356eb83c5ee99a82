"""Our engine without pipe and HTTP.  `python -m bench.llama_engine OPENING`."""

from __future__ import annotations

import sys
import time
from itertools import count

import msgspec

from bench.llama_asks import Ask, Opening, Told, serve
from hybrid_router.core.call import Message, Operation, Sampling
from hybrid_router.core.event import Text, Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Answer, Output, Task

_PREFILL_CHUNK = 256  # as in the service


def main(opening: Opening) -> None:
    """Open the model and answer."""
    engine = opened(opening)
    ids = count(1)

    def answer(ask: Ask) -> Told:
        started_s = time.perf_counter()
        begun = [one for text in ask.prompts for one in engine.begin(task(next(ids), text, ask.tokens_count))]
        if begun:
            raise SystemExit(f"an ask was refused: {begun[0]}")
        return _drained(engine, started_s)

    serve(answer)


def opened(opening: Opening) -> LlamaEngine:
    """The engine, as the service's child opens it."""
    return LlamaEngine(
        LlamaSettings(
            path=opening.path,
            context=opening.context,
            parallel=opening.parallel,
            threads=opening.threads,
            prefill_chunk=_PREFILL_CHUNK,
        )
    )


def task(task_id: int, text: str, tokens_count: int) -> Task:
    """A chat task, greedy, that does not end by itself."""
    return Task(
        id=task_id,
        operation=Operation.CHAT,
        messages=(Message(role="user", content=text),),
        sampling=Sampling(max_tokens=tokens_count, temperature=0.0, ignore_eos=True),
    )


def shows(answer: Answer) -> bool:
    """Whether an answer brings text."""
    return isinstance(answer, Output) and any(isinstance(event, Text) for event in answer.events)


def _drained(engine: LlamaEngine, started_s: float) -> Told:
    """Step until nobody waits."""
    firsts: dict[int, float] = {}
    tokens_count = 0
    while engine.busy:
        for output in engine.step():
            events = output.events if isinstance(output, Output) else []
            if shows(output):
                firsts.setdefault(output.id, time.perf_counter() - started_s)
            tokens_count += sum(event.completion_tokens for event in events if isinstance(event, Usage))
    seconds = time.perf_counter() - started_s
    return Told(seconds=seconds, tokens_count=tokens_count, ttfts_s=list(firsts.values()))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Opening))
