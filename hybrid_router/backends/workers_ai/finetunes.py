"""The account's LoRA fine-tunes: listed, made, and given their two files.

Source: Workers AI's documentation of fine-tunes; the limits are the largest that it names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
from msgspec import Struct

from hybrid_router.backends.errand import Errand, Unreadable
from hybrid_router.backends.forms import File, FormBody
from hybrid_router.backends.workers_ai.desk import Desk
from hybrid_router.backends.workers_ai.tasks import results
from hybrid_router.core.upload import Draft, Upload

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"
MOST_BYTES = 500 * 10**6
MOST_RANK = 32
KINDS = ("gemma", "llama", "mistral")
_UPLOAD_S = 900.0
_PIECE_BYTES = 2**20
_LENGTH_BYTES = 8
_MOST_HEADER_BYTES = 100 * 10**6


class NotUploadable(ValueError):
    """A folder that Workers AI would not take, in one sentence."""


class FineTune(Struct, frozen=True, kw_only=True):
    """One fine-tune.  Calls name it by `name` or `id`."""

    id: str
    name: str
    model: str = ""
    description: str | None = None
    public: bool | int | None = None
    created_at: str | None = None


async def listed(desk: Desk, *, public: bool = False) -> list[FineTune]:
    """The account's own, or everybody's."""
    errand = Errand(method="GET", path="finetunes/public" if public else "finetunes")
    return await desk.ask(errand, _several)


async def create(
    desk: Desk, model: str, name: str, *, description: str = "", public: bool = False
) -> FineTune:
    """Make one that has no files yet."""
    fields: dict[str, Any] = {"model": model, "name": name, "public": public}
    if description:
        fields["description"] = description
    errand = Errand(path="finetunes", body=msgspec.json.encode(fields))
    return await desk.ask(errand, lambda body: results.read(body, FineTune, "a fine-tune"))


async def upload(desk: Desk, named: str, files: Sequence[Path]) -> None:
    """Give one its files, as `checked` found them.  They cannot be changed there afterwards."""
    for path in files:
        with _held(path) as held:
            form = FormBody((("file_name", path.name),), (File("file", held, path.name),))
            where = f"finetunes/{quote(named, safe='')}/finetune-assets"
            errand = Errand(path=where, body=form, media_type=form.media_type)
            await desk.ask(errand, _accepted, within_s=_UPLOAD_S)


def checked(folder: Path) -> tuple[Path, Path]:
    """The two files of a folder, which is looked at before anything is sent.

    Raises:
        NotUploadable: Workers AI would refuse them, or could not use them.
    """
    weights, config = folder / WEIGHTS, folder / CONFIG
    missing = [path.name for path in (weights, config) if not path.is_file()]
    if missing:
        raise NotUploadable(f"{folder} lacks {' and '.join(missing)}")
    _check_config(config)
    size_bytes = weights.stat().st_size
    if size_bytes >= MOST_BYTES:
        raise NotUploadable(f"{weights} has {size_bytes} bytes: less than {MOST_BYTES} are taken")
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        begun = file.read(1)
    if begun != b"{" or not 0 < length <= min(size_bytes - _LENGTH_BYTES, _MOST_HEADER_BYTES):
        raise NotUploadable(f"{weights} is no safetensors file")
    return weights, config


def _check_config(path: Path) -> None:
    try:
        found = json.loads(path.read_bytes())
    except ValueError as error:
        raise NotUploadable(f"{path} is no JSON: {error}") from None
    kind, rank = (found.get(key) for key in ("model_type", "r")) if isinstance(found, dict) else (None, None)
    if kind not in KINDS:
        raise NotUploadable(f"{path}: model_type is {kind!r}: write the one of {', '.join(KINDS)} that it is")
    if not isinstance(rank, int) or not 0 < rank <= MOST_RANK:
        raise NotUploadable(f"{path}: r is {rank!r}: ranks of 1 to {MOST_RANK} are taken")


@contextmanager
def _held(path: Path) -> Iterator[Upload]:
    """A file's bytes, for as long as they are sent."""
    draft = Draft(path.name, "application/octet-stream")
    try:
        with path.open("rb") as file:
            while piece := file.read(_PIECE_BYTES):
                draft.write(piece)
        held = draft.done()
    finally:
        draft.close()
    try:
        yield held
    finally:
        held.close()


def _several(body: bytes) -> list[FineTune]:
    """A list, a list in a list, or one alone: the documentation shows each."""
    found = results.read(body, Any, "fine-tunes")
    rows = list(_rows(found))
    try:
        return msgspec.convert(rows, list[FineTune])
    except msgspec.ValidationError as error:
        raise Unreadable("answered without fine-tunes", detail=str(error)) from None


def _rows(found: Any) -> Iterator[Any]:
    if isinstance(found, list):
        for each in found:
            yield from _rows(each)
    elif found:
        yield found


def _accepted(body: bytes) -> None:
    results.read(body, Any, "a word on the file")
