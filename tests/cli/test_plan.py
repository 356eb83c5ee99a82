"""`hybrid-router plan`: who would answer, in which order, and why."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from hybrid_router.cli.plan import command, draw
from hybrid_router.core.step import LeftOut, Plan, Step, Timeouts

ROUTER = str(Path(__file__).parents[2] / "router.yaml")
ACCOUNT = {"CLOUDFLARE_ACCOUNT_ID": "0" * 32, "CLOUDFLARE_API_TOKEN": "canary-token"}
LOCAL = "local/smollm2"
CLOUD = "cloudflare/@cf/zai-org/glm-4.7-flash"
RULES = """\
server: {keys: [{name: ann, sha256: %s}]}
backends: {local: {type: local, models: {a: {}}}}
aliases: {x: {try: local/a}}
rules:
  - {name: night, when: {time: 22:00-06:00}, refuse: Not at night.}
  - {name: ann_stays, when: {key: ann, operation: complete}, only: local}
""" % ("1" * 64)


def run(*arguments: str, environ: dict[str, str] | None = None, config: str = ROUTER) -> Result:
    """`hybrid-router plan …` on a configuration, with an account unless told otherwise."""
    empty = dict.fromkeys([*ACCOUNT, "CREDENTIALS_DIRECTORY"])
    given = ACCOUNT if environ is None else environ
    return CliRunner().invoke(command, [*arguments, "--config", config], env={**empty, **given})


def planned(*arguments: str) -> list[str]:
    """The steps that would run, by name."""
    result = run(*arguments, "--json")
    assert result.exit_code == 0
    return [f"{step['backend']}/{step['model']}" for step in json.loads(result.stdout)["steps"]]


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """A configuration with a key and rules on time and key."""
    path = tmp_path / "router.yaml"
    path.write_text(RULES)
    return str(path)


def test_lines_for_a_pipe() -> None:
    """Every step with its reason, on one line each, however long; exit 0."""
    result = run("default", "--prompt-tokens", "5000")

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "default: who would run it",
        "tried in this order:",
        f"  1. {CLOUD}: rule send_long_prompts_to_the_cloud: first cloud",
        f"  2. {LOCAL}: try order of alias default",
        "rules that hold: send_long_prompts_to_the_cloud",
    ]


def test_what_is_left_out_says_why() -> None:
    """Without an account the cloud is left out with what to do."""
    result = run("default", environ={})

    assert result.exit_code == 0
    assert (
        f"  {CLOUD}: cloudflare is off: no token and no account id: "
        "set CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID"
    ) in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["default"], [LOCAL, CLOUD]),
        (["cloud-first"], [CLOUD, LOCAL]),
        (["cloud-first", "--offline"], [LOCAL]),
        (["cloud-first", "--header", "X-Private=yes"], [LOCAL]),
        (["cloud-first", "--header", "x-other=a=b", "--header", "x-private=true"], [LOCAL]),
        (["cloud-first", "--header", "x-private=no", "--header", "X-Private=true"], [LOCAL]),
        (["cloud-first", "--header", "x-private=true", "--header", "x-private=no"], [LOCAL]),
        (["cloud-first", "--header", "x-private=no", "--header", "x-private=no"], [CLOUD, LOCAL]),
        (["cloud-first", "--text", "-----BEGIN PRIVATE KEY"], [LOCAL]),
        (["default", "--prompt-tokens", "3000"], [LOCAL, CLOUD]),
        (["default", "--prompt-tokens", "3001"], [CLOUD, LOCAL]),
        (["default", "--prompt-tokens", "3001", "--text", "hello"], [CLOUD, LOCAL]),
        (["default", "--has", "schema"], [LOCAL, CLOUD]),
        (["default", "--has", "grammar"], [LOCAL]),
    ],
)
def test_the_options_describe_the_call(arguments: list[str], steps: list[str]) -> None:
    """Each option reaches the policy as the same thing in a call would."""
    assert planned(*arguments) == steps


def test_an_operation_that_a_model_is_not_for_leaves_it_out() -> None:
    """An embedding is nothing for a chat model, here or in the cloud."""
    result = run("default", "--operation", "embed")

    assert result.exit_code == 1
    assert f"  {LOCAL}: it cannot embed" in result.stdout.splitlines()
    assert f"  {CLOUD}: it cannot embed" in result.stdout.splitlines()


SPOKEN = """\
backends: {local: {type: local, models: {w: {engine: whisper, weights: heard}, a: {}}}}
aliases: {heard: {try: local/w}, mixed: {try: [local/w, local/a]}, chats: {try: local/a}}
"""


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (["heard"], ["local/w"]),
        (["mixed"], ["local/a"]),
        (["mixed", "--operation", "transcribe"], ["local/w"]),
        (["chats", "--operation", "translate"], ["local/a"]),
    ],
)
def test_a_call_asks_what_the_models_are_for(arguments: list[str], steps: list[str], tmp_path: Path) -> None:
    """Without a word: a chat if any chats.  Models that chat translate, as they do for real calls."""
    path = tmp_path / "router.yaml"
    path.write_text(SPOKEN)

    result = run(*arguments, "--json", config=str(path))

    assert result.exit_code == 0, result.output
    assert [f"{step['backend']}/{step['model']}" for step in json.loads(result.stdout)["steps"]] == steps


def test_nothing_to_run_exits_1() -> None:
    """A script can tell that a call would fail, and a person why."""
    result = run("local-only", "--has", "images")

    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "local-only: nobody would run it",
        "left out:",
        f"  {LOCAL}: it cannot do images, which this call needs",
    ]


def test_time_key_and_operation(rules: str) -> None:
    """A refusal has its sentence; the time of day can be set, or is now."""
    night = run("x", "--time", "23:30", config=rules)
    day = run("x", "--time", "12:00", "--key", "ann", "--operation", "complete", "--json", config=rules)

    assert (night.exit_code, night.stdout.splitlines()[0]) == (1, "x is refused: Not at night.")
    assert (day.exit_code, json.loads(day.stdout)["rules"]) == (0, ["ann_stays"])
    assert run("x", config=rules).stdout.startswith("x")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nope"], "no alias nope; there is default, cloud-first, local-only"),
        (["default", "--key", "bob"], "no key bob; there is none"),
        (["default", "--time", "24:00"], "'24:00' is not a time of day, as in 22:30"),
        (["default", "--header", "x-private"], "'x-private' is not K=V, as in x-private=true"),
        (["default", "--prompt-tokens", "3", "--text", "hello"], "--text alone is 6 tokens"),
        (["default", "--has", "wings"], "'wings' is not one of"),
    ],
)
def test_a_wrong_question_exits_2(arguments: list[str], said: str) -> None:
    """What does not exist is named, with what does."""
    result = run(*arguments)

    assert result.exit_code == 2
    assert said in result.stderr


def test_a_wrong_configuration_exits_2(tmp_path: Path) -> None:
    """The same errors as `check` gives."""
    path = tmp_path / "router.yaml"
    path.write_text("aliases: {}\n")

    result = run("default", config=str(path))

    assert result.exit_code == 2
    assert f"{path}:1:1: needs `backends`: a mapping" in result.stderr


def test_a_terminal_gets_tables() -> None:
    """On a real terminal the plan is drawn."""
    ours, theirs = os.openpty()
    with open(ours, "rb", buffering=0) as screen:  # noqa: PTH123 - a descriptor
        arguments = [sys.executable, "-m", "hybrid_router", "plan", "default", "--config", ROUTER]
        done = subprocess.run(arguments, stdout=theirs, check=False)
        os.close(theirs)
        shown = screen.read(65_536).decode()

    assert done.returncode == 0
    assert "tried in this order" in shown
    assert "┃" in shown


def test_a_terminal_gets_tables_that_cut_nothing() -> None:
    """On a narrow terminal names are folded, never cut; markup in a reason is only text."""
    waits = Timeouts(connect_s=1, load_s=1, first_token_s=1, between_tokens_s=1, total_s=1)
    step = Step(
        backend="cloudflare", model="@cf/meta/" + "x" * 60, timeouts=waits, because="[bold]why[/bold]"
    )
    out = io.StringIO()

    draw(
        "default",
        Plan(steps=(step,), left_out=(LeftOut(step="local/a", because="down"),), rules=("stay",)),
        Console(file=out, width=60, force_terminal=False),
    )

    draw("default", Plan(refused="Not now."), Console(file=out, width=60))

    text = out.getvalue()
    assert "default is refused: Not now." in text
    assert text.count("x") >= 60
    assert "[bold]why[/bold]" in text
    assert "rules that hold: stay" in text
    assert "local/a" in text
