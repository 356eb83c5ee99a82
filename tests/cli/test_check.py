"""`hybrid-router check`: right files are shown, wrong ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from hybrid_router.cli.check import command
from hybrid_router.config.keys import listing

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environ: str) -> Result:
    """`hybrid-router check …` with this environment and no account of the machine's own."""
    empty = {"CLOUDFLARE_ACCOUNT_ID": None, "CLOUDFLARE_API_TOKEN": None, "CREDENTIALS_DIRECTORY": None}
    return CliRunner().invoke(command, arguments, env={**empty, **environ})


def test_the_shipped_file_is_shown_as_yaml_with_what_is_off() -> None:
    """Without an account: valid, the effective configuration, and one line on the cloud."""
    result = run("--config", str(ROOT / "router.yaml"))

    assert result.exit_code == 0
    shown = yaml.safe_load(result.stdout)
    assert shown["server"]["listen"] == "127.0.0.1:8080"
    assert shown["aliases"]["default"]["try"][1]["timeouts"]["first_token"] == "20s"
    assert (
        "# cloudflare is off: no token and no account id: set CLOUDFLARE_API_TOKEN and CLOUDFLARE_ACCOUNT_ID"
        in result.stdout.splitlines()
    )


def test_secrets_are_hidden() -> None:
    """With an account nothing is off and neither token nor account is printed."""
    account = "0123456789abcdef" * 2
    result = run(
        "--config",
        str(ROOT / "router.yaml"),
        CLOUDFLARE_ACCOUNT_ID=account,
        CLOUDFLARE_API_TOKEN="canary-token",
    )

    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["backends"]["cloudflare"]["token"] == "***"
    assert "canary" not in result.output
    assert account not in result.output
    assert "is off" not in result.output


def test_the_default_is_the_router_yaml_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --config the file in the working directory is read."""
    (tmp_path / "router.yaml").write_text((ROOT / "router.yaml").read_text())
    monkeypatch.chdir(tmp_path)

    assert run().exit_code == 0


def test_every_mistake_is_on_standard_error_and_exit_2(tmp_path: Path) -> None:
    """All problems at once, a line each, and nothing on standard output."""
    path = tmp_path / "bad.yaml"
    path.write_text("backends: {}\naliases: {}\nservr: {}\n")

    result = run("--config", str(path))

    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        f"{path}:1:11: backends: is empty: name something or remove the key",
        f"{path}:2:10: aliases: is empty: name something or remove the key",
        f"{path}:3:1: servr: no such key; did you mean server?",
    ]


def test_a_file_that_is_not_there_exits_2(tmp_path: Path) -> None:
    """The path is named as it was given."""
    result = run("--config", str(tmp_path / "none.yaml"))

    assert result.exit_code == 2
    assert result.stderr == f"{tmp_path}/none.yaml:1:1: there is no such file\n"


def test_keys_are_all_listed_without_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--keys` needs no router.yaml and leaves no key out."""
    monkeypatch.chdir(tmp_path)

    result = run("--keys")

    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split("  (")[0] for line in lines[::2]] == [key.path for key in listing()]
    assert "server.body_limit  (size; default 8MiB)" in lines
    assert "aliases.<name>.try[].step  (text; required)" in lines
    assert "rules[].when  (mapping)" in lines
