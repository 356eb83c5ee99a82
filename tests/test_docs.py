"""The documents: they lead where they say, and name what there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from hybrid_router.cli.root import SUMMARIES, main

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "models").glob("*.md")])
LINK = re.compile(r"\]\(([^)\s]+)\)")
# The same for each command that has them.
EVERYWHERE = frozenset({"--config", "--manifest", "--json", "--backend"})
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def anchors(text: str) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(document: Path) -> None:
    """A link inside the repository names a file that is there, and a heading that it has."""
    dead = []
    for link in LINK.findall(FENCE.sub("", document.read_text(encoding="utf-8"))):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = document.parent / path if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            dead.append(link)

    assert dead == []


def test_the_readme_stays_short() -> None:
    """200 lines at most: the rest belongs into docs/."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 200


@pytest.mark.parametrize("name", SUMMARIES)
def test_every_command_is_documented(name: str) -> None:
    """Each command is shown in some document."""
    assert any(f"hybrid-router {name}" in document.read_text(encoding="utf-8") for document in DOCUMENTS)


def commands(command: click.Command, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command below this one, with the words that lead to it."""
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            if (found := command.get_command(click.Context(command), name)) is not None:
                yield from commands(found, *path, name)


def test_every_option_is_documented() -> None:
    """Each option of each command stands in a document that names the command."""
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]
    missing = []
    for path, command in commands(main):
        options = [each for each in command.params if isinstance(each, click.Option)]
        for name in {max(option.opts, key=len) for option in options} - EVERYWHERE:
            named = re.compile(rf"(?<![\w-]){name}(?![\w-])")
            if not any(named.search(text) and "".join(path[-1:]) in text for text in texts):
                missing.append(" ".join((*path, name)))

    assert missing == []


def test_every_log_event_is_documented() -> None:
    """Each event that the composition root or `serve` logs has its row in docs/operations.md."""
    written = [*(ROOT / "hybrid_router" / "app").glob("*.py"), ROOT / "hybrid_router" / "cli" / "serve.py"]
    logged = re.compile(r"logger\.(?:debug|info|warning|error|exception)\(\s*\"([^\"]+)\"")
    events = {event for path in written for event in logged.findall(path.read_text(encoding="utf-8"))}
    told = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")

    assert {"ready", "worker died"} <= events
    assert sorted(event for event in events if f"`{event}`" not in told) == []


def test_every_make_target_is_documented() -> None:
    """Each target that `make help` lists is shown in some document."""
    targets = re.findall(r"^([a-z-]+):.*## ", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    texts = [document.read_text(encoding="utf-8") for document in DOCUMENTS]

    assert "run" in targets
    assert [name for name in targets if not any(f"make {name}" in text for text in texts)] == ["help"]


@pytest.mark.parametrize("lock", sorted(ROOT.glob("requirements*.lock")), ids=lambda path: path.name)
def test_a_lock_names_hashes_and_no_address(lock: Path) -> None:
    """Every locked package has a hash; no lock says where an index is."""
    text = lock.read_text(encoding="utf-8")
    packages = re.findall(r"^[a-z0-9].*?(?=^[a-z0-9#]|\Z)", text, re.MULTILINE | re.DOTALL)

    assert packages
    assert [package.split()[0] for package in packages if "--hash=sha256:" not in package] == []
    assert "://" not in text
