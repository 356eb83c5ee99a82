"""What a reload leaves as it is."""

from __future__ import annotations

from hybrid_router.config import restart
from hybrid_router.config.load import loads
from hybrid_router.config.schema import Loaded

KEYS = "keys: [{ name: laptop, sha256: " + "0" * 64 + " }]"


def loaded(server: str = "", store: str = "") -> Loaded:
    """A configuration with these settings."""
    return loads(
        "backends: { local: { type: local, models: { m: {} } } }\n"
        "aliases: { a: { try: local/m } }\n"
        f"server: {{ {server} }}\nstore: {{ {store} }}"
    )


def test_the_address_and_the_store_need_a_restart() -> None:
    """Each is named; what runs on keeps the old value, and the new one of everything else."""
    running = loaded("listen: '127.0.0.1:1', drain: 1s").config
    new = loaded("listen: '127.0.0.1:2', drain: 2s", "path: other.db, keep_days: 3")

    assert restart.notes(running, new.config) == [
        "server.listen changed: takes effect after a restart",
        "store.path changed: takes effect after a restart",
    ]
    taken_up = restart.bound_to(running, new).config
    assert (taken_up.server.listen, taken_up.server.drain) == ("127.0.0.1:1", 2.0)
    assert (taken_up.store.path, taken_up.store.keep_days) == (running.store.path, 3)


def test_what_is_the_same_is_not_named() -> None:
    """Other settings are applied without a word."""
    assert restart.notes(loaded("drain: 1s").config, loaded("drain: 2s").config) == []


def test_an_open_door_keeps_its_lock() -> None:
    """A file without keys is valid for loopback, and is refused as long as others reach the old address."""
    wide, narrow = loaded(f"listen: '0.0.0.0:1', {KEYS}").config, loaded("listen: '127.0.0.1:1'")
    found = restart.problem(wide, narrow)

    assert found is not None
    assert (found.line, found.path) == (3, "server.listen")
    assert "server.keys" in found.message
    assert restart.problem(wide, loaded(f"listen: '127.0.0.1:1', {KEYS}")) is None
    assert restart.problem(narrow.config, narrow) is None


def test_the_default_address_has_no_line() -> None:
    """Where the new file does not name an address, its beginning is pointed at."""
    found = restart.problem(loaded(f"listen: '0.0.0.0:1', {KEYS}").config, loaded())

    assert found is not None
    assert (found.line, found.column) == (1, 1)
