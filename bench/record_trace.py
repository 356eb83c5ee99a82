"""Record what attempts at the starter model take.  `python -m bench.record_trace NAME SECONDS READING_S`.

The real engine with the real model and one thread.  One, two, four and six clients ask, read the answer for
some seconds, and ask again; prompts are pieces of this project's own files.  The clock is the CPU time of the
process, and jumps while everybody reads: so the times are those of a machine that does nothing else, whatever
else it does.
"""

from __future__ import annotations

import random
import sys
import time
from itertools import count

import msgspec

from bench import machine
from bench.processes import ROOT
from bench.trace import TRACES, Row, Trace
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.core.event import Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.settings import LlamaSettings
from hybrid_router.engines.task import Output, Task
from hybrid_router.models.weights import weights
from hybrid_router.routing.estimate import prompt_tokens
from hybrid_router.routing.subject import everything_written

_CLIENTS = ((1, 0.25), (2, 0.3), (4, 0.3), (6, 0.15))  # with their share of the time
_PARALLEL = 4
_CHARS = (40, 6000)  # about 20 to 1,500 tokens
_MAX_TOKENS = (8, 16, 32, 64, 128)


class Recorder:
    """Asks one engine, and writes down what it took."""

    def __init__(self, engine: LlamaEngine, texts: list[str], reading_s: float, seed: int) -> None:
        self._engine = engine
        self._texts = texts
        self._reading_s = reading_s
        self._chance = random.Random(seed)  # noqa: S311 - the same prompts each time
        self._numbers = count(1)
        self._open: dict[int, Row] = {}  # times not yet known are 0
        self._skipped_s = -time.process_time()
        self._asking_s: list[float] = []  # when each client that reads asks again
        self.rows: list[Row] = []

    def ask_for(self, seconds: float, clients: int) -> None:
        """So many clients for so many CPU seconds; then until the last is answered."""
        until_s = time.process_time() + seconds
        self._asking_s = [self._now_s() + self._pause_s() for _ in range(clients)]
        while self._engine.busy or time.process_time() < until_s:
            if not self._engine.busy:
                self._skipped_s += max(0.0, min(self._asking_s) - self._now_s())
            if time.process_time() < until_s:
                self._ask_who_is_due()
            for answer in self._engine.step():
                if isinstance(answer, Output) and self._take(answer):
                    self._asking_s.append(self._now_s() + self._pause_s())

    def _pause_s(self) -> float:
        return self._chance.expovariate(1 / self._reading_s)

    def _ask_who_is_due(self) -> None:
        now_s = self._now_s()
        due_count = sum(asking_s <= now_s for asking_s in self._asking_s)
        self._asking_s = [asking_s for asking_s in self._asking_s if asking_s > now_s]
        for _ in range(due_count):
            self._ask()

    def _now_s(self) -> float:
        return round(time.process_time() + self._skipped_s, 4)

    def _ask(self) -> None:
        call = self._call(next(self._numbers))
        open_count = len(self._open)
        row = Row(
            at_s=self._now_s(),
            estimated_tokens=prompt_tokens(call, everything_written(call)),
            max_tokens=call.sampling.max_tokens or 0,
            running_count=min(open_count, _PARALLEL),
            waiting_count=max(0, open_count - _PARALLEL),
            ahead_tokens=sum(row.estimated_tokens for row in self._open.values() if not row.first_token_s),
            prompt_tokens=0,
            completion_tokens=0,
            first_token_s=0.0,
            total_s=0.0,
        )
        self._open[int(call.id)] = row
        self._engine.begin(
            Task(id=int(call.id), operation=call.operation, messages=call.messages, sampling=call.sampling)
        )

    def _call(self, number: int) -> Call:
        """Most prompts are short, a few long."""
        text = self._chance.choice(self._texts)
        low, high = _CHARS
        length = int(low * (high / low) ** (self._chance.random() ** 2))
        at = self._chance.randrange(max(1, len(text) - length))
        return Call(
            id=str(number),
            operation=Operation.CHAT,
            alias="default",
            messages=(Message(role="user", content=f"{number}. Explain this:\n{text[at : at + length]}"),),
            sampling=Sampling(max_tokens=self._chance.choice(_MAX_TOKENS), seed=number),
        )

    def _take(self, answer: Output) -> bool:
        """Note what a step brought; True if the answer is whole."""
        row = self._open[answer.id]
        taken_s = round(self._now_s() - row.at_s, 4)
        if not row.first_token_s:
            row = self._open[answer.id] = msgspec.structs.replace(row, first_token_s=taken_s)
        usage = answer.events[-1]
        if not isinstance(usage, Usage):
            return False
        del self._open[answer.id]
        self.rows.append(
            msgspec.structs.replace(
                row,
                total_s=taken_s,
                prompt_tokens=usage.prompt_tokens,
                completion_tokens=usage.completion_tokens,
            )
        )
        return True


def record(seconds: float, reading_s: float) -> Trace:
    """A trace of about so many seconds of CPU time, whose clients read for `reading_s` on average."""
    settings = LlamaSettings(
        path=str(weights(ROOT / "models" / "manifest.yaml", "smollm2-135m-instruct")),
        context=4096,
        parallel=_PARALLEL,
        threads=1,
        prefill_chunk=256,
    )
    engine = LlamaEngine(settings)
    files = [*sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "hybrid_router").rglob("*.py"))]
    recorder = Recorder(engine, [path.read_text(encoding="utf-8") for path in files], reading_s, seed=1)
    for clients, share in _CLIENTS:
        recorder.ask_for(seconds * share, clients)
    engine.close()
    counts = ", ".join(str(clients) for clients, _ in _CLIENTS)
    said = (
        f"recorded: SmolLM2-135M on one thread, CPU time; {counts} clients that read for {reading_s:g} s on "
        f"average, {_PARALLEL} together; "
    )
    return Trace(said + machine.look().line, _PARALLEL, recorder.rows)


if __name__ == "__main__":
    name, wanted_s, reading_s = sys.argv[1:]
    trace = record(float(wanted_s), float(reading_s))
    (TRACES / f"{name}.json").write_bytes(msgspec.json.encode(trace).replace(b"],[", b"],\n[") + b"\n")
