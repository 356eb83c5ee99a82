"""Where tokens come from: a systemd credential, a file, or the environment; the first that exists."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from hybrid_router.config.problems import KeyPath, Problems
from hybrid_router.config.schema import Config, SecretSource, WorkersAIBackend
from hybrid_router.config.source import Unreadable, read_secret
from hybrid_router.core.secret import Secret

_TOKEN = re.compile(r"[!-~]{8,512}", re.ASCII)
_ACCOUNT = re.compile(r"[0-9a-fA-F]{32}", re.ASCII)


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
        if not isinstance(backend, WorkersAIBackend):
            continue
        missing = []
        for key, what, shape, source in (
            ("token", "token", _TOKEN, backend.token),
            ("account_id", "account id", _ACCOUNT, backend.account_id),
        ):
            path: KeyPath = ("backends", name, key)
            value = source if isinstance(source, str) else _look_up(source, path, around, problems)
            if value is None and isinstance(source, SecretSource):
                missing.append((what, source))
            elif value is not None and shape.fullmatch(value):
                found[f"{name}.{key}"] = Secret(value)
            else:
                problems.add(
                    path, f"what was found there does not look like a Cloudflare {what}: {_shape(key)}"
                )
        if missing:
            off[name] = _off(missing)
    return found, off


def _shape(key: str) -> str:
    """How the secret should look, said without showing it."""
    if key == "token":
        return "8 to 512 printable ASCII characters, no white space inside"
    return "32 hexadecimal digits"


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
