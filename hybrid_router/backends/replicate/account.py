"""The account's side of Replicate's API: predictions are made, looked at and cancelled, files come and go."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar
from urllib.parse import quote

import msgspec
from yarl import URL

from hybrid_router.backends.errand import Errand, Line, Reader, Unreadable
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.backends.http import Http, redactor, revealed
from hybrid_router.backends.readers import JSON, Whole
from hybrid_router.backends.replicate import prediction
from hybrid_router.backends.replicate.prediction import Prediction
from hybrid_router.backends.replicate.refusal import LABEL, refusal
from hybrid_router.core.errors import BackendError, RouterError
from hybrid_router.core.event import Batch
from hybrid_router.core.secret import Secret
from hybrid_router.core.upload import Upload

T = TypeVar("T")
FILE_HOSTS = ("replicate.delivery", "replicate.com")  # these and what is below them
LEAVING_S = 10.0  # for what is still to be said once nobody waits for the answer
WAIT_S = 5  # so long a new prediction is waited for before it is told of
SHORTEST_LIFE_S = 5


class Words:
    """See `backends.errand.Words`."""

    label = LABEL

    def __init__(self, token: Secret) -> None:
        self._token = token
        self.redact = redactor(token.reveal())

    def headers(self) -> Mapping[str, str]:
        """Credentials."""
        return {"Authorization": f"Bearer {revealed(self._token, self.label)}"}

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """What an error reply means."""
        return refusal(status, headers, body, now=datetime.now(UTC), redact=self.redact)


class FileWords:
    """Of the hosts where files are, who are told nothing of the account."""

    label = LABEL

    def headers(self) -> Mapping[str, str]:
        """None."""
        return {}

    def refusal(self, status: int, headers: Mapping[str, str], body: bytes) -> RouterError:
        """A file that is not there says nothing of the account."""
        return BackendError("Replicate's file could not be fetched", detail=f"status {status}")


class Account:
    """One account.  What is still to be said after a call is said in tasks that `close` waits for."""

    def __init__(self, base_url: str, token: Secret) -> None:
        self._words = Words(token)
        self._home = URL(base_url).origin()
        tls = base_url.startswith("https:")
        self._line = Line(Http(LABEL, self._words.redact, tls=tls), base_url, self._words)
        self._files = Http(LABEL, self._words.redact, tls=tls)
        self._leaving: set[asyncio.Task[None]] = set()
        self.redact = self._words.redact

    async def made(
        self, model: str, inputs: Mapping[str, Any], *, stream: bool, life_s: float, connect_s: float
    ) -> Prediction:
        """A new prediction.  It ends by itself after `life_s`, should nobody be left to cancel it.

        One whose making is given up is cancelled as soon as its id is known.
        """
        making = asyncio.create_task(self._make(model, inputs, stream, life_s, connect_s))
        try:
            return await asyncio.shield(making)
        except asyncio.CancelledError:
            self._leave(self._unmake(making, connect_s))
            raise

    async def _make(
        self, model: str, inputs: Mapping[str, Any], stream: bool, life_s: float, connect_s: float
    ) -> Prediction:
        name, _, version = model.partition(":")
        document = {"input": inputs, **({"stream": True} if stream else {})}
        headers = {"Cancel-After": f"{max(SHORTEST_LIFE_S, math.ceil(life_s))}s"}
        if not stream:
            headers["Prefer"] = f"wait={WAIT_S}"
        path = "predictions" if version else f"models/{quote(name, safe='/')}/predictions"
        body = msgspec.json.encode({"version": version, **document} if version else document)
        return await self._told(Errand(path=path, body=body, headers=headers), prediction.read, connect_s)

    async def _unmake(self, making: asyncio.Task[Prediction], connect_s: float) -> None:
        await self._cancel((await making).id, connect_s)

    async def seen(self, id_: str, connect_s: float) -> Prediction:
        """A prediction as it is now."""
        return await self._told(Errand(path=f"predictions/{id_}", method="GET"), prediction.read, connect_s)

    def cancel(self, id_: str, connect_s: float) -> None:
        """Have a prediction cancelled.  Nobody waits for it."""
        self._leave(self._cancel(id_, connect_s))

    async def _cancel(self, id_: str, connect_s: float) -> None:
        await self._told(Errand(path=f"predictions/{id_}/cancel"), prediction.read, connect_s)

    async def stored(self, upload: Upload, connect_s: float) -> tuple[str, str]:
        """Put a file there; its id and its address."""
        body = FormBody((), [File("content", upload, "upload")])
        errand = Errand(path="files", body=body, media_type=body.media_type)
        return await self._told(errand, _file, connect_s)

    def forget(self, file_id: str, connect_s: float) -> None:
        """Have a file deleted.  Nobody waits for it."""
        self._leave(self._forget(file_id, connect_s))

    async def _forget(self, file_id: str, connect_s: float) -> None:
        await self._told(Errand(path=f"files/{file_id}", method="DELETE"), lambda body: None, connect_s)

    async def fetched(self, address: str, connect_s: float) -> bytes:
        """A file that came out of a model, without any word of the account.

        Raises:
            BackendError: its address is none that files are fetched from.
        """
        url = self._allowed(address)
        line = Line(self._files, str(url.origin()), FileWords())
        errand = Errand(path=url.raw_path.lstrip("/"), query=url.raw_query_string, method="GET")
        return await _whole(line, errand, lambda body: body, connect_s, media_types=("",))

    def streamed(self, address: str, reader: Reader, connect_s: float) -> AsyncGenerator[Batch]:
        """A prediction's stream.  Only the API's own host is given the token.

        Raises:
            BackendError: its address is none that anything is fetched from.
        """
        url = self._allowed(address)
        at_home = url.origin() == self._home
        line = Line(self._files, str(url.origin()), self._words if at_home else FileWords())
        headers = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        path, query = url.raw_path.lstrip("/"), url.raw_query_string
        return line.run(Errand(path=path, query=query, method="GET", headers=headers), reader, connect_s)

    def _allowed(self, address: str) -> URL:
        try:
            url = URL(address)
            allowed = url.origin() == self._home or (url.scheme == "https" and _is_known(url.host or ""))
        except ValueError:
            allowed = False
        if not allowed:
            raise BackendError("Replicate named a file's address that is not its own", detail="not fetched")
        return url

    async def _told(self, errand: Errand, decode: Callable[[bytes], T], connect_s: float) -> T:
        return await _whole(self._line, errand, decode, connect_s)

    def _leave(self, farewell: Any) -> None:
        """Say something in a task of its own; bounded, and what becomes of it is nobody's concern."""

        async def say() -> None:
            with suppress(RouterError, TimeoutError):
                async with asyncio.timeout(LEAVING_S):
                    await farewell

        task = asyncio.create_task(say())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def close(self) -> None:
        """Say what is still to be said, and close every connection."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LEAVING_S)
        await self._line.close()
        await self._files.close()


async def _whole(
    line: Line,
    errand: Errand,
    decode: Callable[[bytes], T],
    connect_s: float,
    media_types: tuple[str, ...] = JSON,
) -> T:
    """A reply that is read once all of it is there."""
    kept: list[T] = []

    def keep(body: bytes) -> Batch:
        kept.append(decode(body))
        return []

    async with aclosing(line.run(errand, Whole(keep, media_types), connect_s)) as batches:
        async for _ in batches:
            pass
    return kept[0]


def _is_known(host: str) -> bool:
    return any(host == known or host.endswith(f".{known}") for known in FILE_HOSTS)


def _file(body: bytes) -> tuple[str, str]:
    """A stored file's id and address."""
    try:
        match msgspec.json.decode(body):
            case {"id": str(id_), "urls": {"get": str(address)}} if id_.replace("-", "").isalnum():
                return id_, address
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    raise Unreadable("sent what is not its format", detail="a stored file")
