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
from hybrid_router.engines.task import Output, Settings, Task


def main(opening: Opening, prefill_chunk: int) -> None:
    """Open the model and answer."""
    engine = LlamaEngine(
        Settings(
            path=opening.path,
            context=opening.context,
            parallel=opening.parallel,
            threads=opening.threads,
            prefill_chunk=prefill_chunk,
        )
    )
    ids = count(1)

    def answer(ask: Ask) -> Told:
        sampling = Sampling(max_tokens=ask.tokens_count, temperature=0.0)
        started_s = time.perf_counter()
        for prompt in ask.prompts:
            messages = (Message(role="user", content=prompt),)
            engine.begin(Task(id=next(ids), operation=Operation.CHAT, messages=messages, sampling=sampling))
        return _drained(engine, started_s)

    serve(answer)


def _drained(engine: LlamaEngine, started_s: float) -> Told:
    """Step until nobody waits."""
    firsts: dict[int, float] = {}
    tokens_count = 0
    while engine.busy:
        for output in engine.step():
            events = output.events if isinstance(output, Output) else []
            if any(isinstance(event, Text) for event in events):
                firsts.setdefault(output.id, time.perf_counter() - started_s)
            tokens_count += sum(event.completion_tokens for event in events if isinstance(event, Usage))
    seconds = time.perf_counter() - started_s
    return Told(seconds=seconds, tokens_count=tokens_count, ttfts_s=list(firsts.values()))


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Opening), int(sys.argv[2]))
