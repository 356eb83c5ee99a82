"""`hybrid-router models refresh --cloud`, asked of the emulated account."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from account_commands import Account, accounted
from msgspec.structs import replace

from hybrid_router.catalogue import refresh
from hybrid_router.catalogue.workers_ai import Catalogue, load

NEW = "@cf/new/thing"
CHECKED = "cf/@cf/meta/llama-3.2-1b-instruct"


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    """One account for all."""
    with accounted(tmp_path_factory.mktemp("account")) as found:
        yield found


def refreshed(account: Account) -> tuple[str, Catalogue]:
    """What the command says, and what it wrote."""
    result = account.command("models", "--config", str(account.config), "refresh", "--cloud")
    assert result.exit_code == 0, result.output
    found = refresh.read(folder(account))
    assert found is not None
    return result.stdout, found


def folder(account: Account) -> Path:
    """Where the router keeps what outlives it."""
    return account.folder / "state"


@pytest.fixture(autouse=True)
def only_what_ships(account: Account) -> None:
    """Each begins with no other table than the one that ships."""
    (folder(account) / refresh.FILE_NAME).unlink(missing_ok=True)


def test_an_account_that_has_what_ships_changes_nothing_but_the_day(account: Account) -> None:
    """Every model, price, flag and schema comes back as it was; ids that were unknown are known now."""
    said, found = refreshed(account)
    shipped = load()

    assert found.dated > shipped.dated
    assert found.attribution == (*shipped.attribution, refresh.ATTRIBUTION)
    ids = {model.id: model.uuid for model in shipped.models}
    assert [replace(model, uuid=ids[model.id]) for model in found.models] == list(shipped.models)
    assert found.schemas == shipped.schemas
    for told in ("new: ", "gone: ", "changed: "):
        assert told not in said


def test_the_router_knows_what_was_refreshed(account: Account) -> None:
    """A model that did not ship is no doubt any more for `check`, and takes the place of nothing."""
    config = account.config.read_text()
    try:
        account.config.write_text(config.replace(CHECKED, f"cf/{NEW}"))
        before = account.command("check", "--config", str(account.config)).stderr
        shipped = load()
        more = replace(shipped.models[0], id=NEW, task="Text Generation", native_result="response")
        refresh.write(folder(account), replace(shipped, dated="2999-01-01", models=(*shipped.models, more)))
        after = account.command("check", "--config", str(account.config)).stderr
        (folder(account) / refresh.FILE_NAME).write_text("{")
        broken = account.command("check", "--config", str(account.config)).stderr
    finally:
        account.config.write_text(config)

    assert f"{NEW} is not among the models of Workers AI" in before
    assert NEW not in after
    assert "cannot be read, so what ships is used" in broken


def test_what_changed_is_said(account: Account) -> None:
    """New ones, those that are gone, and other prices."""
    known = account.running.account.catalogue
    first, second, third, *rest = (model for model in known.models if not model.gone)
    gone = [model for model in known.models if model.gone]
    dearer = replace(second, price=tuple(replace(line, usd=line.usd * 2) for line in second.price))
    assert dearer != second
    more = replace(third, id=NEW)
    try:
        account.running.account.catalogue = replace(known, models=(dearer, third, more, *rest, *gone))
        (folder(account) / refresh.FILE_NAME).unlink(missing_ok=True)
        said, found = refreshed(account)
    finally:
        account.running.account.catalogue = known

    assert f"gone: {first.id}" in said
    assert f"another price: {second.id}" in said
    assert f"new: {NEW} ({third.task})" in said
    assert found.by_id()[NEW].task == third.task
    assert f"{len(known.models) + 1} models" in said


def test_an_account_that_refuses_leaves_the_old_one(account: Account) -> None:
    """Exit 1, what to do, and nothing is written."""
    path = folder(account) / refresh.FILE_NAME
    path.unlink(missing_ok=True)

    result = account.command(
        "models", "--config", str(account.config), "refresh", "--cloud", token="another-token"
    )

    assert result.exit_code == 1
    assert "does not accept the API token" in result.stderr
    assert not path.exists()


def test_what_to_refresh_has_to_be_said(account: Account) -> None:
    """There may be more than the cloud's one day."""
    result = account.command("models", "--config", str(account.config), "refresh")

    assert result.exit_code == 2
    assert "--cloud" in result.stderr
