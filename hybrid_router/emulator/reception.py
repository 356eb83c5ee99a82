"""Every inference call: read it, let it go wrong if it shall, and give it to whoever answers its kind."""

from __future__ import annotations

import base64
from typing import Any

import msgspec
from aiohttp import web
from msgspec.structs import replace

from hybrid_router.api.workers_ai.form import Reply
from hybrid_router.api.workers_ai.refusal import Refusal, body_of, wrapped
from hybrid_router.catalogue.families import Family, family
from hybrid_router.core.call import Operation
from hybrid_router.emulator import admission, incoming, queue, tasks
from hybrid_router.emulator.calls import SeenCall, without_secrets
from hybrid_router.emulator.decision import decided
from hybrid_router.emulator.delivery import Delivery
from hybrid_router.emulator.fault import Fault
from hybrid_router.emulator.incoming import Address, Incoming
from hybrid_router.emulator.inference import Inference, accept
from hybrid_router.emulator.settings import Account
from hybrid_router.emulator.webhooks import Hook, hook_of

_ANSWERED, _QUEUED, _RUNNING = "answered", "queued", "running"
_TRUE = frozenset({"1", "true"})


async def answer(
    account: Account, request: web.Request, seen: SeenCall, model_id: str | None, fault: Fault
) -> web.StreamResponse:
    """Answer one inference call; `model_id` None: the body names it.

    Raises:
        Refusal: the call ends in an error.
    """
    read = await incoming.read(request)
    address = incoming.address_of(request.path)
    takes_hooks = model_id is None and address == "run"
    model_id, read = _named(model_id, read, address)
    options, read = _options(read)
    if options.get("background") is True and not takes_hooks:
        raise Refusal(5006, "Bad input: Error: '/options/background' is for /ai/run without a model")
    hook = hook_of(options)
    seen.model, seen.body = model_id, _shown(read)
    seen.stream = bool((read.body or {}).get("stream"))
    delivery = Delivery(request, fault, seen, account.settings)
    instead = await delivery.instead()
    if instead is not None:
        return instead
    if hook is not None:
        return await delivery.document(_begun(account, model_id, read, hook))
    if address == "run" and read.query.get("queueRequest", "").lower() in _TRUE:
        return await delivery.document(await _queued(account, model_id, read))
    async with admission.place(account, rejects_if_busy=options.get("rejectIfBusy") is True):
        if _writes_text(account, model_id, address):
            asked = accept(account, model_id, _object(read), address)
            return await Inference(account, asked).reply(delivery)
        reply, in_pieces = await _whole(account, model_id, read, address)
        return await delivery.whole(reply.content, reply.media_type, in_pieces=in_pieces)


async def _whole(account: Account, model_id: str, read: Incoming, address: Address) -> tuple[Reply, bool]:
    """An answer that is not of text, and whether its length is known late."""
    if address == "run" and _family(account, model_id) is Family.DECISION:
        return Reply(content=msgspec.json.encode(decided(account, model_id, _object(read)))), False
    with tasks.accepted(account, model_id, read, address) as task:
        in_pieces = task.call.operation is Operation.SPEAK and task.call.stream
        return await tasks.replied(account, task), in_pieces


def _begun(account: Account, model_id: str, read: Incoming, hook: Hook) -> dict[str, Any]:
    """A call that is answered later.

    Raises:
        Refusal: 5007, 5028 or 5035 at once; all else is told later.
    """
    admission.model_of(account, model_id)

    async def work() -> dict[str, Any]:
        async with admission.place(account, rejects_if_busy=False):
            return await _document(account, model_id, read)

    return wrapped(account.webhooks.begin(hook, model_id, work))


async def _document(account: Account, model_id: str, read: Incoming) -> dict[str, Any]:
    """A whole answer in its envelope; a file as base64."""
    if _writes_text(account, model_id, "run"):
        return await Inference(account, accept(account, model_id, _object(read), "run")).whole()
    reply, _ = await _whole(account, model_id, read, "run")
    if reply.media_type != "application/json":
        return wrapped({"contentType": reply.media_type, "body": base64.b64encode(reply.content).decode()})
    return msgspec.json.decode(reply.content, type=dict[str, Any])


