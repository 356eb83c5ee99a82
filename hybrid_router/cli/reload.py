"""`hybrid-router reload`: have the router that runs take up its router.yaml anew."""

from __future__ import annotations

import os
import socket
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import click
import msgspec

from hybrid_router.cli.doubts import doubts
from hybrid_router.cli.room import counted
from hybrid_router.config.load import ConfigErrors, load
from hybrid_router.config.problems import line
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import CONTROL_SOCKET, below, opened, state_folder, usual_state_folder
from hybrid_router.workers.memory import Machine

BAD_CONFIGURATION = 2
_LONGEST_S = 900.0  # a changed model is verified and loaded before the answer comes
_OK, _FORBIDDEN, _ANOTHER, _NOT_TAKEN_UP = 200, 403, 409, 422


@click.command(name="reload")
@click.option(
    "--config",
    "path",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("router.yaml"),
    show_default=True,
    help="The configuration that the router serves.",
)
def command(path: Path) -> None:
    """Have the running router take up router.yaml anew, without losing a call.

    Exits 2 and names what is wrong if the file cannot be used; the router then serves on as before.
    Exits 1 if no router runs with this configuration.
    """
    loaded, mistakes = _loaded(path)
    folders = _state_folders(path, loaded)
    for folder in folders:
        try:
            status, told = _ask(folder, path)
        except (FileNotFoundError, NotADirectoryError, ConnectionRefusedError):
            continue
        except PermissionError:
            raise click.ClickException("only root and the router's own user may reload it") from None
        except (OSError, HTTPException, msgspec.DecodeError) as error:
            raise click.ClickException(f"the router gave no answer ({error}); its log says more") from None
        _report(status, told, path)
        for doubt in doubts(counted(loaded, Machine())) if loaded else ():
            click.echo(f"warning: {line(str(path), doubt)}", err=True)
        return
    if mistakes:
        click.echo(mistakes, err=True)
        raise SystemExit(BAD_CONFIGURATION)
    raise click.ClickException(
        f"no router runs with this configuration: nobody answers on {folders[0] / CONTROL_SOCKET} "
        "(where store.path has changed, restart the router)"
    )


def _loaded(path: Path) -> tuple[Loaded | None, str]:
    """The file as it is read here, or what is wrong with it.

    The router that serves it has the last word on whether it can.
    """
    try:
        return load(path, os.environ), ""
    except ConfigErrors as errors:
        return None, str(errors)


def _state_folders(path: Path, loaded: Loaded | None) -> list[Path]:
    """Where the router's socket may be; a file that cannot be used does not say where its state is."""
    usual = usual_state_folder(path, os.environ)
    return [usual] if loaded is None else list(dict.fromkeys((state_folder(loaded, os.environ), usual)))


class _Connection(HTTPConnection):
    """HTTP over the control socket in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__("router", timeout=_LONGEST_S)
        self._folder = folder

    def connect(self) -> None:
        """Connect."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        with opened(self._folder) as folder:
            self.sock.connect(below(folder, CONTROL_SOCKET))


def _ask(folder: Path, path: Path) -> tuple[int, dict[str, Any]]:
    """The status and document of the router's answer."""
    connection = _Connection(folder)
    try:
        connection.request("POST", "/reload", msgspec.json.encode({"config": str(path.absolute())}))
        reply = connection.getresponse()
        return reply.status, msgspec.json.decode(reply.read(), type=dict[str, Any])
    finally:
        connection.close()


def _report(status: int, told: dict[str, Any], path: Path) -> None:
    """Say what the router said; exit as it means."""
    if status == _OK:
        click.echo(f"reloaded: configuration {told['generation']} serves, after {told['seconds']} s")
        for note in told["notes"]:
            click.echo(f"  {note}")
    elif status == _NOT_TAKEN_UP:
        click.echo("\n".join(told["errors"]), err=True)
        click.echo(f"configuration {told['generation']} serves on as before", err=True)
        raise SystemExit(BAD_CONFIGURATION)
    elif status == _ANOTHER:
        raise click.ClickException(
            f"no router runs with this configuration: the one that shares its folder serves {told['config']}"
        )
    elif status == _FORBIDDEN:
        raise click.ClickException("only root and the router's own user may reload it")
    else:
        raise click.ClickException(f"the router could not be asked for {path}: {told.get('error', status)}")
