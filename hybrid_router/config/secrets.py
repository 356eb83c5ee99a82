"""Where tokens come from: a systemd credential, a file, or the environment; the first that exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from hybrid_router.config.backend_schema import LocalBackend, SecretSource
from hybrid_router.config.cloud_schema import BackendConfig, WorkersAIBackend
from hybrid_router.config.problems import KeyPath, Problems
from hybrid_router.config.schema import Config
from hybrid_router.config.source import Unreadable, read_secret
from hybrid_router.core.secret import Secret

# What a secret is called, what it looks like, and the same in words that do not show it.
_TOKEN = (
    "token",
    re.compile(r"[!-~]{8,512}", re.ASCII),
    "8 to 512 printable ASCII characters, no white space inside",
)
_ACCOUNT = ("account id", re.compile(r"[0-9a-fA-F]{32}", re.ASCII), "32 hexadecimal digits")


class Surroundings(Struct, frozen=True, kw_only=True):
    """What a configuration is read in: its folder, the environment, systemd's credentials, the user."""

    folder: Path
    environ: Mapping[str, str]
    credentials_dir: Path | None
    user_id: int


def gather(
    config: Config, around: Surroundings, problems: Problems
) -> tuple[dict[str, Secret], dict[str, str]]:
    """Secrets by `backend.key`, and backends that are off for want of one, with what to do."""
    found: dict[str, Secret] = {}
    off: dict[str, str] = {}
    for name, backend in config.backends.items():
        missing = []
        for key, source in sources(backend):
            path: KeyPath = ("backends", name, *key.split("."))
            value = source if isinstance(source, str) else _look_up(source, path, around, problems)
            what, shape, looks = _ACCOUNT if key == "account_id" else _TOKEN
            if value is None and isinstance(source, SecretSource):
                missing.append((what, source))
            elif value is not None and shape.fullmatch(value):
                found[f"{name}.{key}"] = Secret(value)
            else:
                problems.add(path, f"what was found there is no {what}: {looks}")
        if missing:
            off[name] = _off(missing)
    return found, off


def sources(backend: BackendConfig) -> list[tuple[str, SecretSource | str]]:
    """Where each secret of a backend is, by its key; those that are not asked for are left out."""
    if isinstance(backend, LocalBackend):
        return []
    token: list[tuple[str, SecretSource | str]] = [] if backend.token is None else [("token", backend.token)]
    if not isinstance(backend, WorkersAIBackend):
        return token
    gateway = None if backend.gateway is None else backend.gateway.token
    more = [] if gateway is None else [("gateway.token", gateway)]
    return [*token, ("account_id", backend.account_id), *more]


def _off(missing: list[tuple[str, SecretSource]]) -> str:
    """`no token: set CLOUDFLARE_API_TOKEN`, or the same of two secrets."""
    what = " and ".join(f"no {word}" for word, _ in missing)
    variables = [source.env for _, source in missing if source.env is not None]
    todo = [f"set {' and '.join(variables)}"] if variables else []
    todo += [_todo(source) for _, source in missing if source.env is None]
    return f"{what}: {' and '.join(todo)}"


def _todo(source: SecretSource) -> str:
    """What to do for a secret that no environment variable may hold."""
    if source.file is not None:
        return f"write it to {source.file}"
    return f"give the credential {source.credential}"


def _look_up(source: SecretSource, path: KeyPath, around: Surroundings, problems: Problems) -> str | None:
    """The first of credential, file and env that exists and is not empty."""
    if source == SecretSource():
        problems.add(path, "names no source: give it credential, file or env")
        return None
    if source.credential is not None and around.credentials_dir is not None:
        value = _from_file(
            around.credentials_dir / source.credential, (*path, "credential"), around, problems
        )
        if value:
            return value
    if source.file is not None:
        value = _from_file(around.folder / source.file, (*path, "file"), around, problems)
        if value:
            return value
    return around.environ.get(source.env, "").strip() or None if source.env is not None else None


def _from_file(path: Path, key_path: KeyPath, around: Surroundings, problems: Problems) -> str | None:
    try:
        return read_secret(path, around.user_id, private=key_path[-1] == "file")
    except Unreadable as error:
        problems.add(key_path, f"{path} {error}")
        return None
