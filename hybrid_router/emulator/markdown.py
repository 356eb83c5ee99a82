"""Files into Markdown: for real where the standard library can, else a line that says what it was.

Every file gets an answer of its own; one that cannot be read is told beside the others, with status 200.
"""

from __future__ import annotations

import csv
import io
import re
import uuid
import zipfile
import zlib
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import PurePath
from types import MappingProxyType
from typing import Any

from hybrid_router.emulator import tokens
from hybrid_router.emulator.incoming import File
from hybrid_router.emulator.stand_in import DESCRIBED

SUPPORTED: Mapping[str, str] = MappingProxyType({
    ".pdf": "application/pdf",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".svg": "image/svg+xml",
    ".gif": "image/gif",
    ".bmp": "image/bmp",
    ".html": "text/html",
    ".htm": "text/html",
    ".xml": "application/xml",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xlsm": "application/vnd.ms-excel.sheet.macroenabled.12",
    ".xlsb": "application/vnd.ms-excel.sheet.binary.macroenabled.12",
    ".xls": "application/vnd.ms-excel",
    ".et": "application/vnd.ms-excel",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".csv": "text/csv",
    ".numbers": "application/vnd.apple.numbers",
})  # fmt: skip
_FORMATS = ("markdown", "text")
_HEADING = re.compile(r"<h([1-6])\b[^>]*>(.*?)</h\1\s*>", re.IGNORECASE | re.DOTALL)
_HIDDEN = re.compile(r"<(script|style|head)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_BREAK = re.compile(r"</?(p|div|br|li|tr|ul|ol|table|section|article)\b[^>]*>", re.IGNORECASE)
_TAG = re.compile(r"<[^>]*>")
_LINES = re.compile(r"\s*\n\s*")
_WORD_PARAGRAPH = re.compile(r"</(?:w:p|text:p|text:h)>")
_MOST_ROWS = 1000
_MOST_INSIDE_BYTES = 20 * 2**20


class Unreadable(ValueError):
    """A file that is not what its name says."""


def supported() -> list[dict[str, str]]:
    """`GET /tomarkdown/supported`."""
    return [{"extension": ending, "mimeType": kind} for ending, kind in SUPPORTED.items()]


def converted(file: File, format_: str) -> dict[str, Any]:
    """One file's row in the answer."""
    ending = PurePath(file.name).suffix.lower()
    kind = SUPPORTED.get(ending)
    told = {"id": str(uuid.uuid4()), "name": file.name, "mimeType": kind or file.media_type}
    if kind is None:
        return told | {"format": "error", "error": f"unsupported file type: {ending or file.name}"}
    try:
        body = _CONVERSIONS.get(ending, _placeholder)(file.content)
    except Unreadable as error:
        return told | {"format": "error", "error": str(error)}
    text = f"# {file.name}\n\n{body}" if format_ == "markdown" else body
    return told | {"format": format_, "tokens": tokens.count(text), "data": text}


def format_of(options: Any) -> str:
    """`output.format` of the conversion's options; Markdown, if they do not say."""
    output = options.get("output") if isinstance(options, dict) else None
    asked = output.get("format") if isinstance(output, dict) else None
    return asked if asked in _FORMATS else "markdown"


def _html(content: bytes) -> str:
    text = _HIDDEN.sub("", content.decode("utf-8", "replace"))
    text = _HEADING.sub(lambda found: f"\n{'#' * int(found[1])} {found[2]}\n", text)
    text = unescape(_TAG.sub("", _BREAK.sub("\n", text)))
    return _LINES.sub("\n\n", text).strip()


def _xml(content: bytes) -> str:
    return f"```xml\n{content.decode('utf-8', 'replace').strip()}\n```"


def _csv(content: bytes) -> str:
    try:
        rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))[:_MOST_ROWS]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(f"not a CSV file: {error}") from error
    if not rows:
        return ""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _zipped(part: str) -> Callable[[bytes], str]:
    """The text inside a document that is a ZIP of XML."""

    def convert(content: bytes) -> str:
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as archive, archive.open(part) as inside:
                text = inside.read(_MOST_INSIDE_BYTES).decode("utf-8", "replace")
        except (zipfile.BadZipFile, KeyError, NotImplementedError, RuntimeError, zlib.error) as error:
            raise Unreadable(f"no document inside: {error}") from error
        text = unescape(_TAG.sub("", _WORD_PARAGRAPH.sub("\n", text)))
        return _LINES.sub("\n\n", text).strip()

    return convert


def _image(content: bytes) -> str:
    return DESCRIBED


def _placeholder(content: bytes) -> str:
    if not content:
        raise Unreadable("the file is empty")
    return f"An emulated document of {len(content)} bytes."


_CONVERSIONS: Mapping[str, Callable[[bytes], str]] = MappingProxyType({
    ".html": _html,
    ".htm": _html,
    ".xml": _xml,
    ".csv": _csv,
    ".docx": _zipped("word/document.xml"),
    ".odt": _zipped("content.xml"),
    **dict.fromkeys((".jpeg", ".jpg", ".png", ".webp", ".svg", ".gif", ".bmp"), _image),
})  # fmt: skip
