"""Addresses about the account and not about a call: fine-tunes, Markdown, tasks and authors."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from aiohttp import web

from hybrid_router.api.workers_ai.refusal import Refusal, wrapped
from hybrid_router.emulator import incoming, markdown
from hybrid_router.emulator.incoming import File
from hybrid_router.emulator.settings import Account

Authorize = Callable[[web.Request], Account]
Respond = Callable[[web.Request], Awaitable[web.Response]]

_FILE_FIELDS = frozenset({"files", "files[]", "file"})
_PUBLIC_COUNT = 100


def routes(ai: str, authorize: Authorize) -> list[web.RouteDef]:
    """What is below `…/ai`."""
    desk = _Desk(authorize)
    return [
        web.post(ai + "/finetunes", desk.create),
        web.get(ai + "/finetunes", desk.show_own),
        web.get(ai + "/finetunes/public", desk.show_public),
        web.post(ai + "/finetunes/{named}/finetune-assets", desk.add_asset),
        web.post(ai + "/tomarkdown", desk.convert),
        web.get(ai + "/tomarkdown/supported", desk.show_supported),
        web.get(ai + "/tasks/search", desk.show_tasks),
        web.get(ai + "/authors/search", desk.show_authors),
    ]


class _Desk:
    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize

    async def create(self, request: web.Request) -> web.Response:
        """Make a fine-tune that has no files yet."""
        account = self._authorize(request)
        body = (await incoming.read(request)).body or {}
        return _json(wrapped(account.finetunes.create(body).document()))

    async def show_own(self, request: web.Request) -> web.Response:
        """The account's fine-tunes."""
        return _json(wrapped(self._authorize(request).finetunes.own()))

    async def show_public(self, request: web.Request) -> web.Response:
        """Everybody's."""
        finetunes = self._authorize(request).finetunes
        limit, offset = _number(request, "limit", _PUBLIC_COUNT), _number(request, "offset", 0)
        return _json(wrapped(finetunes.public(limit, offset, request.query.get("orderBy", "name"))))

    async def add_asset(self, request: web.Request) -> web.Response:
        """Take one of a fine-tune's two files; the answer has no envelope."""
        account = self._authorize(request)
        read = await incoming.read(request)
        file = next((file for name, file in read.files if name == "file"), None)
        if file is None:
            raise Refusal(3003, "request is missing headers or body: file")
        name = (read.body or {}).get("file_name") or file.name
        account.finetunes.add_asset(request.match_info["named"], str(name), file.content)
        return _json({"success": True})

    async def convert(self, request: web.Request) -> web.Response:
        """Files into Markdown."""
        self._authorize(request)
        read = await incoming.read(request)
        files: list[File] = [file for name, file in read.files if name in _FILE_FIELDS]
        if not files:
            raise Refusal(3003, "request is missing headers or body: files")
        format_ = markdown.format_of(_options(read.body))
        return _json(wrapped([markdown.converted(file, format_) for file in files]))

    async def show_supported(self, request: web.Request) -> web.Response:
        """Which files can be converted."""
        self._authorize(request)
        return _json(wrapped(markdown.supported()))

    async def show_tasks(self, request: web.Request) -> web.Response:
        """Every task that a model has."""
        catalogue = self._authorize(request).catalogue
        names = sorted({model.task for model in catalogue.models})
        rows = [
            {"id": catalogue.tasks.get(name) or _id(name), "name": name, "description": ""} for name in names
        ]
        return _json(wrapped(_matching(rows, request)))

    async def show_authors(self, request: web.Request) -> web.Response:
        """Everybody who made one."""
        catalogue = self._authorize(request).catalogue
        names = sorted({model.id.split("/")[1] for model in catalogue.models})
        return _json(wrapped(_matching([{"id": _id(name), "name": name} for name in names], request)))


def _options(body: dict[str, Any] | None) -> Any:
    """The conversion's options, which come as text.

    Raises:
        Refusal: 5006, they are no JSON.
    """
    try:
        return msgspec.json.decode((body or {}).get("conversionOptions") or "{}")
    except msgspec.DecodeError as error:
        raise Refusal(5006, f"Bad input: Error: '/conversionOptions' is not JSON: {error}") from error


def _matching(rows: list[dict[str, Any]], request: web.Request) -> list[dict[str, Any]]:
    text = request.query.get("search", "").lower()
    return [row for row in rows if text in row["name"].lower()]


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, "")
    return int(text) if text.isdecimal() else default


def _id(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, name))


def _json(document: object) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), content_type="application/json")
