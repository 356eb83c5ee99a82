"""`hybrid-router drill`, the real command."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from hybrid_router.cli.drill import draw, headlines
from hybrid_router.config.load import loads
from hybrid_router.drill.routes import Wanted
from hybrid_router.drill.run import Finding, Report, Situation, drill

POLICY = """
backends:
  sky: { type: workers_ai, account_id: { env: CLOUDFLARE_ACCOUNT_ID }, token: { env: CLOUDFLARE_API_TOKEN } }
  local: { type: local, models: { a: {} } }
aliases:
  x: { try: local/a }
  y: { try: sky/@cf/b }
store: { path: state/router.sqlite3 }
rules:
  - { name: stay, when: { text: '\\p{Greek}{3}' }, local_only: true }
"""
CANARY = "canary-token-5fd1c0ffee"


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A small policy with a rule for which no call can be guessed."""
    path = tmp_path / "router.yaml"
    path.write_text(POLICY)
    return path


def run(policy: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with an account in its environment."""
    account = {"CLOUDFLARE_ACCOUNT_ID": "a" * 32, "CLOUDFLARE_API_TOKEN": CANARY}
    return subprocess.run(
        [sys.executable, "-m", "hybrid_router", "drill", "--config", str(policy), *arguments],
        env={**os.environ, **account},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.timeout(60)
def test_what_was_found_comes_first(policy: Path) -> None:
    """Then each route with who fails and what the client sees; exit 0; a pipe gets plain lines."""
    done = run(policy, "--alias", "x")
    first, second, *rest = done.stdout.splitlines()

    assert (done.returncode, done.stderr) == (0, "")
    assert first.startswith("not drilled: rule stay, which keeps calls on this machine, since no call could")
    assert second.startswith("nothing found in ")
    assert "x, streamed: local/a" in rest
    assert "  local/a fails:" in rest
    assert "    its process is dead: 503 no_backend_available at once: " in done.stdout
    assert CANARY not in done.stdout


@pytest.mark.timeout(60)
def test_a_rule_that_is_described_is_drilled(policy: Path) -> None:
    """With `--text`, as JSON: the route says which rule keeps it here, and nobody was reached."""
    done = run(policy, "--text", "αβγ", "--json")
    told = json.loads(done.stdout)
    kept = [route for route in told["routes"] if route["kept_here_by"] == "stay"]

    assert done.returncode == 0
    assert (told["findings"], told["not_drilled"]) == ([], [])
    assert [route["alias"] for route in kept] == ["x", "y"]
    assert all(trial["reached"] == [] for route in kept for trial in route["trials"])
    assert told["calls"] == sum(len(route["trials"]) for route in told["routes"])
    assert {path.name for path in policy.parent.iterdir()} == {"router.yaml"}


@pytest.mark.timeout(60)
def test_what_does_not_chat_is_named(tmp_path: Path) -> None:
    """No chat is played with a model that transcribes, alone or beside one that chats."""
    path = tmp_path / "router.yaml"
    path.write_text("""
backends: { local: { type: local, models: { a: {}, w: { engine: whisper, weights: heard } } } }
aliases: { heard: { try: local/w }, mixed: { try: [local/w, local/a] } }
""")

    done = run(path)

    first, second, *rest = done.stdout.splitlines()
    assert first == "not drilled: alias heard: its models transcribe"
    assert second.startswith("nothing found in ")
    assert not any(line.startswith("heard") for line in rest)
    assert "mixed, streamed: local/a" in rest
    assert "local/w" not in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--alias", "z"], "no alias z; there is x, y"),
        (["--header", "x-private"], "'x-private' is not K=V, as in x-private=true"),
    ],
)
def test_a_wrong_word_is_said(policy: Path, arguments: list[str], said: str) -> None:
    """Exit 2 and a sentence."""
    done = run(policy, *arguments)

    assert done.returncode == 2
    assert said in done.stderr


def test_a_finding_is_a_sentence() -> None:
    """Alias, kind of call, who fails how, and what came of it."""
    situation = Situation(who="local/a", fault="stall", title="falls silent in the middle")
    report = Report(findings=[Finding(alias="x", kind="rule stay", situation=situation, what="it left")])

    assert list(headlines(report)) == [
        "found: x, rule stay while local/a fails (falls silent in the middle): it left"
    ]


def test_a_terminal_gets_tables() -> None:
    """With the same words."""
    config = loads(POLICY).config
    out = io.StringIO()
    draw(drill(config, ["x"], Wanted()), Console(file=out, width=160))

    assert "what the client sees" in out.getvalue()
    assert "its queue is full" in out.getvalue()
