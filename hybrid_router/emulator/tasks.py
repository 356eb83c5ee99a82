"""Calls of all models but those of text, by the wire form of their family: the router's own codecs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from msgspec import Struct

from hybrid_router.api.workers_ai.form import Form, Given, Reply
from hybrid_router.api.workers_ai.forms.table import FORMS
from hybrid_router.api.workers_ai.refusal import Refusal
from hybrid_router.catalogue import prices
from hybrid_router.catalogue.families import Family, family
from hybrid_router.catalogue.workers_ai import Model
from hybrid_router.core import ids
from hybrid_router.core.call import Call
from hybrid_router.core.errors import CallRefused
from hybrid_router.core.event import Batch
from hybrid_router.core.upload import Upload, upload_of
from hybrid_router.emulator import admission, work
from hybrid_router.emulator.incoming import Address, Incoming
from hybrid_router.emulator.settings import Account

TEXTS = frozenset({Family.CLASSIC, Family.CHAT, Family.EITHER, Family.BY_INPUT, Family.GUARD})
VECTORS = frozenset({Family.VECTORS, Family.VECTORS_M3, Family.VECTORS_QWEN})
_FEW = 16
_TAKE_BYTES = frozenset(
    {Family.SOUND_BYTES, Family.SOUND_NOVA, Family.IMAGE_LABELS, Family.IMAGE_BOXES, Family.DESCRIPTION}
)


class Task(Struct, frozen=True, kw_only=True):
    """A call that was accepted."""

    priced: Model
    form: Form
    given: Given
    call: Call


@contextmanager
def accepted(account: Account, model_id: str, incoming: Incoming, address: Address) -> Iterator[Task]:
    """Check a call in the order in which the service does; its files are gone when the context is left.

    Raises:
        Refusal: 5007, 5028, 5035, 3021, 5006, 5004 or the quota's code.
    """
    model, priced = admission.model_of(account, model_id)
    known = family(model)
    form = FORMS.get(known)
    if form is None or (address != "run" and known not in VECTORS):
        raise Refusal(5007, f"No such model {model_id} or task")
    admission.count(account, priced)
    _check(account, model, known, incoming, address)
    given = _given(model_id, incoming, address)
    call: Call | None = None
    try:
        call = _call(form, given)
        admission.check_quota(account)
        yield Task(priced=priced, form=form, given=given, call=call)
    finally:
        for upload in _files(given, call):
            upload.close()


async def replied(account: Account, task: Task) -> Reply:
    """The whole answer; what it cost is charged however that ends.

    Raises:
        Refusal: the source failed, or took too long.
    """
    events: Batch = []
    try:
        async with admission.plainly(account), aclosing(account.played(task.call)) as batches:
            async for batch in batches:
                events += batch
            return task.form.reply(task.given, task.call, events)
    finally:
        account.ledger.charge(prices.neurons(task.priced.price, work.work_of(task.call, events)))


def _check(account: Account, model: Model, known: Family, incoming: Incoming, address: Address) -> None:
    """The body against the model's schema; bytes have none, and a form's numbers are texts."""
    if incoming.body is None:
        if known not in _TAKE_BYTES:
            raise Refusal(5006, "Bad input: Error: Type mismatch of '/', 'object' expected")
        return
    if known is Family.PICTURE_FORM:
        if not incoming.is_form:
            raise Refusal(5006, "Bad input: Error: required properties at '/' are 'multipart'")
        account.schemas.check_form(model, incoming.body)
    elif address == "run" and known is not Family.SOUND_NOVA:
        account.schemas.check(model, {name: _sampled(value) for name, value in incoming.body.items()})


def _sampled(value: Any) -> Any:
    """A file as a list of integers, cut to a few: looking at each by the schema takes seconds a megabyte."""
    if isinstance(value, list) and len(value) > _FEW and all(type(each) is int for each in value):
        return value[:_FEW]
    return value


def _given(model_id: str, incoming: Incoming, address: Address) -> Given:
    files = {name: upload_of(file.content, file.name, file.media_type) for name, file in incoming.files}
    return Given(
        model=model_id,
        body=incoming.body,
        content=None
        if incoming.body is not None
        else upload_of(incoming.content, media_type=incoming.media_type),
        files=files,
        query=incoming.query,
        openai=address != "run",
    )


def _call(form: Form, given: Given) -> Call:
    """What the input asks.

    Raises:
        Refusal: 5006, or 5004 where base64 is expected.
    """
    try:
        return form.call(given, call_id=ids.new("emu_"), principal="emulator", headers={})
    except CallRefused as error:
        code = 5004 if "base64" in error.message else 5006
        raise Refusal(code, f"Bad input: Error: {error.message}") from error


def _files(given: Given, call: Call | None) -> list[Upload]:
    """Every file of a call once."""
    found: dict[int, Upload] = {}
    both: tuple[Any, ...] = (
        *given.files.values(),
        given.content,
        *(call.uploads if call is not None else ()),
    )
    for upload in both:
        if upload is not None:
            found[upload.fd] = upload
    return list(found.values())
