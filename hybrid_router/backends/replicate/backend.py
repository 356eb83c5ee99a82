"""Replicate as a backend: a call is one prediction, or one after the other where it wants several answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, ClassVar

from hybrid_router.backends.declared import Declared
from hybrid_router.backends.errand import Unreadable
from hybrid_router.backends.forms import data_url
from hybrid_router.backends.replicate import inputs, outputs
from hybrid_router.backends.replicate.account import Account
from hybrid_router.backends.replicate.inputs import Wanted
from hybrid_router.backends.replicate.prediction import Prediction
from hybrid_router.backends.replicate.refusal import LABEL, failure
from hybrid_router.backends.replicate.stream import Stream
from hybrid_router.backends.replicate.text import Said
from hybrid_router.backends.tally import parted, total
from hybrid_router.config.cloud_schema import ReplicateBackend, ReplicateModel
from hybrid_router.core.asks import Speech, Transcription
from hybrid_router.core.call import Call, Feature, Operation
from hybrid_router.core.errors import BackendBusy, BackendError, BackendUnavailable, RouterError
from hybrid_router.core.event import Batch, Progress, Usage
from hybrid_router.core.secret import Secret
from hybrid_router.core.step import Step

INLINE_BYTES = 2**18  # a larger file is put there first
FIRST_WAIT_S, LONGEST_WAIT_S, WAIT_GROWTH = 0.2, 2.0, 1.5
BAD_LOOKS_COUNT = 5  # so often in a row a look may fail before the prediction is given up
USAGE_S = 2.0  # the answer is whole: longer nobody waits to hear what it cost
_TEXTS = frozenset({Operation.CHAT, Operation.COMPLETE})
_CAN = frozenset({Feature.IMAGES, Feature.IMAGE_INPUT, Feature.SPEECH_TRANSLATION})
_UNKNOWN = ReplicateModel()


class Replicate(Declared):
    """Runs calls on Replicate."""

    speaks: ClassVar[frozenset[Operation]] = _TEXTS | {
        Operation.EMBED,
        Operation.TRANSCRIBE,
        Operation.SPEAK,
        Operation.IMAGE,
    }

    def __init__(self, name: str, config: ReplicateBackend, token: Secret) -> None:
        super().__init__(name, config)
        self._config = config
        self._account = Account(config.base_url, token)

    def features(self, model: str) -> frozenset[Feature]:
        """What is declared and has an input."""
        return super().features(model) & _CAN

    async def _answer(self, call: Call, step: Step) -> AsyncGenerator[Batch]:
        model = self._config.models.get(step.model, _UNKNOWN)
        told: list[Usage | None] = []
        for wanted in inputs.wanted(call, model, self._config.default_max_tokens):
            counted: Usage | None = None
            async with aclosing(_Run(self._account, call, step, wanted, model).batches()) as batches:
                async for batch in batches:
                    kept, usage = parted(batch)
                    counted = usage or counted
                    if kept:
                        yield kept
            told.append(counted)
        if usage := total(told):
            yield [usage]

    async def close(self) -> None:
        """Close every connection, once what was left is cancelled."""
        await self._account.close()


class _Run:
    """One prediction, from its making to its end."""

    def __init__(
        self, account: Account, call: Call, step: Step, wanted: Wanted, model: ReplicateModel
    ) -> None:
        self._account = account
        self._call = call
        self._step = step
        self._wanted = wanted
        self._model = model
        self._connect_s = step.timeouts.connect_s
        self._file_id = ""

    async def batches(self) -> AsyncGenerator[Batch]:
        """Its events, its usage among them.  Closing the generator cancels the prediction."""
        made: Prediction | None = None
        try:
            fields = await self._fields()
            made = await self._account.made(
                self._step.model,
                inputs.named(fields, self._model),
                stream=self._call.operation in _TEXTS,
                life_s=self._step.timeouts.total_s,
                connect_s=self._connect_s,
            )
            following = self._followed(made)
            async with aclosing(following):
                async for batch, is_last in following:
                    made = None if is_last else made
                    yield batch
        except Unreadable as no:
            raise BackendError(f"{LABEL} {no.why}", detail=self._account.redact(no.detail)) from None
        finally:
            if made is not None and not made.ended:
                self._account.cancel(made.id, self._connect_s)
            if self._file_id:
                self._account.forget(self._file_id, self._connect_s)

    async def _fields(self) -> dict[str, Any]:
        """The inputs, a file among them: in the request if it is small, else put there first."""
        if not self._wanted.upload:
            return self._wanted.fields
        upload = self._call.uploads[0]
        if upload.size_bytes <= INLINE_BYTES:
            where = data_url(upload)
        else:
            self._file_id, where = await self._account.stored(upload, self._connect_s)
        return {**self._wanted.fields, self._wanted.upload: where}

    async def _followed(self, made: Prediction) -> AsyncGenerator[tuple[Batch, bool]]:
        """Batches, each with whether the prediction has ended."""
        texts = self._call.operation in _TEXTS
        if texts and not made.ended and made.urls is not None and made.urls.stream is not None:
            async with aclosing(self._streamed(made.id, made.urls.stream)) as streamed:
                async for each in streamed:
                    yield each
            return
        wait_s, misses_count = FIRST_WAIT_S, 0
        while not made.ended:
            if made.status == "processing":
                yield [Progress(made.share, self._wanted.index)], False
            await asyncio.sleep(wait_s)
            try:
                made, misses_count = await self._account.seen(made.id, self._connect_s), 0
            except (BackendBusy, BackendUnavailable) as error:
                misses_count += 1
                if misses_count == BAD_LOOKS_COUNT:
                    raise
                wait_s = max(wait_s, min(error.retry_after_s or 0.0, LONGEST_WAIT_S))
            wait_s = min(wait_s * WAIT_GROWTH, LONGEST_WAIT_S)
        yield [], True
        if made.status != "succeeded":
            raise failure(made.status, made.error, self._account.redact)
        yield await self._read(made), True

    async def _streamed(self, id_: str, address: str) -> AsyncGenerator[tuple[Batch, bool]]:
        said = self._said()
        stream = Stream(said)
        async with aclosing(self._account.streamed(address, stream, self._connect_s)) as batches:
            async for batch in batches:
                yield batch, False
        if stream.broken is not None:
            raise stream.broken
        if said.met:
            yield said.finish(None), False
            return
        if stream.ended:
            yield [], True
            raise failure("failed", stream.ended, self._account.redact)
        ended = await self._told(id_)
        if ended is not None and ended.ended and ended.status != "succeeded":
            yield [], True
            raise failure(ended.status, ended.error, self._account.redact)
        yield _finished(said, None if ended is None else ended.usage), True

    async def _told(self, id_: str) -> Prediction | None:
        """What the end of a stream leaves out: how many tokens there were."""
        try:
            async with asyncio.timeout(USAGE_S):
                return await self._account.seen(id_, self._connect_s)
        except (RouterError, TimeoutError):
            return None

    def _said(self) -> Said:
        limit = self._wanted.fields.get("max_tokens")
        return Said(self._wanted.index, self._call.sampling.stop, limit if isinstance(limit, int) else None)

    async def _read(self, made: Prediction) -> Batch:
        """What has come out."""
        output, ask, index = made.output, self._call.ask, self._wanted.index
        match self._call.operation:
            case Operation.EMBED:
                return outputs.embedding(output, index)
            case Operation.TRANSCRIBE:
                return outputs.transcript(output, ask.language if isinstance(ask, Transcription) else None)
            case Operation.IMAGE:
                return outputs.picture(await self._file(output), index)
            case Operation.SPEAK:
                wanted = ask.format if isinstance(ask, Speech) else "mp3"
                return outputs.sound(await self._file(output), wanted)
        said = self._said()
        return said.feed(outputs.text(output)) + _finished(said, made.usage)

    async def _file(self, output: Any) -> bytes:
        address = outputs.address(output)
        content = outputs.within(address)
        return await self._account.fetched(address, self._connect_s) if content is None else content


def _finished(said: Said, usage: Usage | None) -> Batch:
    return said.finish(usage) + ([] if usage is None else [usage])
