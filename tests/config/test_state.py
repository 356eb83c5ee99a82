"""Where state is kept: beside router.yaml, or where systemd says."""

from __future__ import annotations

from pathlib import Path

import pytest

from hybrid_router.config.load import loads
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import state_folder, store_path, usual_state_folder


def loaded(store: str = "") -> Loaded:
    """A configuration at /etc/router/router.yaml."""
    return loads(
        f"backends: {{ local: {{ type: local, models: {{ m: {{}} }} }} }}\n"
        f"aliases: {{ a: {{ try: local/m }} }}\n{store}",
        "/etc/router/router.yaml",
    )


@pytest.mark.parametrize(
    ("store", "environ", "expected"),
    [
        ("", {}, "/etc/router/state/router.sqlite3"),
        ("store: { path: kept.db }", {}, "/etc/router/kept.db"),
        ("store: { path: /srv/kept.db }", {}, "/srv/kept.db"),
        ("", {"STATE_DIRECTORY": "/var/lib/router"}, "/var/lib/router/state/router.sqlite3"),
        ("", {"STATE_DIRECTORY": "/var/lib/router:/var/lib/more"}, "/var/lib/router/state/router.sqlite3"),
        ("store: { path: /srv/kept.db }", {"STATE_DIRECTORY": "/var/lib/router"}, "/srv/kept.db"),
        ("", {"STATE_DIRECTORY": ""}, "/etc/router/state/router.sqlite3"),
        ("", {"STATE_DIRECTORY": "relative"}, "/etc/router/state/router.sqlite3"),
    ],
)
def test_the_store_is_where_the_file_and_systemd_say(
    store: str, environ: dict[str, str], expected: str
) -> None:
    """A relative path is below $STATE_DIRECTORY, or router.yaml's folder; an absolute one stands."""
    assert store_path(loaded(store), environ) == Path(expected)
    assert state_folder(loaded(store), environ) == Path(expected).parent


def test_a_file_that_cannot_be_read_has_its_state_in_the_usual_place() -> None:
    """So a running router is found although its new router.yaml is wrong."""
    assert usual_state_folder(Path("/etc/router/router.yaml"), {}) == state_folder(loaded(), {})
