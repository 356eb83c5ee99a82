"""What a reload cannot change: the address, and where state is kept."""

from __future__ import annotations

from msgspec import structs

from hybrid_router.config.listen import is_loopback, parse_listen
from hybrid_router.config.problems import Problem
from hybrid_router.config.schema import Config, Loaded


def bound_to(running: Config, loaded: Loaded) -> Loaded:
    """`loaded`, with what only a restart changes as it is in the running configuration."""
    server = structs.replace(loaded.config.server, listen=running.server.listen)
    store = structs.replace(loaded.config.store, path=running.store.path)
    return structs.replace(loaded, config=structs.replace(loaded.config, server=server, store=store))


def notes(running: Config, config: Config) -> list[str]:
    """What of the new configuration takes effect only after a restart, in sentences."""
    settings = {
        "server.listen": (running.server.listen, config.server.listen),
        "store.path": (running.store.path, config.store.path),
    }
    return [
        f"{key} changed: takes effect after a restart" for key, (old, new) in settings.items() if old != new
    ]


def problem(running: Config, loaded: Loaded) -> Problem | None:
    """Why the new file must not be taken up as long as the old address is listened on."""
    host, _ = parse_listen(running.server.listen)
    if is_loopback(host) or loaded.config.server.keys:
        return None
    line, column = loaded.places.get(("server", "listen"), (1, 1))
    return Problem(
        line,
        column,
        "server.listen",
        f"the router goes on listening on {running.server.listen} until it is restarted, and without "
        "server.keys anybody there could call: restart it, or keep the keys",
    )
