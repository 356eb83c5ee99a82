"""Guessing ahead: one stream without guesses, with those looked up, and with those of a draft model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.llama_figures import Samples, Section, in_turn
from bench.llama_shallow import shallow
from bench.llama_subjects import Setup
from bench.processes import BenchError
from hybrid_router.core.call import Operation, Sampling
from hybrid_router.core.event import Usage
from hybrid_router.engines.llama.engine import LlamaEngine
from hybrid_router.engines.settings import Drafting, LlamaSettings
from hybrid_router.engines.task import Output, Task

_OFF, _LOOKED_UP, _SHALLOW, _OWN = "off", "look-up", "first 10 layers", "itself"
_GUESSES, _CONTEXT, _LAYERS = 8, 1024, 10
_FUNCTION = """def read_{0}(path):
    with open(path) as file:
        {0} = [line.strip() for line in file if line.strip()]
    {0}.sort()
    print("found", len({0}), "{0}")
    return {0}

"""
# The beginning of each is what the answer has to say again, with one name changed.
_TEXTS: Mapping[str, str] = {
    "edit": "".join(map(_FUNCTION.format, ("names", "towns", "words"))) + "def read_books(path):\n",
    "prose": "The old lighthouse keeper climbed the stairs one last time. Outside, the storm",
}


def drafting(setup: Setup) -> Section:
    """Tokens a second and how many guesses were right, by what is written."""
    samples, numbers = Samples(), count(1)
    with _engines(setup) as engines:
        for number in range(setup.rounds_count):
            for text, prompt in _TEXTS.items():
                rates: dict[str, float] = {}
                for name in in_turn(engines, number):
                    setup.say(f"drafting, round {number + 1}: {text}, {name}")
                    # The first word tells rounds apart, so that each computes its prompt.
                    counted = _answered(engines[name], next(numbers), f"# {number}\n{prompt}", setup)
                    rates[name] = (counted.completion_tokens - 1) / (counted.decode_s or 1.0)
                    samples.add(f"{text}, tokens/s", name, rates[name])
                    if counted.drafted_tokens:
                        share = 100 * counted.accepted_tokens / counted.drafted_tokens
                        samples.add(f"{text}, guesses that were right, per cent", name, share)
                for name, rate in rates.items():
                    samples.add(f"{text}, × off", name, rate / rates[_OFF])
    return Section(
        name="drafting",
        title="Guessing ahead",
        rows=samples.rows({}),
        notes=[
            f"One stream, greedy, {setup.tokens_count} tokens, at most {_GUESSES} guesses a step, the engine "
            "alone; from the first token to the last. edit: a function for the fourth time with another "
            "name; prose: a story. Draft models look up first. The starter model has no smaller sister: its "
            f"first {_LAYERS} of 30 layers guess badly, itself is as slow as what it guesses for, so both "
            "bound from below what a real draft model, many times smaller than its model, can do."
        ],
    )


@contextmanager
def _engines(setup: Setup) -> Iterator[dict[str, LlamaEngine]]:
    """An engine for each way of guessing, with pages and vocabulary touched."""
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        small = shallow(setup.path, Path(folder) / "shallow.gguf", _LAYERS)
        found = {}
        for name, chosen in {
            _OFF: Drafting(),
            _LOOKED_UP: Drafting(most_tokens=_GUESSES),
            _SHALLOW: Drafting(most_tokens=_GUESSES, model_path=str(small)),
            _OWN: Drafting(most_tokens=_GUESSES, model_path=str(setup.path)),
        }.items():
            engine = found[name] = LlamaEngine(_settings(setup, chosen))
            stack.callback(engine.close)
            _answered(engine, 0, "Once upon a time", setup)
        yield found


def _settings(setup: Setup, chosen: Drafting) -> LlamaSettings:
    return LlamaSettings(
        path=str(setup.path),
        context=_CONTEXT,
        parallel=1,
        threads=setup.threads,
        prefill_chunk=256,
        drafting=chosen,
    )


def _answered(engine: LlamaEngine, number: int, prompt: str, setup: Setup) -> Usage:
    """What one answer cost."""
    sampling = Sampling(max_tokens=setup.tokens_count, temperature=0.0, ignore_eos=True)
    begun = engine.begin(Task(id=number, operation=Operation.COMPLETE, prompts=(prompt,), sampling=sampling))
    answers = list(begun)
    while engine.busy:
        answers += engine.step()
    last = answers[-1]
    if not isinstance(last, Output) or not isinstance(last.events[-1], Usage):
        raise BenchError(f"a drafted answer failed: {last}")
    return last.events[-1]
