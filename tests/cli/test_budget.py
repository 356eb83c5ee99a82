"""`hybrid-router budget`: what the day has used, whether the router runs or not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result
from kept_notes import START, SetClock

from hybrid_router.cli.budget import budgets, command
from hybrid_router.config.load import load, loads
from hybrid_router.config.schema import Loaded
from hybrid_router.core.call import Call, Operation, Sampling
from hybrid_router.core.event import Usage
from hybrid_router.core.step import Step, Timeouts
from hybrid_router.dispatch.account import Note
from hybrid_router.dispatch.meter import Meter
from hybrid_router.dispatch.metered import metered
from hybrid_router.dispatch.record import Attempt
from hybrid_router.routing.day import State
from hybrid_router.routing.ledger import Rate
from hybrid_router.store.database import open_store

ACCOUNT = "a" * 32
NEURONS = "{daily: 1000, reserve: 100, overflow_usd: 0.5, pace: {'18:00': 0.5}}"
CONFIG = """\
backends:
  local: {{type: local, models: {{small: {{}}}}}}
  cf: {{type: workers_ai, account_id: {account}, token: {{env: TOKEN}}, neurons: {neurons}}}
aliases:
  default: {{try: [local/small, cf/m]}}
"""
WAITS = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
STEP = Step(backend="cf", model="m", timeouts=WAITS, because="")
CALL = Call(id="c", operation=Operation.CHAT, alias="a", sampling=Sampling(max_tokens=100))


def configured(account: str = ACCOUNT, neurons: str = NEURONS) -> Loaded:
    """A configuration with one metered backend."""
    return loads(CONFIG.format(account=account, neurons=neurons), environ={"TOKEN": "a-token-of-cloudflare"})


def noted(**changed: Any) -> Note:
    """What a router wrote at noon."""
    at = SetClock()()
    state = State(
        day=START.date(),
        spent=300.0,
        most=380.0,
        recent=300.0,
        wall_s=START.timestamp(),
        elapsed_s=at.elapsed_s,
        boot=at.boot,
    )
    return Note(backends=("cf",), state=msgspec.structs.replace(state, **changed))


def told(loaded: Loaded, *notes: Note, hours: float = 0.0) -> dict[str, Any]:
    """The one backend's budget, some hours after noon."""
    clock = SetClock()
    clock.pass_(hours=hours)
    keys = [backend.account for backend in metered(loaded).values()] or ["somebody's"]
    kept = dict(zip([*keys, "another"], notes, strict=False))
    (budget,) = budgets(loaded, kept, clock())
    found: dict[str, Any] = json.loads(msgspec.json.encode(budget))
    return found


def test_it_tells_what_is_used_reserved_and_left() -> None:
    """All of it, with what holds the rest back and when the day is renewed."""
    assert told(configured(), noted()) == {
        "backend": "cf",
        "day": "2026-11-22",
        "daily": 1000.0,
        "used": 300.0,
        "reserved": 80.0,
        "left": 20.0,
        "left_with_reserve": 120.0,
        "reserve": 100.0,
        "held_back": "the pace allows no more before 18:00 UTC; 100 neurons are kept in reserve",
        "pace": [{"until": "18:00", "neurons": 500.0}],
        "paid_usd": 0.0,
        "overflow_usd": 0.5,
        "renewed": "2026-11-23T00:00:00Z",
        "noted": "2026-11-22T12:00:00Z",
    }


def test_dollars_are_counted_beyond_the_day() -> None:
    """Two thousand neurons over it are 0.022 USD."""
    budget = told(configured(), noted(spent=3000.0, most=3000.0), hours=7)

    assert budget["paid_usd"] == pytest.approx(0.022)
    assert budget["left"] == pytest.approx(1000 + 0.5 / 0.000011 - 3000 - 100)


def test_a_day_that_is_over_counts_no_more() -> None:
    """Long after it nothing is used; a note of the day before may leave something open."""
    assert told(configured(), noted(), hours=100)["used"] == 0
    assert told(configured(), noted(), hours=100)["reserved"] == 0
    assert (
        told(configured(), noted(), hours=13)["used"],
        told(configured(), noted(), hours=13)["reserved"],
    ) == (
        0,
        80,
    )


def test_what_was_never_noted_is_unused() -> None:
    """Before the first start."""
    budget = told(configured())

    assert (budget["used"], budget["reserved"], budget["noted"]) == (0, 0, None)