async def _queued(account: Account, model_id: str, read: Incoming) -> dict[str, Any]:
    """A batch that comes in, or what has become of one.

    Raises:
        Refusal: 3006 too large, 5006 the model takes none, or there is no such batch.
    """
    model, _ = admission.model_of(account, model_id)
    body = _object(read)
    if not model.async_batch:
        raise Refusal(5006, f"Bad input: Error: {model_id} takes no asynchronous batches")
    if "request_id" not in body:
        if len(msgspec.json.encode(body)) > queue.MOST_BYTES:
            raise Refusal(3006)
        return wrapped(queue.waiting(account.queue.add(model_id, body.get("requests")), _QUEUED))
    job = account.queue.find(body["request_id"], model_id)
    if job.polls_left > 0:
        job.polls_left -= 1
        return wrapped(queue.waiting(job, _RUNNING if job.polls_left == 0 else _QUEUED))
    async with job.turn:
        for place in range(len(job.responses), len(job.requests)):
            job.responses.append(await _one(account, job, place))
    return wrapped({"responses": job.responses, "usage": _summed(job.responses)})


async def _one(account: Account, job: queue.Job, place: int) -> dict[str, Any]:
    """The answer to one input of a batch, or why it has none."""
    body = dict(job.requests[place])
    told = {"id": place, "external_reference": body.pop("external_reference", None)}
    try:
        document = await _document(account, job.model, Incoming(body=body))
    except Refusal as refusal:
        return told | {"result": {}, "success": False, "errors": body_of(refusal)["errors"]}
    return told | {"result": document["result"], "success": True}


def _summed(responses: list[dict[str, Any]]) -> dict[str, int]:
    """Token counts of all answers that tell theirs."""
    usages = [each["result"].get("usage") or {} for each in responses if isinstance(each["result"], dict)]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    return {name: sum(int(usage.get(name, 0)) for usage in usages) for name in names}


def _family(account: Account, model_id: str) -> Family | None:
    model = account.models.get(model_id)
    return None if model is None else family(model)


def _writes_text(account: Account, model_id: str, address: Address) -> bool:
    """Whether the script answers; of a model that nobody knows, it says so."""
    known = _family(account, model_id)
    if address == "responses" and known is not Family.BY_INPUT:
        raise Refusal(5007, f"No such model {model_id} or task")
    return address != "embeddings" and (known is None or known in tasks.TEXTS or address == "chat")


def _named(model_id: str | None, read: Incoming, address: Address) -> tuple[str, Incoming]:
    """The model and its own input, where the body names both."""
    if model_id is not None:
        return model_id, read
    body = read.body or {}
    named = body.get("model")
    if not isinstance(named, str):
        raise Refusal(5006, "Bad input: Error: required properties at '/' are 'model'")
    if address != "run":
        return named, read
    given = body.get("input")
    if not isinstance(given, dict):
        raise Refusal(5006, "Bad input: Error: Type mismatch of '/input', 'object' expected")
    return named, replace(read, body=given | ({"options": body["options"]} if "options" in body else {}))


def _options(read: Incoming) -> tuple[dict[str, Any], Incoming]:
    """What the body says about the call itself."""
    options = (read.body or {}).get("options")
    if not isinstance(options, dict):
        return {}, read
    body = {name: value for name, value in (read.body or {}).items() if name != "options"}
    return options, replace(read, body=body)


def _object(read: Incoming) -> dict[str, Any]:
    """The JSON object that a text model takes.

    Raises:
        Refusal: 5006, the body is bytes.
    """
    return read.body if read.body is not None else incoming.json_object(read.content)


def _shown(read: Incoming) -> Any:
    """The body as the list of calls keeps it; of bytes, how many there were."""
    if read.body is None:
        return {"media_type": read.media_type, "size_bytes": len(read.content)}
    files = {name: {"name": file.name, "size_bytes": len(file.content)} for name, file in read.files}
    return without_secrets(read.body | files)
