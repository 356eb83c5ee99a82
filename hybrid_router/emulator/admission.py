"""Who may be called, how often, and how a source's failure is told: the same for every kind of model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core.errors import BackendBusy, BackendTimeout, CallRefused, RouterError
from hybrid_router.emulator.settings import Account


def model_of(account: Account, model_id: str) -> tuple[Model, Model]:
    """The model asked for, and the one that answers and is charged: an alias may stand in between.

    Raises:
        Refusal: 5007, 5028 or 5035.
    """
    model = account.models.get(model_id)
    kept = account.settings.keep_retired
    if model is None or (model.status == "withdrawn_date_unknown" and not kept):
        raise Refusal(5007, f"No such model {model_id} or task")
    priced = account.models.get(model.aliased_to, model) if model.aliased_to else model
    if priced.status == "deprecated" and not kept:
        instead = f": name {model.successor} in its place" if model.successor else ""
        raise Refusal(5028, f"{model_id} was deprecated on {model.deprecated_on}{instead}")
    if priced.requires_workers_paid and not account.settings.paid:
        raise Refusal(5035, f"{model_id} requires the Workers Paid plan")
    return model, priced


def count(account: Account, model: Model) -> None:
    """Count the call against its minute: of its own, for models with a limit of their own, or its task's.

    Raises:
        Refusal: 3021.
    """
    if not account.settings.rate_limits:
        return
    catalogue = account.catalogue
    own = model.requires_workers_paid or model.id in catalogue.rate_limit_overrides_per_minute
    if not account.ledger.admit(model.id if own else model.task, catalogue.minute_limit(model)):
        raise Refusal(3021)


def check_quota(account: Account) -> None:
    """Let nobody in on a day whose neurons are spent.

    Raises:
        Refusal: the quota's code.
    """
    if account.ledger.spent:
        raise Refusal(account.settings.quota_code)


@asynccontextmanager
async def place(account: Account, *, rejects_if_busy: bool) -> AsyncGenerator[None]:
    """One of the account's places, as soon as one is free.

    Raises:
        Refusal: 3040, none is free and the call does not want to wait.
    """
    if account.places is None:
        yield
        return
    if rejects_if_busy and account.places.locked():
        raise Refusal(3040)
    async with account.places:
        yield


@asynccontextmanager
async def plainly(account: Account) -> AsyncGenerator[None]:
    """Wait for a whole answer; its source's failure is told as the service would.

    Raises:
        Refusal: the source failed, or took too long.
    """
    try:
        async with asyncio.timeout(account.settings.plain_limit_s):
            yield
    except TimeoutError:
        raise Refusal(3046) from None
    except RouterError as error:
        raise refusal(error) from error


def refusal(error: RouterError) -> Refusal:
    """A source's failure as the service would tell it."""
    match error:
        case CallRefused():
            return Refusal(8007, error.message)
        case BackendBusy():
            return Refusal(3040)
        case BackendTimeout():
            return Refusal(3046)
    return Refusal(8005, error.message)