def test_an_account_that_is_a_secret_elsewhere_is_found_by_its_backend() -> None:
    """A service's credentials are not in one's own shell: the latest note of that backend is shown."""
    loaded = configured("{env: ACCOUNT}")
    assert metered(loaded) == {}
    older = noted(spent=1.0, most=1.0, wall_s=START.timestamp() - 60)

    assert told(loaded, noted(), older)["used"] == 300
    assert told(loaded, msgspec.structs.replace(noted(), backends=("other",)))["used"] == 0


def test_two_accounts_are_told_apart_and_kept_to_themselves() -> None:
    """By id and address, whatever the capitals; the key shows neither."""
    one = metered(configured())["cf"].account
    assert metered(configured(ACCOUNT.upper()))["cf"].account == one
    assert metered(configured("b" * 32))["cf"].account != one
    at_home = CONFIG.format(account=ACCOUNT, neurons="{}").replace(
        "token:", "base_url: http://127.0.0.1:9, token:"
    )
    assert metered(loads(at_home))["cf"].account != one
    assert ACCOUNT not in one


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a long day, that any time of day allows."""
    path = tmp_path / "router.yaml"
    path.write_text(CONFIG.format(account=ACCOUNT, neurons="{reserve: 500}"))
    return path


def run(config: Path, *arguments: str) -> Result:
    """`hybrid-router budget …`."""
    environ = {"TOKEN": "a-token-of-cloudflare", "STATE_DIRECTORY": None}
    return CliRunner().invoke(command, ["--config", str(config), *arguments], env=environ)


Use = Callable[[int], None]


@pytest.fixture
def use(config: Path) -> Use:
    """Lets a router's meter use so many neurons."""

    async def used(neurons: int) -> None:
        store = await open_store(config.parent / "state" / "router.sqlite3")
        meter = Meter(store.notes)
        await meter.open()
        rate = Rate(input=1_000_000, output=1_000_000, cached_input=1_000_000)
        meter.configure(metered(load(config, {"TOKEN": "a-token-of-cloudflare"})), {"cf/m": rate})
        row = Attempt(backend="cf", model="m", started_s=0.0)
        await meter.reserve(CALL, STEP, row, 0, may_use_reserve=False)
        row.usage = Usage(prompt_tokens=0, completion_tokens=neurons)
        meter.settle(CALL, row, None)
        await meter.close()
        await store.close()

    return lambda neurons: asyncio.run(used(neurons))


def test_it_reads_what_the_router_wrote(config: Path, use: Use) -> None:
    """From the store beside router.yaml; a second run of the router adds to the first's."""
    use(70)
    use(7)
    result = run(config, "--json")

    assert result.exit_code == 0, result.stderr
    (budget,) = json.loads(result.stdout)
    assert (budget["used"], budget["reserved"], budget["left"]) == (77, 0, 10_000 - 77 - 500)
    noted = datetime.fromisoformat(budget["noted"])
    assert abs(noted - datetime.now(UTC)) < timedelta(minutes=5)


def test_lines_for_people(config: Path, use: Use) -> None:
    """One short block for each backend."""
    before = run(config).stdout.splitlines()
    assert before[0].endswith("UTC, nothing noted yet")

    use(1234)
    lines = run(config).stdout.splitlines()
    assert lines[0].startswith("cf: 20")
    assert lines[1:] == [
        "  used  1,234 of 10,000 neurons",
        "  left  8,266 now (renewed at 00:00 UTC; 500 neurons are kept in reserve)",
        "        8,766 for calls that may use the reserve",
    ]


def test_lines_of_all_that_can_be_written(tmp_path: Path) -> None:
    """The pace and the dollars have lines of their own."""
    path = tmp_path / "router.yaml"
    path.write_text(CONFIG.format(account=ACCOUNT, neurons=NEURONS))
    lines = run(path).stdout.splitlines()

    assert "  pace  500 before 18:00 UTC, then all" in lines
    assert "  paid  0.0000 of 0.5000 USD" in lines


def test_a_store_that_cannot_be_read_is_told(config: Path) -> None:
    """Exit status 1 and the reason: a guess would be worse."""
    store = config.parent / "state" / "router.sqlite3"
    store.parent.mkdir()
    store.write_bytes(b"not a store" * 100)
    result = run(config)

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("what was noted cannot be read: ")


def test_without_a_cloud_there_is_nothing_to_count(tmp_path: Path) -> None:
    """It says so."""
    path = tmp_path / "router.yaml"
    path.write_text("backends: {local: {type: local, models: {a: {}}}}\naliases: {x: {try: local/a}}\n")

    assert run(path).stdout == "No backend of this configuration counts neurons.\n"
    assert json.loads(run(path, "--json").stdout) == []
