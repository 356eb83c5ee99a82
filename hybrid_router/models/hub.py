"""What a model hub says of a repository, and its files, byte by byte.

Source: the hub's API (`/api/models/{repo}/revision/{revision}`, `/tree/{commit}`, `/resolve/{commit}/{path}`)
as huggingface_hub 2 uses it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from msgspec import Struct
from yarl import URL

from hybrid_router.models.errors import ModelFileError

DEFAULT_HUB = "https://huggingface.co"
_COMMIT = re.compile(r"[0-9a-f]{40}\Z")
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_REPO = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?\Z")
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
_MOST_REDIRECTS = 5
_MOST_PAGES = 100
_ANSWER_BYTES = 32 << 20
_CONNECT_S, _SILENCE_S = 10.0, 60.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class HubFailed(ModelFileError):
    """The hub could not be asked, or said no."""


class HubBroke(HubFailed):
    """A connection broke: asking again may help."""


class Remote(Struct, frozen=True, kw_only=True):
    """One file of a repository.

    `oid`: SHA-256 of a large file (`is_large`); of any other the SHA-1 that git gives it.
    """

    path: str
    size_bytes: int
    oid: str
    is_large: bool


class Repo(Struct, frozen=True, kw_only=True):
    """A repository at one commit."""

    name: str
    commit: str
    licence: str | None
    files: tuple[Remote, ...]


class _Lfs(Struct, frozen=True):
    oid: str
    size: int


class _TreeEntry(Struct, frozen=True):
    type: str
    path: str
    size: int = 0
    oid: str = ""
    lfs: _Lfs | None = None


class Hub:
    """A hub at an address.  The token goes to that address alone, never to where it redirects."""

    def __init__(self, http: aiohttp.ClientSession, address: str, token: str | None) -> None:
        self.address = address.rstrip("/")
        self._origin = URL(self.address).origin()
        self._http = http
        self._token = token

    async def repo(self, name: str, revision: str | None) -> Repo:
        """A repository's files at a revision; the newest without one.

        Raises:
            HubFailed: there is none, it may not be read, or the answer makes no sense.
        """
        if not _REPO.match(name) or ".." in name:
            raise HubFailed(f"{name!r} is no repository: write owner/name")
        wanted = quote(revision or "main", safe="")
        told = await self._json(f"{self.address}/api/models/{name}/revision/{wanted}", name)
        commit = told.get("sha") if isinstance(told, dict) else None
        if not isinstance(commit, str) or not _COMMIT.match(commit):
            raise HubFailed(f"the hub does not say which commit of {name} is meant")
        card = told.get("cardData")
        licence = card.get("license") if isinstance(card, dict) else None
        files = await self._tree(name, commit)
        return Repo(
            name=name,
            commit=commit,
            licence=licence[:100] if isinstance(licence, str) and licence.isprintable() else None,
            files=files,
        )

    async def _tree(self, name: str, commit: str) -> tuple[Remote, ...]:
        url: str | None = f"{self.address}/api/models/{name}/tree/{commit}?recursive=true"
        found: list[Remote] = []
        for _ in range(_MOST_PAGES):
            if url is None:
                return tuple(found)
            async with self._get(url, name) as reply:
                page = await _limited(reply)
                following = reply.links.get("next")
            try:
                entries = msgspec.json.decode(page, type=list[_TreeEntry])
            except msgspec.DecodeError as e:
                raise HubFailed(f"the hub's list of {name} makes no sense", detail=str(e)) from e
            # A name that a terminal would act on is no file that anybody wants.
            found += [
                _remote(entry) for entry in entries if entry.type == "file" and entry.path.isprintable()
            ]
            url = None if following is None else str(following["url"])
        raise HubFailed(f"{name} has too many files")

    async def _json(self, url: str, name: str) -> Any:
        async with self._get(url, name) as reply:
            body = await _limited(reply)
        try:
            return msgspec.json.decode(body)
        except msgspec.DecodeError as e:
            raise HubFailed(f"the hub's answer about {name} makes no sense", detail=str(e)) from e

    @asynccontextmanager
    async def content(
        self, repo: Repo, file: Remote, from_byte: int
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A file's bytes: status 206 from `from_byte` on, or 200 from the beginning."""
        url = f"{self.address}/{repo.name}/resolve/{repo.commit}/{quote(file.path)}"
        headers = {"Accept-Encoding": "identity"}
        if from_byte:
            headers["Range"] = f"bytes={from_byte}-"
        async with self._get(url, f"{repo.name}/{file.path}", headers) as reply:
            yield reply

    @asynccontextmanager
    async def _get(
        self, url: str, name: str, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One answer, redirects followed by hand: each hop decides anew whether it may see the token."""
        here = URL(url, encoded=True)
        try:
            for _ in range(_MOST_REDIRECTS):
                async with self._http.get(
                    here, headers=self._headers(here, headers), allow_redirects=False
                ) as reply:
                    if reply.status in _REDIRECTS and "Location" in reply.headers:
                        here = self._next(here, reply.headers["Location"], name)
                        continue
                    if reply.status >= 400 and reply.status != 416:  # noqa: PLR2004
                        raise _refusal(reply.status, name, has_token=self._token is not None)
                    yield reply
                    return
        except (aiohttp.ClientError, TimeoutError) as e:
            raise HubBroke(
                f"the connection to the hub broke: {type(e).__name__}", detail=f"{here}: {e}"
            ) from e
        raise HubFailed(f"the hub redirects {name} in circles")

    def _headers(self, url: URL, given: Mapping[str, str] | None) -> dict[str, str]:
        headers = dict(given or {})
        if self._token and url.origin() == self._origin:
            headers["Authorization"] = f"Bearer {self._token}"
        return headers

    def _next(self, here: URL, location: str, name: str) -> URL:
        there = here.join(URL(location, encoded=True))
        if there.scheme not in {"https", here.scheme} or not there.host:
            raise HubFailed(f"the hub redirects {name} to an address that is not safe", detail=str(there))
        return there


@asynccontextmanager
async def open_hub(environ: Mapping[str, str]) -> AsyncIterator[Hub]:
    """The hub that `HF_ENDPOINT` names, with the token of `HF_TOKEN`.

    Raises:
        HubFailed: the address is none, or would send the token through a network in the clear.
    """
    address, token = environ.get("HF_ENDPOINT") or DEFAULT_HUB, environ.get("HF_TOKEN") or None
    _check_address(address, has_token=token is not None)
    timeout = aiohttp.ClientTimeout(total=None, connect=_CONNECT_S, sock_read=_SILENCE_S)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Hub(http, address, token)


def _check_address(address: str, *, has_token: bool) -> None:
    url = URL(address)
    if url.scheme not in {"http", "https"} or not url.host:
        raise HubFailed(f"HF_ENDPOINT is no address: {address!r}")
    if has_token and url.scheme == "http" and url.host not in _LOOPBACK:
        raise HubFailed(
            "HF_ENDPOINT is not https, so HF_TOKEN is not sent there: write https://, or unset HF_TOKEN"
        )


def _remote(entry: _TreeEntry) -> Remote:
    if entry.lfs is None:
        return Remote(path=entry.path, size_bytes=entry.size, oid=entry.oid, is_large=False)
    oid = entry.lfs.oid.removeprefix("sha256:")
    if not _DIGEST.match(oid):
        raise HubFailed(f"the hub names no SHA-256 for {entry.path}", detail=oid[:100])
    return Remote(path=entry.path, size_bytes=entry.lfs.size, oid=oid, is_large=True)


async def _limited(reply: aiohttp.ClientResponse) -> bytes:
    """A reply's body, unless it is absurdly long."""
    body = b""
    async for block in reply.content.iter_chunked(1 << 16):
        body += block
        if len(body) > _ANSWER_BYTES:
            raise HubFailed("the hub's answer is too long")
    return body


def _refusal(status: int, name: str, *, has_token: bool) -> HubFailed:
    if status in {401, 403}:
        remedy = "it does not admit this token" if has_token else "give a token in HF_TOKEN"
        return HubFailed(
            f"the hub does not let {name} be read: {remedy}, and accept the model's terms on its page"
        )
    if status == 404:  # noqa: PLR2004
        return HubFailed(
            f"the hub has no {name}: check repository and revision; a private one needs HF_TOKEN"
        )
    kind = HubBroke if status >= 500 or status == 429 else HubFailed  # noqa: PLR2004
    return kind(f"the hub answered {status} about {name}")
