"""The planning part: what deciding costs, with fifty rules, fifty aliases, and speeds and prices known."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable

from msgspec import Struct

from hybrid_router.config.load import loads
from hybrid_router.core.backend import Load
from hybrid_router.core.call import Call, Message, Operation, Sampling
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.ledger import Allowance, Rate
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import Policy, compile_policy
from hybrid_router.routing.speed import Sample, Speed, learned

TARGET_S = 0.001
TIMES_A_ROUND = 7
SIZES_BYTES = (1024, 32 * 1024, 360 * 1024)
_COUNT = 50
_WORDS = "The router tells its callers who answered and why, and it never keeps them waiting without a word. "
_MODELS = 4


class Row(Struct, kw_only=True):
    """Plans of calls of one size."""

    prompt_bytes: int
    text: str
    calls_count: int
    p50_s: float
    p99_s: float


class Planning(Struct, kw_only=True):
    """The whole part."""

    rules_count: int
    aliases_count: int
    rows: list[Row]


def measure(times_count: int, say: Callable[[str], None]) -> Planning:
    """Plan calls of every size to every alias so many times, each with a text of its own."""
    policy, facts = _policy(), _facts()
    rows = []
    for text, words in (("ASCII", _WORDS), ("accented", _WORDS.replace("e", "é"))):
        for size_bytes in SIZES_BYTES:
            say(f"planning calls of {size_bytes // 1024} KB, {text}")
            times = sorted(_times(policy, facts, words, size_bytes, times_count))
            rows.append(
                Row(
                    prompt_bytes=size_bytes,
                    text=text,
                    calls_count=len(times),
                    p50_s=times[len(times) // 2],
                    p99_s=times[int(len(times) * 0.99)],
                )
            )
    return Planning(rules_count=len(policy.rules), aliases_count=len(policy.aliases), rows=rows)


def _times(policy: Policy, facts: Facts, words: str, size_bytes: int, times_count: int) -> list[float]:
    """CPU seconds of each plan.  The calls exist before, as they do when one has been decoded."""
    times = []
    for number in range(times_count):
        calls = [_call(alias, number, words, size_bytes) for alias in policy.aliases]
        gc.collect()  # what making the calls left is not planning's
        for call in calls:
            began_s = time.thread_time()
            decided = plan(call, facts, policy)
            times.append(time.thread_time() - began_s)
            assert len(decided.steps) > 1  # noqa: S101 - or something else was measured
    return times


def _call(alias: str, number: int, words: str, size_bytes: int) -> Call:
    """A conversation of so many bytes: a system prompt, a long text, a question."""
    long = f"{alias} {number}: " + words * (size_bytes // len(words.encode()) + 1)
    messages = (
        Message(role="system", content="You are a careful assistant."),
        Message(role="user", content=long.encode()[:size_bytes].decode("utf-8", "ignore")),
        Message(role="user", content="What does it say?"),
    )
    return Call(
        id=alias,
        operation=Operation.CHAT,
        alias=alias,
        messages=messages,
        sampling=Sampling(max_tokens=256),
        headers={"user-agent": "bench", "x-team": "blue", "content-type": "application/json"},
    )


_BACKENDS = """
backends:
  local: {type: local, models: {m0: {}, m1: {}, m2: {}, m3: {}}}
  cloudflare: {type: workers_ai, account_id: {env: A}, token: {env: T}}
"""
_RULES = (
    "when: {{text: ['(?i)project-{n:03}', 'secret-{n:03}-[0-9a-f]{{16}}']}}, only: [local]",
    "when: {{header: {{x-team: 'team-{n}'}}}}, first: [cloud]",
    "when: {{prompt_tokens: {{above: {n}000}}, alias: [alias{n}]}}, first: [cloud]",
    "when: {{key: [local], not: {{header: {{x-private: '.*'}}}}}}, first: [local]",
    "when: {{any: [{{time: '22:00-06:{n:02}'}}, {{has: tools}}]}}, first: [local], prefer: fastest",
)


def _policy() -> Policy:
    """A policy of every kind of rule that looks at more than the text's meaning."""
    rules = [f"  - {{name: rule_{n}, {_RULES[n % len(_RULES)].format(n=n)}}}" for n in range(_COUNT)]
    steps = ", ".join(f"local/m{n}, cloudflare/@cf/m{n}" for n in range(_MODELS))
    spill = "spill_when: {queue: 3, predicted_first_token: 5s}"
    aliases = [f"  alias{n}: {{try: [{steps}], prefer: fastest, {spill}}}" for n in range(_COUNT)]
    text = "\n".join([_BACKENDS, "aliases:", *aliases, "rules:", *rules])
    return compile_policy(loads(text).config)


def _facts() -> Facts:
    """Everything is known of every step."""
    local, cloud = ([f"{backend}{n}" for n in range(_MODELS)] for backend in ("local/m", "cloudflare/@cf/m"))
    return Facts(
        local=frozenset({"local"}),
        contexts=dict.fromkeys((*local, *cloud), 131_072),
        loads={name: Load(running_count=1, waiting_count=0, parallel=4) for name in local},
        speeds={name: _speed(name, local=name in local) for name in (*local, *cloud)},
        cached={local[0]: 200},
        allowances={"cloudflare": Allowance(neurons=1e6, reserve_neurons=1e6)},
        rates={name: Rate(input=5000, output=30_000, cached_input=500) for name in cloud},
        default_max_tokens={"cloudflare": 2048},
        minute_of_day=10 * 60,
    )


def _speed(name: str, *, local: bool) -> Speed:
    speed: Speed | None = None
    for number in range(40):
        tokens = 50 + 37 * number
        first_s = 0.2 + tokens / (2000 + 10 * len(name))
        sample = Sample(
            at_s=number,
            prompt_tokens=tokens,
            completion_tokens=100,
            first_token_s=first_s,
            total_s=first_s + 2,
            depth=1 + number % 4,
            estimated_tokens=tokens,
        )
        speed = learned(speed, sample, local=local)
    assert speed is not None  # noqa: S101 - forty samples
    return speed
