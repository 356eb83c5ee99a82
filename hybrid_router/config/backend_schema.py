"""What every backend in router.yaml has, and the keys of the local one.  See `config.schema`."""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from hybrid_router.config.kinds import Duration, Name
from hybrid_router.config.local_schema import LlamaModel, LocalModel
from hybrid_router.config.marks import Doc, NonEmpty, Pattern, Untagged


class SecretSource(Struct, frozen=True, kw_only=True):
    """Where a secret comes from.  The first of credential, file, env that exists is taken; none: off."""

    credential: Annotated[
        str | None,
        Pattern(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}", "a plain file name"),
        Doc("Name below $CREDENTIALS_DIRECTORY (systemd's LoadCredential=)."),
    ] = None
    file: Annotated[
        str | None,
        NonEmpty(),
        Doc("Path of a file that holds nothing else, readable by its owner only; relative to this file."),
    ] = None
    env: Annotated[
        str | None,
        Pattern(r"[A-Z_][A-Z0-9_]*", "the name of an environment variable in capitals (not its value)"),
        Doc("Name of an environment variable."),
    ] = None


class Waits(Struct, frozen=True, kw_only=True):
    """The waits of one attempt. All but between_tokens count from its start."""

    connect: Annotated[Duration | None, Doc("Until a connection stands (clouds).")] = None
    load: Annotated[Duration | None, Doc("Until the model is loaded (local).")] = None
    first_token: Annotated[Duration | None, Doc("Until the first token.")] = None
    between_tokens: Annotated[Duration | None, Doc("Longest silence after the first token.")] = None


class Timeouts(Waits, frozen=True, kw_only=True):
    """Five waits: those of an attempt, and one for the whole call.

    Checked where they meet: connect ≤ load ≤ first_token ≤ total and between_tokens ≤ total.
    A backend's, alias's or step's own values replace the global ones key by key.
    """

    total: Annotated[Duration | None, Doc("For the whole call, every attempt included.")] = None


class LocalBackend(Struct, frozen=True, kw_only=True, tag="local", tag_field="type"):
    """Models on this machine."""

    models: Annotated[
        dict[Name, Annotated[LocalModel, Untagged(LlamaModel)]], NonEmpty(), Doc("Models by name.")
    ]
    timeouts: Annotated[Waits, Doc("Replace the global ones for this backend.")] = Waits()
