"""A mixed day between two machines: private and public calls at once, with things going wrong."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
from dataclasses import replace
from typing import Any

from cable import hung_up
from private_calls import LABELS, PUBLIC, say
from router_process import Emulator, Router, soon
from two_machines import TwoMachines
from wire_client import Answer

HOME_CANARY, SKY_CANARY = "homecanary7c15", "skycanary7c15"


def killed(router: Router) -> None:
    """SIGKILL its workers."""
    for pid in router.children():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Day:
    """A seeded mix of private and public calls, with things going wrong.

    Attributes:
        private, public: the answers.
    """

    def __init__(self, seed: int, router: Router, machines: TwoMachines, cloud: Emulator) -> None:
        self._chance = random.Random(seed)  # noqa: S311 - a day is repeated, not kept secret
        self._router = router
        self._machines = machines
        self._cloud = cloud
        self.private: list[Answer] = []
        self.public: list[Answer] = []

    async def mixed(self) -> None:
        """Some of both at once, with something going wrong."""
        self._hurt()
        asked = [self._ask(self._chance.random() < 0.5) for _ in range(4)]
        await asyncio.gather(*asked, self._ask(private=True), self._ask(private=False))

    async def quiet(self) -> None:
        """Private calls alone, once nothing is left of the others."""
        with self._machines.far.inside():
            self._cloud.fault()
        self._router.forgive()
        await soon(lambda: not self._router.pooled(), "no kept connection")
        await hung_up(self._machines)
        before_count = self._machines.sent_count()
        await asyncio.gather(*(self._ask(private=True) for _ in range(4)))
        assert self._machines.sent_count() == before_count

    async def _ask(self, private: bool) -> None:
        chance = self._chance
        label = chance.choice(list(LABELS.values())) if private else PUBLIC
        said = f"{HOME_CANARY if private else SKY_CANARY}, {label.said}"
        alias = label.alias if label.alias != PUBLIC.alias else chance.choice(["cloud-first", "local-first"])
        answer = await say(
            self._router,
            replace(label, said=said, alias=alias),
            path=chance.choice(label.paths),
            stream=chance.random() < 0.6,
            max_tokens=chance.choice([1, 4, 12]),
        )
        (self.private if private else self.public).append(answer)

    def _hurt(self) -> None:
        chance = self._chance
        place = chance.randint(1, 6)
        faults: list[dict[str, Any]] = [
            {"status": 500},
            {"code": 3040},
            {"cut_after": place},
            {"stall_after": place},
            {"malformed_after": place},
            {"hang": "before_headers"},
        ]
        with self._machines.far.inside():
            self._cloud.fault(3, **chance.choice(faults))
        if chance.random() < 0.4:
            killed(self._router)
