"""What happens in one soak trial: who asks what, what goes wrong, and when.  A pure function of the seed."""

from __future__ import annotations

import random
from typing import Any, Literal, TypeAlias

from msgspec import Struct

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
ALIASES = (
    "local-only",
    "local-first",
    "cloud-only",
    "native-only",
    "cloud-first",
    "native-first",
    "cloud-then-native",
    "native-then-cloud",
    "closed-then-local",
    "closed-then-cloud",
)
CLIENTS_COUNT = 4
_ASKS_COUNT = (2, 5)
_SPAN_S = 3.0  # in which most of it happens
_LEAVES, _PRIVATE, _STREAMED, _FAULTED = 0.15, 0.25, 0.7, 0.5
_MIDDLE = (1, 14)  # events after which a stream goes wrong
What: TypeAlias = Literal["kill_worker", "stop_worker", "stop_cloud", "reload", "bad_reload"]
HURTS: tuple[What, ...] = ("kill_worker", "stop_worker", "stop_cloud", "reload", "bad_reload")
Fault: TypeAlias = dict[str, Any]


class Ask(Struct, frozen=True, kw_only=True):
    """One call.  `leave_s`: after so long its client resets the connection; None: it stays."""

    alias: str
    path: str
    stream: bool
    private: bool
    count_to: int
    max_tokens: int
    pause_s: float
    leave_s: float | None


class Hurt(Struct, frozen=True, kw_only=True):
    """Something that is done to a process, and for how long."""

    at_s: float
    what: What
    for_s: float


class Schedule(Struct, frozen=True, kw_only=True):
    """One trial.  `faults` are those that the cloud's calls meet, in the order of their arrival."""

    seed: int
    clients: list[list[Ask]]
    faults: list[Fault]
    hurts: list[Hurt]

    @property
    def line(self) -> str:
        """What is in it, in short."""
        asks_count = sum(len(asks) for asks in self.clients)
        hurts = ", ".join(hurt.what for hurt in self.hurts) or "nobody hurt"
        return f"{asks_count} calls, {hurts}"


def schedule(seed: int, hurts: tuple[What, ...] = HURTS) -> Schedule:
    """The trial of a seed."""
    chance = random.Random(seed)  # noqa: S311 - a trial is repeated, not kept secret
    clients = [_client(chance) for _ in range(CLIENTS_COUNT)]
    faults = [_fault(chance) if chance.random() < _FAULTED else {} for _ in range(60)]
    done = [_hurt(chance, hurts) for _ in range(chance.randint(0, 3))] if hurts else []
    return Schedule(seed=seed, clients=clients, faults=faults, hurts=sorted(done, key=lambda one: one.at_s))


def _client(chance: random.Random) -> list[Ask]:
    return [_ask(chance) for _ in range(chance.randint(*_ASKS_COUNT))]


def _ask(chance: random.Random) -> Ask:
    return Ask(
        alias=chance.choice(ALIASES),
        path=chance.choice((CHAT, CHAT, COMPLETIONS)),
        stream=chance.random() < _STREAMED,
        private=chance.random() < _PRIVATE,
        count_to=chance.randint(3, 30),
        max_tokens=chance.choice((4, 12, 48, 160)),
        pause_s=chance.random() * 0.4,
        leave_s=0.2 + chance.random() if chance.random() < _LEAVES else None,
    )


def _fault(chance: random.Random) -> Fault:
    """One of all that the emulator can do wrong."""
    place = chance.randint(*_MIDDLE)
    return chance.choice(
        (
            {"code": 3021},
            {"code": 3036},
            {"code": 4006},
            {"code": 3040},
            {"code": 3040, "retry_after": chance.choice(("1", "7", "-7", "99999999"))},
            {"status": chance.choice((500, 502, 503, 504, 522))},
            {"html": True, "status": 502},
            {"redirect": "http://127.0.0.1:9/trap"},
            {"hang": "before_headers"},
            {"hang": "after_headers"},
            {"pings": True},
            {"delay_first_s": 0.2},
            {"bytewise": True},
            {"plain": True},
            {"stall_after": place},
            {"cut_after": place},
            {"close_after": place},
            {"malformed_after": place},
            {"error_after": place, "code": 3040},
        )
    )


def _hurt(chance: random.Random, hurts: tuple[What, ...]) -> Hurt:
    return Hurt(at_s=chance.random() * _SPAN_S, what=chance.choice(hurts), for_s=0.1 + chance.random())
