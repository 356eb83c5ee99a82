"""Files that attack their reader: refused, quickly, with a sentence."""

from __future__ import annotations

import os
import string
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybrid_router.config.load import ConfigErrors, load, loads
from hybrid_router.config.source import Unreadable, read_config

GOOD = """\
backends: {local: {type: local, models: {small: {}}}}
aliases: {default: {try: local/small}}
"""
LAUGHS = "\n".join(
    ["a0: &a0 [lol, lol, lol]"] + [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
)


def first_problem(text: str) -> str:
    with pytest.raises(ConfigErrors) as caught:
        loads(text)
    return str(caught.value).splitlines()[0].removeprefix("router.yaml:")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "1:1: the file is empty; it needs `backends` and `aliases`"),
        ("# nothing\n", "1:1: the file is empty; it needs `backends` and `aliases`"),
        (
            "a: !!python/object/apply:os.system [id]",
            "the tag tag:yaml.org,2002:python/object/apply:os.system",
        ),
        ("a: !secret x", "1:4: the tag !secret is refused: write plain values"),
        ("a: !!str x", "the tag tag:yaml.org,2002:str is refused: write plain values"),
        (LAUGHS, "too much: anchors expand to more than 50000 nodes"),
        ("a: &a [*a]", "1:8: *a refers to itself"),
        ("a: &a {b: *a}", "1:11: *a refers to itself"),
        ("[" * 5000, "1:33: nested deeper than 32 levels"),
        ("a: *nobody", "1:4: found undefined alias 'nobody'"),
        ("a: [1", "1:6: expected ',' or ']', but got '<stream end>'"),
        ("a: 1\n---\nb: 2\n", "2:1: but found another document"),
        ("a: \x07", "1:1: a character that YAML forbids: special characters are not allowed"),
        ("a:\n\t- b", "2:1: found character '\\t' that cannot start any token"),
    ],
)
def test_a_hostile_or_broken_document_is_one_problem(text: str, said: str) -> None:
    """Tags, bombs, loops, depth and syntax errors end the reading with their place."""
    assert said in first_problem(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("try: @cf/x", "1:6: found character '@' that cannot start any token: put the value in quotes"),
        ("try: `x`", "1:6: found character '`' that cannot start any token: put the value in quotes"),
        (
            "a:\n\tb: 1",
            "2:1: found character '\\t' that cannot start any token: a tab where YAML wants spaces",
        ),
        (
            'text: "\\bAKIA\\d"',
            "1:15: found unknown escape character 'd': in double quotes \\ begins an escape",
        ),
        ("a: b: c", "1:5: mapping values are not allowed here: put a value that has ': ' in it in quotes"),
        (
            "a:\n  - b\n c: 1",
            "3:2: expected <block end>, but found '<block mapping start>': mend the indentation",
        ),
        ("a: 'b\n", "2:1: found unexpected end of stream: a quote is opened and never closed"),
    ],
)
def test_a_slip_in_yaml_says_what_to_do(text: str, said: str) -> None:
    """The parser names what it found; what people mostly mean by it comes with what to write instead."""
    assert first_problem(text).startswith(said)


def test_honest_anchors_are_read() -> None:
    """An anchor may stand for a value that is written once and used twice."""
    text = GOOD + "timeouts: {first_token: &wait 20s, load: *wait}\n"

    loaded = loads(text)

    assert (loaded.config.timeouts.first_token, loaded.config.timeouts.load) == (20.0, 20.0)


@given(st.text(alphabet=string.printable + "é\u2028\ud800", max_size=200))
def test_no_text_does_anything_but_load_or_be_refused(text: str) -> None:
    """Whatever stands in the file, the only exception is `ConfigErrors`, and it names a place."""
    with pytest.raises(ConfigErrors) as caught:
        loads(text)  # no text this short is a whole configuration by chance

    assert caught.value.problems
    assert all(problem.line >= 1 and problem.column >= 1 for problem in caught.value.problems)


TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["local", "30s", "8MiB", "", "x/y"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "backends",
                    "aliases",
                    "server",
                    "rules",
                    "timeouts",
                    "type",
                    "models",
                    "try",
                    "when",
                    "any",
                    "not",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(TREES)
def test_no_tree_of_known_keys_does_anything_but_load_or_be_refused(tree: object) -> None:
    """Right keys in wrong places, with values of wrong types, are problems, never a crash."""
    import yaml  # noqa: PLC0415 - to write, not to read

    try:
        loads(yaml.safe_dump({"backends": tree, "aliases": tree, "rules": tree, "server": tree}))
    except ConfigErrors as errors:
        assert errors.problems  # noqa: PT017 - loading is fine too


def test_a_file_that_everyone_may_write_is_refused(tmp_path: Path) -> None:
    """Whoever can write router.yaml decides where prompts go."""
    path = tmp_path / "router.yaml"
    path.write_text(GOOD)
    path.chmod(0o646)

    with pytest.raises(
        ConfigErrors, match="everyone may write to it, and so redirect your calls: chmod o-w it"
    ):
        load(path, {})


def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """A file of another user, root aside, is not trusted."""
    path = tmp_path / "router.yaml"
    path.write_text(GOOD)
    owner = path.stat().st_uid

    assert read_config(path, owner) == GOOD
    if owner != 0:
        with pytest.raises(Unreadable, match="belongs to another user"):
            read_config(path, owner + 1)
    else:
        os.chown(path, 12_345, -1)
        with pytest.raises(Unreadable, match="belongs to another user"):
            read_config(path, 54_321)


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    """A folder, a pipe and a file that is not there end the start at once, none of them hangs it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path, said in (
        (tmp_path, "is not a plain file"),
        (pipe, "is not a plain file"),
        (tmp_path / "x", "no such file"),
    ):
        with pytest.raises(ConfigErrors, match=said):
            load(path, {})


def test_what_is_no_text_or_too_much_is_refused(tmp_path: Path) -> None:
    """Bytes that are not UTF-8, and more than a mebibyte, are not read as configuration."""
    path = tmp_path / "router.yaml"
    path.write_bytes(b"a: \xff")
    with pytest.raises(ConfigErrors, match=r"is not UTF-8 text \(byte 3\)"):
        load(path, {})
    path.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigErrors, match="is larger than 1024 KiB"):
        load(path, {})


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    """Editors that write one are forgiven."""
    path = tmp_path / "router.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())

    assert load(path, {}).path == str(path)
