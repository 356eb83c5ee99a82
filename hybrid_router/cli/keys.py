"""`hybrid-router keys`: make client keys."""

from __future__ import annotations

import hashlib
import re
import secrets
from typing import get_args

import click

from hybrid_router.config.kinds import Name
from hybrid_router.config.marks import Pattern

_BITS = 256
_WHERE = """
And for router.yaml, which never holds the key itself: these lines below its `server:` line
(without `keys:`, below that one, if it is there already):
"""


@click.group(name="keys")
def command() -> None:
    """Make client keys."""


@command.command()
@click.argument("name")
def new(name: str) -> None:
    """Print a fresh key, once, and the lines that let it in.

    NAME says whose key it is: rules and logs call the caller by it.
    """
    pattern = next(limit for limit in get_args(Name) if isinstance(limit, Pattern))
    if not re.fullmatch(pattern.regex, name):
        raise click.BadParameter(f"{name!r} is not a name: use {pattern.hint}")
    key = "hr-" + secrets.token_urlsafe(_BITS // 8)
    click.echo("The key, shown this once; give it to the client as its API key:\n", err=True)
    click.echo(key)
    click.echo(f"{_WHERE}\n  keys:\n    - name: {name}\n      sha256: {sha256_of(key)}", err=True)


def sha256_of(key: str) -> str:
    """What router.yaml stores of a key."""
    return hashlib.sha256(key.encode()).hexdigest()
