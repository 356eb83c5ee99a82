"""Backends that are made anew, and those that are taken over."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec import structs

from hybrid_router.app import model_files
from hybrid_router.app.backends import close, open_backends
from hybrid_router.catalogue import refresh
from hybrid_router.catalogue.workers_ai import load
from hybrid_router.config.load import loads
from hybrid_router.config.local_schema import EncoderModel, LlamaModel, PainterModel
from hybrid_router.config.schema import Loaded
from hybrid_router.config.state import state_folder
from hybrid_router.core.backend import GENERATES
from hybrid_router.core.call import Operation
from hybrid_router.core.errors import Inexpressible
from hybrid_router.engines.settings import AdapterFile, Drafting, Keeping, LlamaSettings, Offload
from hybrid_router.models.stamps import STAMPS_FILE
from hybrid_router.observe.logs import Logs, LogSettings

SIZE_BYTES = 8 * 2**20


@pytest.fixture
def logs() -> Iterator[Logs]:
    """A log that nobody reads."""
    with Logs(LogSettings(format="json"), os.open(os.devnull, os.O_WRONLY)) as opened:
        yield opened


@pytest.fixture
def loaded(tmp_path: Path) -> Loaded:
    """A local model that is not loaded before it is called, in a folder where no stamp can be written."""
    content = os.urandom(1024) * (SIZE_BYTES // 1024)
    (tmp_path / "m.gguf").write_bytes(content)
    (tmp_path / STAMPS_FILE).mkdir()
    digest = hashlib.sha256(content).hexdigest()
    (tmp_path / "manifest.yaml").write_text(
        f"models: {{ m: {{ file: m.gguf, sha256: {digest}, size_bytes: {SIZE_BYTES} }} }}\n"
    )
    return loads(
        "manifest: manifest.yaml\n"
        "backends: { local: { type: local, models: { m: { preload: false } } } }\n"
        "aliases: { it: { try: local/m } }\n",
        str(tmp_path / "router.yaml"),
    )


def read_bytes() -> int:
    """How much this process has read so far."""
    return int(Path("/proc/self/io").read_text().split()[1])


async def test_a_file_is_read_once(loaded: Loaded, logs: Logs) -> None:
    """A model that did not change costs a reload no reading, even where its stamp cannot be kept."""
    before = read_bytes()
    first = await open_backends(loaded, logs)
    assert first.by_name["local"].down("m") is None
    assert read_bytes() - before >= SIZE_BYTES
    before = read_bytes()
    again = await open_backends(loaded, logs, first)
    third = await open_backends(loaded, logs, again)

    assert read_bytes() - before < SIZE_BYTES
    assert third.by_name["local"] is first.by_name["local"]
    assert third.without([first]) == []
    await close(first.parts.values())


async def test_a_file_that_was_touched_is_read_again(loaded: Loaded, logs: Logs, tmp_path: Path) -> None:
    """What is no longer what the manifest names is not served, and its worker is not taken over."""
    first = await open_backends(loaded, logs)
    with (tmp_path / "m.gguf").open("r+b") as file:
        file.write(b"other")
    again = await open_backends(loaded, logs, first)

    assert "is not the one" in (again.by_name["local"].down("m") or "")
    assert again.unusable.keys() == {"local/m"}
    assert again.workers == {}
    assert len(first.without([again])) == 1
    await close(first.parts.values())


@pytest.fixture
def ears(tmp_path: Path) -> Loaded:
    """A model that is a folder of two files."""
    files = {"config.json": b"{}", "sub/model.bin": b"weights"}
    listed = []
    for name, content in files.items():
        path = tmp_path / "ears" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        listed.append(f"{name}: {{ sha256: {digest}, size_bytes: {len(content)} }}")
    (tmp_path / "manifest.yaml").write_text(
        f"models: {{ ears: {{ folder: ears, engine: whisper, files: {{ {', '.join(listed)} }} }} }}\n"
    )
    return loads(
        "manifest: manifest.yaml\n"
        "backends: { local: { type: local, models: { ears: { engine: whisper, preload: false } } } }\n"
        "aliases: { it: { try: local/ears } }\n",
        str(tmp_path / "router.yaml"),
    )


async def test_a_folder_is_opened_as_one_model(ears: Loaded, logs: Logs, tmp_path: Path) -> None:
    """Its engine gets the folder and the digest of its list; a file that was put anew makes a new worker."""
    first = await open_backends(ears, logs)
    again = await open_backends(ears, logs, first)
    settings = first.workers["local/ears"]._settings
    assert settings.path == str(tmp_path / "ears")
    assert len(settings.sha256) == 64
    assert again.workers == first.workers

    weights = tmp_path / "ears" / "sub" / "model.bin"
    weights.rename(tmp_path / "old")
    weights.write_bytes(b"weights")
    anew = await open_backends(ears, logs, again)
    assert anew.workers["local/ears"] is not first.workers["local/ears"]

    (tmp_path / "ears" / "model.py").write_text("import os")
    refused = await open_backends(ears, logs, anew)
    assert "model.py" in refused.unusable["local/ears"]
    for opened in (first, anew):
        await close(opened.parts.values())


async def test_all_that_is_written_of_a_model_reaches_its_engine(logs: Logs, tmp_path: Path) -> None:
    """Files by their verified paths, sizes in bytes, and what is left to the engine as None."""
    manifest = "models:\n"
    for name in ("m", "lora", "eyes", "small"):
        content = name.encode() * 64
        (tmp_path / f"{name}.gguf").write_bytes(content)
        digest = hashlib.sha256(content).hexdigest()
        manifest += f"  {name}: {{ file: {name}.gguf, sha256: {digest}, size_bytes: {len(content)} }}\n"
    (tmp_path / "manifest.yaml").write_text(manifest)
    written = """\
