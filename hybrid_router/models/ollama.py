"""An Ollama store: manifests that name blobs by SHA-256."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct, field

from hybrid_router.models import adding
from hybrid_router.models.adding import Added, Chosen
from hybrid_router.models.entry import FileEntry, OllamaSource
from hybrid_router.models.errors import FileChanged, ModelFileError
from hybrid_router.models.weights import Progress

_KIND = "application/vnd.ollama.image."
_REGISTRY, _LIBRARY, _TAG = "registry.ollama.ai", "library", "latest"
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._:-]*\Z")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})\Z")
_MANIFEST_BYTES = 1 << 20
_TEXT_BYTES = 1 << 16
_MOST_PARTS = 3  # host, owner and name


class _Layer(Struct, frozen=True):
    digest: str
    mediaType: str = ""  # noqa: N815  # the store's spelling
    size: int = 0


class _Manifest(Struct, frozen=True):
    layers: list[_Layer] = field(default_factory=list)


def default_store(environ: Mapping[str, str]) -> Path:
    """Where Ollama keeps models: `OLLAMA_MODELS`, else below the home folder."""
    written = environ.get("OLLAMA_MODELS")
    return Path(written) if written else Path.home() / ".ollama" / "models"


def add(
    manifest_path: Path, store: Path, wanted: str, chosen: Chosen, progress: Progress | None = None
) -> tuple[Added, ...]:
    """Link the model `name[:tag]`, and its projector where it has one, into the models folder.

    Raises:
        ModelFileError: there is none, the store is damaged, or nothing can be written.
    """
    parts, tag = _parsed(wanted)
    layers = _layers(store, parts, tag, wanted)
    if "model" not in layers:
        raise ModelFileError(f"{wanted} of the Ollama store has no model layer")
    base = chosen.name or f"{parts[-1]}-{tag}"
    chosen = msgspec.structs.replace(chosen, licence=chosen.licence or _licence(store, layers))
    added = [_blob(manifest_path, store, layers["model"], base, (wanted, chosen, progress))]
    if "projector" in layers:
        name = f"{base}-projector"
        added.append(_blob(manifest_path, store, layers["projector"], name, (wanted, chosen, progress)))
    return (msgspec.structs.replace(added[0], notes=_notes(store, layers)), *added[1:])


def _parsed(wanted: str) -> tuple[tuple[str, str, str], str]:
    """Host, owner and name; and the tag."""
    path, colon, tag = wanted.rpartition(":")
    if not colon or "/" in tag:
        path, tag = wanted, _TAG
    parts = path.split("/")
    if len(parts) > _MOST_PARTS or not all(_WORD.match(part) for part in (*parts, tag)):
        raise ModelFileError(f"{wanted!r} is no model of Ollama: write name, name:tag or owner/name:tag")
    host, owner, name = (_REGISTRY, _LIBRARY, "")[: _MOST_PARTS - len(parts)] + tuple(parts)
    return (host, owner, name), tag


def _layers(store: Path, parts: tuple[str, str, str], tag: str, wanted: str) -> dict[str, _Layer]:
    path = store.joinpath("manifests", *parts, tag)
    try:
        if path.stat().st_size > _MANIFEST_BYTES:
            raise ModelFileError(
                f"the manifest of {wanted} in the Ollama store is too large", detail=str(path)
            )
        layers = msgspec.json.decode(path.read_bytes(), type=_Manifest).layers
    except OSError as e:
        raise ModelFileError(
            f"the Ollama store has no {wanted}: `ollama pull {wanted}`, or say where it is (--store)",
            detail=f"{path}: {e.strerror}",
        ) from e
    except msgspec.DecodeError as e:
        raise ModelFileError(
            f"the manifest of {wanted} in the Ollama store is damaged", detail=f"{path}: {e}"
        ) from e
    found: dict[str, _Layer] = {}
    for layer in layers:
        found.setdefault(layer.mediaType.removeprefix(_KIND), layer)
    return found


def _path(store: Path, layer: _Layer) -> Path:
    named = _DIGEST.match(layer.digest)
    if named is None:
        raise ModelFileError("the Ollama store names a blob that is none", detail=layer.digest)
    return store / "blobs" / f"sha256-{named[1]}"


def _blob(
    manifest_path: Path, store: Path, layer: _Layer, name: str, rest: tuple[str, Chosen, Progress | None]
) -> Added:
    wanted, chosen, progress = rest
    origin = _path(store, layer)
    if not origin.is_file():
        raise ModelFileError(
            f"the Ollama store lacks a blob of {wanted}: `ollama pull {wanted}`", detail=str(origin)
        )
    named = msgspec.structs.replace(chosen, name=name)

    def check(entry: FileEntry) -> None:
        if entry.sha256 != layer.digest.removeprefix("sha256:"):
            raise FileChanged(
                f"a blob of {wanted} in the Ollama store is damaged: `ollama pull {wanted}`",
                detail=f"{origin} has sha256 {entry.sha256}",
            )

    return adding.add_file(
        manifest_path,
        origin,
        named,
        source=OllamaSource(ollama=wanted),
        file_name=f"{adding.plain_name(name.replace(':', '-'))}.gguf",
        progress=progress,
        check=check,
    )


def _text(store: Path, layer: _Layer | None) -> str:
    if layer is None:
        return ""
    try:
        with _path(store, layer).open("rb") as file:
            return file.read(_TEXT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


def _licence(store: Path, layers: dict[str, _Layer]) -> str | None:
    """The first line of the licence's text."""
    lines = [line.strip() for line in _text(store, layers.get("license")).splitlines() if line.strip()]
    return "".join(c for c in lines[0] if c.isprintable())[:100] if lines else None


def _notes(store: Path, layers: dict[str, _Layer]) -> tuple[str, ...]:
    """What Ollama would do with the model and this router does not."""
    notes = []
    if "template" in layers:
        notes.append("Ollama's own template is not used: the one inside the GGUF is")
    for kind, what in (("params", "parameters"), ("system", "system prompt")):
        text = " ".join(_text(store, layers.get(kind)).split())
        if text:
            shown = "".join(c for c in text if c.isprintable())[:300]
            notes.append(f"Ollama's {what}, for calls that want them: {shown}")
    if "adapter" in layers:
        notes.append("its adapter is not taken: add the file and name it under `adapters` in router.yaml")
    return tuple(notes)
