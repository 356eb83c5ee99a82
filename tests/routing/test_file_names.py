"""Names of files in a text, by globs."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.schema import Condition
from hybrid_router.core.call import Call, FunctionCall, Message, Operation, ToolCall
from hybrid_router.routing.conditions import compiled
from hybrid_router.routing.facts import Facts
from hybrid_router.routing.file_names import named
from hybrid_router.routing.subject import Subject

FOUND = [
    ("*.pem", "server.pem"),
    ("*.pem", "see /etc/ssl/private/x.pem."),
    ("*.pem", "Is `a.pem` safe?"),
    ("*.pem", "(a.pem)"),
    ("*.pem", "a.PEM,b.txt"),
    ("*.pem", "rm *.pem"),
    ("*.pem", "my own key.pem"),
    ("*.pem", "file:///home/me/my%20key.pem"),
    ("*.pem", r"C:\keys\n.pem"),
    ("*.pem", '{"path": "C:\\\\keys\\\\n.pem"}'),
    ("*.pem", r"{\"path\": \"/x/a.pem\"}"),
    (".env", ".env"),
    (".env", "/app/.env"),
    (".env", "cp .env .env.local"),
    (".env", r'"C:\app\.env"'),
    (".env.*", "cp x .env.local"),
    ("id_rsa*", "~/.ssh/id_rsa"),
    ("id_rsa*", "id_rsa.pub"),
    ("**/secrets/**", "secrets/x"),
    ("**/secrets/**", "/a/secrets/b/c.txt"),
    ("**/secrets/**", "look into config/secrets/"),
    ("**/secrets/**", r"C:\secrets\x"),
    ("/etc/**", "cat /etc/passwd"),
    ("/etc/**", "file://host/etc/passwd"),
    ("src/*.key", "/home/me/src/a.key"),
    ("a/**/b.txt", "a/b.txt"),
    ("a/**/b.txt", "a/x/y/b.txt"),
    ("*.{pem,key}", "a.key"),
    ("[ab]?.txt", "B2.txt"),
    ("[!a-c].txt", "d.txt"),
    ("[z-a].txt", "[z-a].txt"),
    ("~/.ssh/**", "cat ~/.ssh/config"),
    ("häß*.txt", "HÄß1.txt"),
    ("*.pem", "ａ．ｐｅｍ"),
]
NOT_FOUND = [
    ("*.pem", "a.pem.txt"),
    ("*.pem", "a.pem/foo"),
    ("*.pem", "open.pemx"),
    (".env", "process.env"),
    (".env", "prod.env"),
    (".env", ".env.local and .envrc"),
    (".env", ".env/x"),
    ("id_rsa*", "my_id_rsa"),
    ("**/secrets/**", "tell me no secrets."),
    ("**/secrets/**", "my-secrets/x"),
    ("/etc/**", "my/etc/x and etc/x and ~/etc/x"),
    ("src/*.key", "src/b/a.key"),
    ("[ab]?.txt", "a12.txt"),
    ("[!a-c].txt", "a.txt"),
    ("a/**/b.txt", "a/xb.txt"),
    ("~/.ssh/**", "/home/me/.ssh/config"),
]


def holds(glob: str, text: str) -> bool:
    """Whether a prompt names a file that a glob matches."""
    call = Call(id="x", operation=Operation.CHAT, alias="a", messages=(Message(role="user", content=text),))
    return compiled(Condition(files=(glob,)))(Subject(call, Facts()))


@pytest.mark.parametrize(("glob", "text"), FOUND)
def test_a_file_is_found_however_it_is_written(glob: str, text: str) -> None:
    """In prose, quotes, URLs, JSON; of Windows; in any case; beside other things."""
    assert holds(glob, text)


@pytest.mark.parametrize(("glob", "text"), NOT_FOUND)
def test_what_only_looks_like_it_is_none(glob: str, text: str) -> None:
    """A glob means a whole name, and `*` stays within it."""
    assert not holds(glob, text)


def test_a_tool_call_names_files_too() -> None:
    """What an agent has just opened stands in its arguments."""
    opened = ToolCall(id="1", function=FunctionCall("read", '{"path":"/srv/app/.env"}'))
    call = Call(
        id="x",
        operation=Operation.CHAT,
        alias="a",
        messages=(Message(role="assistant", tool_calls=[opened]),),
    )

    assert compiled(Condition(files=("*.pem", ".env")))(Subject(call, Facts()))
    assert not compiled(Condition(files=("*.pem",)))(Subject(call, Facts()))


NAMES = st.text(alphabet="abc.-_1é", min_size=1, max_size=6).filter(lambda name: name.strip("."))
AROUND = st.sampled_from(["", " ", '"', "'", "`", "(", "\n", ",", "=", ": "])


@given(st.lists(NAMES, min_size=1, max_size=4), AROUND, AROUND, st.sampled_from(["/", "\\"]))
def test_whatever_stands_around_a_path_its_own_name_finds_it(
    names: list[str], before: str, after: str, slash: str
) -> None:
    """The last part, all of it, and `**` with the last part, for any path."""
    path = slash.join(names)
    text = f"see{before or ' '}{path}{after}"

    for glob in (names[-1], "/".join(names), "**/" + names[-1], "*" + names[-1][1:]):
        assert named([glob]).search(text.encode()), glob


@given(st.text(alphabet=r"ab*?[]{}!-/,\ .^", max_size=12))
def test_any_glob_can_be_looked_for(glob: str) -> None:
    """Brackets that do not close and ranges that run backwards are meant as they are written."""
    named([glob]).search(b"a/b.c")


@given(st.text(alphabet="ab./", min_size=1, max_size=12), st.text(alphabet="ab./ ", max_size=12))
def test_a_glob_without_stars_is_found_only_where_it_stands(glob: str, text: str) -> None:
    """Nothing is found that is not written, slashes counting as one."""
    single = re.sub("/+", "/", glob.lstrip("/"))

    if named([glob]).search(text.encode()):
        assert single in re.sub("/+", "/", text)