manifest: manifest.yaml
backends:
  local:
    type: local
    models:
      plain: { weights: m, preload: false, threads: 3 }
      full:
        weights: m
        preload: false
        threads: 2
        parallel: 3
        gpu_layers: -1
        split_mode: row
        main_gpu: 1
        tensor_split: [3, 1]
        flash_attention: on
        cache_type_k: q8_0
        cache_type_v: q4_0
        prefix_cache: { ram: 1GiB, disk: 2GiB, share_prefix: everyone }
        drafting: { tokens: 5, weights: small }
        adapters: { sql: { weights: lora, scale: 0.5 } }
        projector: eyes
      vectors: { weights: m, preload: false, purpose: embed, prefix_cache: { ram: off } }
      deaf: { weights: m, preload: false, projector: ears }
aliases: { it: { try: local/full } }
"""
    loaded = loads(written, str(tmp_path / "router.yaml"))
    opened = await open_backends(loaded, logs, environ={"STATE_DIRECTORY": "/var/lib/router"})
    made = {name: worker._settings for name, worker in opened.workers.items()}

    digest = hashlib.sha256(b"m" * 64).hexdigest()
    assert made["local/full"] == LlamaSettings(
        path=str(tmp_path / "m.gguf"),
        context=None,
        parallel=3,
        threads=2,
        prefill_chunk=256,
        sha256=digest,
        offload=Offload(layers=-1, split="row", main=1, shares=(3.0, 1.0)),
        flash_attention="on",
        key_type="q8_0",
        value_type="q4_0",
        keeping=Keeping(
            ram_bytes=2**30, folder="/var/lib/router/state/prefixes", disk_bytes=2**31, everyone=True
        ),
        drafting=Drafting(most_tokens=5, model_path=str(tmp_path / "small.gguf")),
        adapters=(AdapterFile("sql", str(tmp_path / "lora.gguf"), 0.5),),
        projector_path=str(tmp_path / "eyes.gguf"),
    )
    plain = made["local/plain"]
    assert isinstance(plain, LlamaSettings)
    assert (plain.parallel, plain.offload.layers, plain.keeping) == (None, None, Keeping())
    vectors = made["local/vectors"]
    assert isinstance(vectors, LlamaSettings)
    assert (vectors.purpose, vectors.keeping.ram_bytes) == ("embed", 0)
    assert "'ears'" in opened.unusable["local/deaf"]
    await close(opened.parts.values())


async def test_a_model_whose_adapter_was_touched_is_opened_anew(logs: Logs, tmp_path: Path) -> None:
    """Its worker is not taken over: another file lies beside the weights now."""
    for name in ("m", "lora"):
        (tmp_path / f"{name}.gguf").write_bytes(b"x" * 64)
    digest = hashlib.sha256(b"x" * 64).hexdigest()
    (tmp_path / "manifest.yaml").write_text(
        "models:\n"
        + "".join(
            f"  {name}: {{ file: {name}.gguf, sha256: {digest}, size_bytes: 64 }}\n" for name in ("m", "lora")
        )
    )
    loaded = loads(
        "manifest: manifest.yaml\n"
        "backends: {local: {type: local, models: {m: {preload: false, adapters: {sql: lora}}}}}\n"
        "aliases: {it: {try: local/m}}\n",
        str(tmp_path / "router.yaml"),
    )
    first = await open_backends(loaded, logs)
    again = await open_backends(loaded, logs, first)
    os.utime(tmp_path / "lora.gguf", ns=(1, 1))
    touched = await open_backends(loaded, logs, again)

    assert again.workers["local/m"] is first.workers["local/m"]
    assert touched.workers["local/m"] is not first.workers["local/m"]
    await close({**first.parts, **touched.parts}.values())


def test_a_models_terms_know_what_could_be_lowered() -> None:
    """Only keys that its engine has, so that nobody is told to write one that is refused."""
    assert model_files.terms(LlamaModel()).sizes == ("context", "parallel")
    assert model_files.terms(EncoderModel()).sizes == ("context",)
    assert model_files.terms(PainterModel()).sizes == ()


def test_a_path_is_told_without_detours(tmp_path: Path) -> None:
    """As the log names it; what is a link stays one, for its own name says what the file is."""
    (tmp_path / "blob").write_bytes(b"x")
    (tmp_path / "m.gguf").symlink_to("blob")
    (tmp_path / "configs").mkdir()
    files = model_files.ModelFiles(weights=model_files.File(tmp_path / "configs" / ".." / "m.gguf"))

    assert model_files.settings(files, LlamaModel(), None).path == str(tmp_path / "m.gguf")


async def test_a_refreshed_catalogue_is_taken_up_by_a_reload(tmp_path: Path, logs: Logs) -> None:
    """What an account told after the start counts from the next reload on, and only then."""
    environ = {"TOKEN": "canary-token"}
    cloud = loads(
        f"backends: {{ cf: {{ type: workers_ai, account_id: {'a' * 32}, token: {{ env: TOKEN }} }} }}\n"
        "aliases: { it: { try: cf/@cf/new/thing } }\n",
        str(tmp_path / "router.yaml"),
        environ=environ,
    )
    first = await open_backends(cloud, logs, environ=environ)
    first.minutes.of("one").take("@cf/new/thing", 10_000)
    shipped = load()
    bge = shipped.by_id()["@cf/baai/bge-base-en-v1.5"]
    new = structs.replace(bge, id="@cf/new/thing")
    dated = structs.replace(shipped, dated="2999-01-01", models=(*shipped.models, new))
    refresh.write(state_folder(cloud, environ), dated)
    second = await open_backends(cloud, logs, first, environ=environ)
    third = await open_backends(cloud, logs, second, environ=environ)

    assert first.by_name["cf"].operations(new.id) == GENERATES
    assert second.by_name["cf"].operations(new.id) == {Operation.EMBED}
    assert third.by_name["cf"] is second.by_name["cf"]
    assert new.id in first.directory.models  # which the dialects that are spoken here ask
    with pytest.raises(Inexpressible):  # more than its limit of a minute, which was not known either
        first.minutes.of("one").take(new.id, 10_000)
    await close([*first.parts.values(), *second.parts.values()])


async def test_a_catalogue_that_is_refreshed_twice_a_day_counts_both_times(
    tmp_path: Path, logs: Logs
) -> None:
    """What it says decides whether it is another one, not its day."""
    environ = {"TOKEN": "canary-token"}
    cloud = loads(
        f"backends: {{ cf: {{ type: workers_ai, account_id: {'a' * 32}, token: {{ env: TOKEN }} }} }}\n"
        "aliases: { it: { try: cf/@cf/new/thing } }\n",
        str(tmp_path / "router.yaml"),
        environ=environ,
    )
    shipped = load()
    today = structs.replace(shipped, dated="2999-01-01")
    refresh.write(state_folder(cloud, environ), today)
    first = await open_backends(cloud, logs, environ=environ)
    new = structs.replace(shipped.by_id()["@cf/baai/bge-base-en-v1.5"], id="@cf/new/thing")
    refresh.write(state_folder(cloud, environ), structs.replace(today, models=(*shipped.models, new)))
    second = await open_backends(cloud, logs, first, environ=environ)

    assert second.by_name["cf"].operations(new.id) == {Operation.EMBED}
    await close([*first.parts.values(), *second.parts.values()])
