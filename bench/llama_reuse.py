"""What is computed again: a prefix that calls share, and the turns of a conversation."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.llama_asks import body, words
from bench.llama_client import Said, Server, together
from bench.llama_figures import Goal, Samples, Section, in_turn
from bench.llama_subjects import Setup, Shape, servers

_CALLS, _ANSWER = 8, 8
_TURN_SYSTEM, _TURN_QUESTION, _TURN_ANSWER = 600, 60, 48
# A few tokens of the answer's end may be cut differently when they are read again as text.
_SEAM_TOKENS = 4


def prefix(setup: Setup) -> Section:
    """Eight calls with one long system message: together, again after a pause, and with other questions."""
    samples = Samples()
    shape = Shape(setup.prefix_count + 256, _CALLS)
    with servers(setup, shape) as listening:
        for number in range(setup.rounds_count):
            for name in in_turn(listening, number):
                setup.say(f"prefix, round {number + 1}: {name}")
                _waves(samples, listening[name], setup, number)
    return Section(
        name="prefix",
        title="Shared prefix",
        rows=samples.rows(
            {
                "cold, TTFT p50 s": Goal(at_most=0.2),
                "again, TTFT p50 s": Goal(at_most=1.0),
                "other questions, TTFT p50 s": Goal(at_most=1.0),
            }
        ),
        notes=[
            f"{_CALLS} calls together in {_CALLS} slots; all begin with the same {setup.prefix_count} "
            f"tokens, new ones each round; the same calls again {setup.pause_s:g} s later, then others "
            "behind the same beginning. Computed: prompt tokens of all calls that the server says "
            "it did not have."
        ],
    )


def _waves(samples: Samples, server: Server, setup: Setup, number: int) -> None:
    common = words(setup.prefix_count, f"prefix {number}")
    calls = [body(f"{i}?{words(12, f'{number} {i}')}", _ANSWER, system=common) for i in range(_CALLS)]
    others = [body(f"{i}!{words(12, f'other {number} {i}')}", _ANSWER, system=common) for i in range(_CALLS)]
    for wave, bodies in (("cold", calls), ("again", calls), ("other questions", others)):
        if wave != "cold":
            time.sleep(setup.pause_s)
        said = together(server, bodies)
        ttfts_s = [one.ttft_s for one in said]
        samples.add(f"{wave}, TTFT p50 s", server.name, statistics.median(ttfts_s))
        samples.add(f"{wave}, TTFT last s", server.name, max(ttfts_s))
        samples.add(f"{wave}, computed", server.name, sum(one.computed_count for one in said))


def turns(setup: Setup) -> Section:
    """Two turns of a conversation, and a third after both servers were started anew."""
    samples = Samples()
    shape = Shape(2048, _CALLS)
    with TemporaryDirectory(prefix="bench-") as folder:
        talks = {}
        with servers(setup, shape, Path(folder)) as listening:
            for number in range(setup.rounds_count):
                for name in in_turn(listening, number):
                    setup.say(f"turns, round {number + 1}: {name}")
                    talks[name, number] = _two_turns(samples, listening[name], number)
        with servers(setup, shape, Path(folder)) as listening:
            for number in range(setup.rounds_count):
                for name in in_turn(listening, number):
                    setup.say(f"turns, round {number + 1}: {name}, started anew")
                    _turn(samples, "3rd turn, started anew", listening[name], *talks[name, number])
    within = Goal(at_most=_SEAM_TOKENS, of_ratio=False)
    return Section(
        name="turns",
        title="Turns of a conversation",
        rows=samples.rows(
            {
                "2nd turn, computed beyond the new": within,
                "2nd turn, TTFT s": Goal(at_most=1.0),
                "3rd turn, started anew, computed beyond the new": within,
            }
        ),
        notes=[
            f"System message of {_TURN_SYSTEM} tokens, questions of {_TURN_QUESTION}, answers of "
            f"{_TURN_ANSWER}. Beyond the new: prompt tokens computed, less those that neither the prompt "
            f"nor the answer of the turn before had; the end of the answer may cost {_SEAM_TOKENS}, since "
            "text is cut into tokens anew. Started anew: both programs were ended and started again; "
            "llama-server keeps nothing by itself."
        ],
    )


def _two_turns(samples: Samples, server: Server, number: int) -> tuple[Said, list[dict[str, Any]]]:
    """The second turn's stream, and the messages that led to it."""
    messages = [{"role": "system", "content": words(_TURN_SYSTEM, f"talk {number}")}]
    messages += [{"role": "user", "content": words(_TURN_QUESTION, f"ask {number}")}]
    (said,) = together(server, [_call(messages)])
    samples.add("1st turn, computed", server.name, said.computed_count)
    samples.add("1st turn, TTFT s", server.name, said.ttft_s)
    return _turn(samples, "2nd turn", server, said, messages)


def _turn(
    samples: Samples, turn: str, server: Server, before: Said, messages: list[dict[str, Any]]
) -> tuple[Said, list[dict[str, Any]]]:
    """Answer with what was said, ask on."""
    messages = [
        *messages,
        {"role": "assistant", "content": before.text},
        {"role": "user", "content": words(_TURN_QUESTION, f"{turn} {len(before.text)}")},
    ]
    (said,) = together(server, [_call(messages)])
    new_count = said.prompt_count - before.prompt_count - before.tokens_count
    samples.add(f"{turn}, prompt tokens", server.name, said.prompt_count)
    samples.add(f"{turn}, computed", server.name, said.computed_count)
    samples.add(f"{turn}, computed beyond the new", server.name, said.computed_count - new_count)
    samples.add(f"{turn}, TTFT s", server.name, said.ttft_s)
    return said, messages


def _call(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": messages, "max_tokens": _TURN_ANSWER, "temperature": 0, "ignore_eos": True}
