"""Where tokens come from, and that they show nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hybrid_router.config.load import ConfigErrors, load, loads
from hybrid_router.config.schema import Loaded
from hybrid_router.config.source import Unreadable, read_secret

ACCOUNT = "0123456789abcdef0123456789abcdef"
CANARY = "canary-token-of-the-tests"
CONFIG = """\
backends:
  cf:
    type: workers_ai
    account_id: {env: ACCOUNT}
    token: {credential: cf-token, file: token.txt, env: TOKEN}
aliases: {default: {try: cf/@cf/meta/llama}}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a configuration and a folder for credentials."""
    (tmp_path / "router.yaml").write_text(CONFIG)
    (tmp_path / "credentials").mkdir()
    return tmp_path


def read(folder: Path, **environ: str) -> Loaded:
    """The folder's configuration, read with an account."""
    return load(folder / "router.yaml", {"ACCOUNT": ACCOUNT, **environ}, folder / "credentials")


def token_file(folder: Path, text: str, mode: int = 0o600) -> None:
    """Write the file that the configuration names."""
    path = folder / "token.txt"
    path.write_text(text)
    path.chmod(mode)


def test_the_first_source_that_exists_wins(folder: Path) -> None:
    """Credential before file before environment; each is stripped of white space."""
    assert read(folder, TOKEN="from-environ\n").secrets["cf.token"].reveal() == "from-environ"
    token_file(folder, " from-file \n")
    assert read(folder, TOKEN="from-environ").secrets["cf.token"].reveal() == "from-file"
    (folder / "credentials" / "cf-token").write_text("from-credential\n")
    assert read(folder, TOKEN="from-environ").secrets["cf.token"].reveal() == "from-credential"


def test_an_empty_source_is_no_source(folder: Path) -> None:
    """An empty file or variable counts as absent: the next source is asked, or the backend is off."""
    token_file(folder, "\n")

    assert read(folder, TOKEN="from-environ").secrets["cf.token"].reveal() == "from-environ"
    assert read(folder, TOKEN=" ").off == {"cf": "no token: set TOKEN"}


def test_systemd_names_the_folder_of_credentials(folder: Path) -> None:
    """Without an argument $CREDENTIALS_DIRECTORY says where credentials are."""
    (folder / "credentials" / "cf-token").write_text("from-credential")
    environ = {"ACCOUNT": ACCOUNT, "CREDENTIALS_DIRECTORY": str(folder / "credentials")}

    loaded = load(folder / "router.yaml", environ)

    assert loaded.secrets["cf.token"].reveal() == "from-credential"


@pytest.mark.parametrize(
    ("account", "token", "why"),
    [
        ("{env: A}", "{env: T}", "no token and no account id: set T and A"),
        ("{file: a.txt}", "{env: T}", "no token and no account id: set T and write it to a.txt"),
        ("{env: A}", "{credential: t}", "no token and no account id: set A and give the credential t"),
        (ACCOUNT, "{file: t.txt}", "no token: write it to t.txt"),
    ],
)
def test_off_says_what_to_do(account: str, token: str, why: str) -> None:
    """A backend without its secrets is off, in one sentence that ends the search."""
    text = CONFIG.replace("{env: ACCOUNT}", account).replace(
        "{credential: cf-token, file: token.txt, env: TOKEN}", token
    )

    loaded = loads(text, name="/nowhere/router.yaml")

    assert loaded.off == {"cf": why}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_secret_file_that_others_can_open_is_refused(folder: Path, mode: int) -> None:
    """A token that others can read is no secret any more."""
    token_file(folder, CANARY, mode)

    with pytest.raises(
        ConfigErrors, match=r"backends\.cf\.token\.file: .*token\.txt others can open it: chmod 600"
    ):
        read(folder)


@pytest.mark.parametrize(
    ("environ", "said"),
    [
        ({"TOKEN": "canary token"}, "is no token"),
        ({"TOKEN": "canary\x00token"}, "is no token"),
        ({"TOKEN": "canary\r\nX-Evil: 1"}, "is no token"),
        ({"TOKEN": "canary-é-token"}, "is no token"),
        ({"TOKEN": "short"}, "is no token"),
        ({"TOKEN": "canary" * 100}, "is no token"),
        ({"TOKEN": CANARY, "ACCOUNT": "canary-account"}, "is no account id"),
    ],
)
def test_a_value_that_cannot_be_right_is_refused_unseen(
    folder: Path, environ: dict[str, str], said: str
) -> None:
    """Control characters and silly shapes are named by their key, never shown."""
    with pytest.raises(ConfigErrors, match=said) as caught:
        read(folder, **environ)

    assert "canary" not in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        f"token: {CANARY}",
        f"token: [{CANARY}]",
        f"token: {{env: {CANARY}}}",
        f"token: {{credential: '../{CANARY}'}}",
        f"token: {{file: x, value: {CANARY}}}",
        f"account_id: {CANARY}",
    ],
)
def test_a_token_written_into_the_file_is_not_repeated(line: str) -> None:
    """Who pastes a token where its source belongs gets an error that can be shown to others."""
    key = line.split(":", maxsplit=1)[0]
    text = "\n".join(
        f"    {line}" if old.strip().startswith(f"{key}:") else old for old in CONFIG.splitlines()
    )

    with pytest.raises(ConfigErrors) as caught:
        loads(text)

    assert f"backends.cf.{key}" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_secret_shows_nowhere(folder: Path) -> None:
    """Neither `repr` nor `str` of what was loaded holds the token or the account."""
    loaded = read(folder, TOKEN=CANARY)

    assert loaded.secrets["cf.token"].reveal() == CANARY
    assert CANARY not in repr(loaded) + str(loaded)
    assert ACCOUNT not in repr(loaded) + str(loaded)


def test_a_source_that_is_no_text_is_refused(folder: Path) -> None:
    """Random bytes, folders and files beyond a token's size are named, not guessed at."""
    token_file(folder, "")
    (folder / "token.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigErrors, match="is not text"):
        read(folder)
    (folder / "credentials" / "cf-token").mkdir()
    with pytest.raises(ConfigErrors, match="is not a plain file"):
        read(folder)


def test_another_users_secret_is_refused(tmp_path: Path) -> None:
    """A token that another user put there is not ours to send."""
    path = tmp_path / "token.txt"
    path.write_text(CANARY)
    path.chmod(0o600)
    owner = path.stat().st_uid
    assert read_secret(path, owner, private=True) == CANARY
    if owner == 0:  # root's own files are trusted, so this one becomes somebody's
        os.chown(path, 12_345, -1)

    with pytest.raises(Unreadable, match="belongs to another user"):
        read_secret(path, 54_321, private=True)


@pytest.mark.parametrize(
    ("name", "said"), [(r"a\0b", "is not a path"), ("x" * 300, "cannot be read: File name too")]
)
def test_a_path_that_cannot_be_is_refused(folder: Path, name: str, said: str) -> None:
    """Odd paths are problems of the configuration, not of the program."""
    (folder / "router.yaml").write_text(CONFIG.replace("token.txt", f'"{name}"'))

    with pytest.raises(ConfigErrors, match=said):
        read(folder)
