"""`hybrid-router replay`: what another policy would have done, told from a real store."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from hybrid_router.cli.replay import command, lines
from hybrid_router.config.load import load
from hybrid_router.core.call import Call, Message, Operation
from hybrid_router.core.event import Usage
from hybrid_router.core.step import Timeouts
from hybrid_router.dispatch.archive import Archive
from hybrid_router.dispatch.record import Attempt, Record
from hybrid_router.dispatch.replay_report import Report
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.plan import plan
from hybrid_router.routing.policy import compile_policy
from hybrid_router.routing.speed import Sample, Speed, learned
from hybrid_router.store.database import Store, open_store

MODEL = "@cf/meta/llama-3.1-8b-instruct-fp8"
LOCAL, CLOUD = "local/a", f"cf/{MODEL}"
BASE = f"""\
backends:
  local: {{type: local, models: {{a: {{}}}}}}
  cf:
    type: workers_ai
    account_id: "{"0" * 32}"
    token: {{env: CLOUDFLARE_API_TOKEN}}
aliases:
  fast: {{try: [{LOCAL}, "{CLOUD}"]}}
"""
KEEP = "{name: keep_home, when: {text: [secret]}, local_only: true}"
TO_CLOUD = "{name: to_cloud, when: {prompt_tokens: {above: 100}}, first: cloud}"
TIMEOUTS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)


def written(path: Path, *rules: str, base: str = BASE, store: str = "{}") -> Path:
    """A router.yaml."""
    listed = "".join(f"  - {rule}\n" for rule in rules)
    path.write_text(f"{base}store: {store}\n" + (f"rules:\n{listed}" if rules else ""))
    return path


@pytest.fixture(autouse=True)
def _no_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


class Router:
    """Plans and records calls as the service does, under a policy."""

    def __init__(self, store: Store, path: Path) -> None:
        self.config = load(path, {"CLOUDFLARE_API_TOKEN": "x" * 40}).config
        self.policy = compile_policy(self.config)
        self.archive = Archive(store.decisions, self.config)
        self.count = 0

    def call(
        self, text: str = "hi", *, facts: Facts | None = None, neurons: float = 0.0, **more: Any
    ) -> None:
        """A call that was planned and answered by its first step."""
        self.count += 1
        given: dict[str, Any] = {
            "id": f"c{self.count}",
            "operation": Operation.CHAT,
            "alias": "fast",
            "messages": (Message(role="user", content=text),),
        }
        made = Call(**{**given, **more})
        known = replace(facts or Facts(), local=self.policy.local)
        decided = plan(made, known, self.policy)
        record = Record(id=f"dec_{self.count}", plan=decided, facts=known)
        record.attempts = [
            Attempt(
                backend=first.backend,
                model=first.model,
                started_s=0,
                outcome="answered",
                usage=Usage(1_000_000, 1_000_000),
                neurons=neurons,
            )
            for first in decided.steps[:1]
        ]
        self.archive.keep(made, record, status=200, error=None, duration_s=0.1)


def kept(path: Path, *calls: dict[str, Any], speeds: dict[str, Speed] | None = None) -> None:
    """Have calls recorded under the policy of a router.yaml."""

    async def write() -> None:
        store = await open_store(path.parent / "state" / "router.sqlite3")
        router = Router(store, path)
        for call in calls:
            router.call(**call)
        notes = {step: msgspec.json.encode(speed) for step, speed in (speeds or {}).items()}
        await store.notes.save("speed", notes)
        await store.close()

    asyncio.run(write())


def run(policy: Path, config: Path, *arguments: str) -> Result:
    """`hybrid-router replay …`, without an account in the environment."""
    return CliRunner().invoke(command, ["--policy", str(policy), "--config", str(config), *arguments])


def replayed(policy: Path, config: Path, *arguments: str, exit_code: int = 0) -> dict[str, Any]:
    """What it says as JSON."""
    result = run(policy, config, "--json", *arguments)
    assert result.exit_code == exit_code, result.output
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def fast(first_token_s: float) -> Speed:
    """A step that is known to begin after so long."""
    speed = None
    for _ in range(20):
        sample = Sample(
            at_s=time.time(),
            prompt_tokens=10,
            completion_tokens=1,
            first_token_s=first_token_s,
            total_s=first_token_s,
        )
        speed = learned(speed, sample, local=False)
    assert speed is not None
    return speed


def test_the_same_policy_moves_nothing(tmp_path: Path) -> None:
    """Whatever was down, busy or long: a replay of the policy in force finds all calls where they went."""
    refuse = "{name: no_tales, when: {text: [tale]}, refuse: No tales here.}"
    config = written(tmp_path / "router.yaml", KEEP, TO_CLOUD, refuse)
    kept(
        config,
        {},
        {"text": "a secret"},
        {"text": "word " * 200},
        {"text": "word " * 200, "facts": Facts(down={CLOUD: "it is benched"})},
        {"facts": Facts(down={LOCAL: "it died"})},
        {"text": "word " * 200, "facts": Facts(online=False)},
        {"facts": Facts(off={"local": "no engine"})},
        {"facts": Facts(down={LOCAL: "it died", CLOUD: "it is benched"})},
        {"text": "a tale"},
    )

    said = replayed(config, config)

    assert (said["calls_count"], said["moved_count"], said["undecidable_count"]) == (9, 0, 0)
    assert (said["leaving"], said["may_leave"]) == ([], [])


def test_moved_calls_are_counted_by_where_they_go(tmp_path: Path) -> None:
    """From which first step to which, most first; calls that nothing changes for are not among them."""
    config = written(tmp_path / "router.yaml", TO_CLOUD)
    kept(config, {}, {}, {"text": "word " * 200}, {"operation": Operation.COMPLETE})
    other = written(
        tmp_path / "new.yaml",
        "{name: small_too, when: {prompt_tokens: {below: 100}, operation: chat}, first: cloud}",
        "{name: long_ones, when: {prompt_tokens: {above: 100}}, refuse: Too long for us.}",
    )

    said = replayed(other, config)

    assert said["moves"] == [
        {"from": LOCAL, "to": CLOUD, "count": 2},
        {"from": CLOUD, "to": "(refused)", "count": 1},
    ]
    assert said["moved_count"] == 3


def test_a_private_call_that_would_leave_is_an_error(tmp_path: Path) -> None:
    """Exit 1 and its id, even if it would go to the cloud last, or could not when it came."""
    config = written(tmp_path / "router.yaml", KEEP)
    kept(config, {}, {"text": "a secret"}, {"text": "secret", "facts": Facts(online=False)})
    careless = written(tmp_path / "new.yaml")

    result = run(careless, config)

    assert result.exit_code == 1
    assert "private calls that would leave: 2" in result.stdout
    assert "  dec_2\n  dec_3" in result.stdout
    assert replayed(careless, config, exit_code=1)["leaving"] == ["dec_2", "dec_3"]


def test_what_no_text_was_kept_for_is_counted_apart(tmp_path: Path) -> None:
    """A new pattern cannot be looked for in what was not kept; private calls count as leaving then."""
    config = written(tmp_path / "router.yaml", KEEP)
    kept(config, {}, {"text": "a secret"})
    other = written(
        tmp_path / "new.yaml", "{name: keep_more, when: {text: [secret, confidential]}, local_only: true}"
    )
    narrower = written(
        tmp_path / "narrow.yaml", "{name: keep_less, when: {text: [very secret]}, local_only: true}"
    )

    assert replayed(other, config)["undecidable_rules"] == {"keep_more": 1}
    said = replayed(narrower, config, exit_code=1)
    assert (said["undecidable_count"], said["leaving"], said["may_leave"]) == (2, [], ["dec_2"])
    assert "nobody can tell that they would not: 1" in run(narrower, config).stdout


def test_rules_that_move_nobody_need_no_text(tmp_path: Path) -> None:
    """A new rule that only says how a call is run leaves every call decidable."""
    config = written(tmp_path / "router.yaml")
    kept(config, {})
    other = written(tmp_path / "new.yaml", "{name: calm, when: {text: [hi]}, on_break: error, hedge: true}")

    assert replayed(other, config)["undecidable_count"] == 0


def test_with_text_kept_every_pattern_can_be_judged(tmp_path: Path) -> None:
    """`store.prompts: true` makes new patterns decidable, though not for private calls."""
    config = written(tmp_path / "router.yaml", KEEP, store="{prompts: true}")
    kept(config, {"text": "a plan"}, {"text": "nothing"}, {"text": "a secret plan"})
    other = written(
        tmp_path / "new.yaml", KEEP, "{name: plans, when: {text: ['pl.n']}, first: cloud}", store="{}"
    )

    said = replayed(other, config)

    assert said["moves"] == [{"from": LOCAL, "to": CLOUD, "count": 1}]
    assert said["undecidable_count"] == 1


def test_latency_and_neurons_are_compared(tmp_path: Path) -> None:
    """First tokens by the speeds that were learned, neurons by the tokens that were counted."""
    config = written(tmp_path / "router.yaml", TO_CLOUD)
    speeds = {LOCAL: fast(2.0), CLOUD: fast(0.5)}
    kept(config, {}, {}, {"text": "word " * 200, "neurons": 7.0}, speeds=speeds)
    priced = BASE.replace(
        "CLOUDFLARE_API_TOKEN}",
        f"CLOUDFLARE_API_TOKEN}}\n    neurons: {{rates: {{'{MODEL}': {{input: 1, output: 2}}}}}}",
    )
    other = written(tmp_path / "new.yaml", "{name: all, first: cloud}", base=priced)

    said = replayed(other, config)

    assert "(mean of 3 calls)" in run(other, config).stdout
    assert said["moved_count"] == 2
    assert said["first_token_s"]["before"] == pytest.approx(2.0 + 2.0 + 0.5, rel=0.05)
    assert said["first_token_s"]["after"] == pytest.approx(3 * 0.5, rel=0.05)
    assert said["neurons"] == {"before": 7.0, "after": pytest.approx(3 + 3 + 7), "count": 3}


def test_what_was_never_counted_costs_nobody_knows_what(tmp_path: Path) -> None:
    """A call that nobody answered has no tokens to reckon with: it is in no sum of neurons."""
    config = written(
        tmp_path / "router.yaml", "{name: no_tales, when: {text: [tale]}, refuse: No tales here.}"
    )
    kept(config, {"text": "a tale"})
    other = written(tmp_path / "new.yaml", "{name: all, first: cloud}")

    said = replayed(other, config)

    assert said["moves"] == [{"from": "(refused)", "to": CLOUD, "count": 1}]
    assert said["neurons"]["count"] == 0


def test_an_alias_that_is_gone(tmp_path: Path) -> None:
    """Its calls would get an error, and go nowhere."""
    config = written(tmp_path / "router.yaml", KEEP)
    kept(config, {"text": "a secret"})
    other = written(tmp_path / "new.yaml", base=BASE.replace("fast:", "other:"))

    assert replayed(other, config)["moves"] == [{"from": LOCAL, "to": "(no such alias)", "count": 1}]


def test_only_the_calls_of_the_time_asked_for(tmp_path: Path) -> None:
    """`--since` takes days too."""
    config = written(tmp_path / "router.yaml")
    kept(config, {}, {}, {})
    with closing(sqlite3.connect(tmp_path / "state" / "router.sqlite3")) as store, store:
        store.execute("UPDATE decisions SET at = at - 3 * 86400 WHERE id = 'dec_1'")
        store.execute("UPDATE decisions SET at = at - 30 * 86400 WHERE id = 'dec_2'")

    counts = [
        replayed(config, config, *since)["calls_count"]
        for since in ([], ["--since", "90m"], ["--since", "60d"])
    ]

    assert counts == [2, 1, 3]
    assert run(config, config, "--since", "soon").exit_code == 2


def test_records_of_another_version_are_left_out(tmp_path: Path) -> None:
    """They are counted, and harm nothing."""
    config = written(tmp_path / "router.yaml")
    kept(config, {}, {})
    with closing(sqlite3.connect(tmp_path / "state" / "router.sqlite3")) as store, store:
        store.execute("UPDATE decisions SET document = '{\"id\": 3}' WHERE id = 'dec_1'")
        store.execute("INSERT INTO notes VALUES ('speed', 'local/a', '[]', 0)")

    said = replayed(config, config)

    assert (said["calls_count"], said["unreadable_count"]) == (1, 1)
    assert "records of another version, left out: 1" in run(config, config).stdout


def test_without_a_store_there_is_nothing_to_say(tmp_path: Path) -> None:
    """Exit 2 and the file that is missing; a wrong policy is named too."""
    config = written(tmp_path / "router.yaml")
    result = run(config, config)

    assert result.exit_code == 2
    assert "there is no store at" in result.stderr
    wrong = written(tmp_path / "new.yaml", "{name: Wrong}")
    assert run(wrong, config).exit_code == 2


def test_many_ids_are_not_all_listed() -> None:
    """A screen is enough; JSON lists all."""
    said = list(lines(Report(leaving=[f"dec_{number}" for number in range(25)])))

    assert said[-1] == "  and 5 more; --json lists all"
    assert len([line for line in said if line.startswith("  dec_")]) == 20
