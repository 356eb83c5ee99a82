"""Pulling from a hub: a real little one on loopback, with its files on another host."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from click.testing import CliRunner
from router_process import soon

from hybrid_router.cli.models import command
from hybrid_router.models import manifest, weights
from hybrid_router.models.adding import Chosen
from hybrid_router.models.entry import FileEntry, FolderEntry, HubSource
from hybrid_router.models.errors import ModelFileError
from hybrid_router.models.hub import HubFailed
from hybrid_router.models.pulling import Wanted, pull
from hybrid_router.models.weights import State

COMMIT, OLDER = "c0ffee" + "0" * 34, "0ff1ce" + "0" * 34
TOKEN = "hf_canary"
WANTED = Wanted(repo="little/encoder", pause_s=0.001)
WEIGHTS = os.urandom(300_000)
TOKENIZER = b'{"tokens": []}'
ENCODER = {
    "config.json": b'{"architectures": ["BertModel"]}',
    "modules.json": b'[{"type": "sentence_transformers.models.Transformer"}]',
    "1_Pooling/config.json": b"{}",
    "model.safetensors": WEIGHTS,
    "pytorch_model.bin": b"a pickle",
    "README.md": b"# no",
    ".gitattributes": b"*",
}


def git_name(content: bytes) -> str:
    """What git calls a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


class LittleHub:
    """What the hub's API says, and a second host that has the large files.

    `cut_after`: the file host breaks off there, each time; `swapped`: it has other bytes than were listed;
    `listed_bytes`: what the list says of a large file's size; `stall_after`: the file host says no more after
    that, until its client goes.
    """

    def __init__(self) -> None:
        self.files = dict(ENCODER)
        self.cut_after: list[int] = []
        self.swapped = False
        self.ranges = True
        self.private = False
        self.listed_bytes: int | None = None
        self.stall_after: int | None = None
        self.asked: list[tuple[str, str, str | None]] = []
        self.ranges_asked: list[str | None] = []
        self.front = TestServer(self._front(), host="127.0.0.1")
        self.store = TestServer(self._store(), host="127.0.0.1")

    def environ(self) -> dict[str, str]:
        """Where the hub is, and the token for it."""
        return {"HF_ENDPOINT": str(self.front.make_url("")).rstrip("/"), "HF_TOKEN": TOKEN}

    def _front(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/api/models/{owner}/{name}/revision/{revision}", self._revision)
        app.router.add_get("/api/models/{owner}/{name}/tree/{commit}", self._tree)
        app.router.add_get("/{owner}/{name}/resolve/{commit}/{path:.+}", self._resolve)
        return app

    def _store(self) -> web.Application:
        app = web.Application()
        app.router.add_get("/{path:.+}", self._content)
        return app

    def _note(self, host: str, request: web.Request) -> None:
        self.asked.append((host, request.path, request.headers.get("Authorization")))

    async def _revision(self, request: web.Request) -> web.Response:
        self._note("front", request)
        if self.private and request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return web.Response(status=401)
        known = {"main": COMMIT, COMMIT: COMMIT, "v1": OLDER, OLDER: OLDER}
        commit = known.get(request.match_info["revision"])
        if commit is None or request.match_info["owner"] != "little":
            return web.Response(status=404)
        return web.json_response({"sha": commit, "cardData": {"license": "apache-2.0"}})

    async def _tree(self, request: web.Request) -> web.Response:
        """In pages of three, as a hub with many files does."""
        self._note("front", request)
        listed = [self._listed(path) for path in sorted(self.files)]
        at = int(request.query.get("cursor", 0))
        headers = {}
        if at + 3 < len(listed):
            following = request.url.update_query(cursor=at + 3)
            headers["Link"] = f'<{following}>; rel="next"'
        return web.json_response(listed[at : at + 3], headers=headers)

    def _listed(self, path: str) -> dict[str, object]:
        content = self.files[path]
        entry: dict[str, object] = {
            "type": "file",
            "path": path,
            "size": len(content),
            "oid": git_name(content),
        }
        if path.endswith((".safetensors", ".gguf")):
            size = self.listed_bytes or len(content)
            entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": size, "pointerSize": 134}
        return entry

    async def _resolve(self, request: web.Request) -> web.StreamResponse:
        self._note("front", request)
        path = request.match_info["path"]
        if path.endswith((".safetensors", ".gguf")):
            raise web.HTTPFound(self.store.make_url(f"/{path}?signature=abc%2Bdef"))
        return web.Response(body=self.files[path])

    async def _content(self, request: web.Request) -> web.StreamResponse:
        self._note("store", request)
        assert request.query["signature"] == "abc+def"
        content = self.files[request.match_info["path"]]
        if self.swapped:
            content = bytes(len(content))
        wanted = request.headers.get("Range")
        self.ranges_asked.append(wanted)
        begin = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.ranges else 0
        end = self.cut_after.pop(0) if self.cut_after else len(content)
        reply = web.StreamResponse(status=206 if begin else 200)
        if begin:
            reply.headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        reply.content_length = len(content) - begin
        await reply.prepare(request)
        if self.stall_after is not None:
            await reply.write(content[begin : self.stall_after])
            await asyncio.Event().wait()  # until the server cancels it
        await reply.write(content[begin:end])
        if end < len(content):
            assert request.transport is not None
            request.transport.close()
        return reply


@pytest.fixture
async def hub() -> AsyncIterator[LittleHub]:
    """The hub and its store of files, both listening."""
    hub = LittleHub()
    async with hub.front, hub.store:
        yield hub


@pytest.fixture
def listed(tmp_path: Path) -> Path:
    """An empty manifest in a models folder."""
    path = tmp_path / "models" / "manifest.yaml"
    path.parent.mkdir()
    path.write_text("# mine\nmodels: {}\n")
    return path


def write_manifest(path: Path, text: str) -> None:
    """What its owner writes into it."""
    path.write_text(text)


def quiet(_label: str, _there: int, _of: int) -> None:
    """Nobody watches."""


async def test_a_folder_is_pulled_checked_and_listed(hub: LittleHub, listed: Path) -> None:
    """What engines read is there, verified and listed, pinned to its commit; the rest is left and named."""
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    entry = manifest.read(listed)["encoder"]
    assert entry == added.entry
    assert isinstance(entry, FolderEntry)
    assert entry.files.keys() == {"config.json", "modules.json", "1_Pooling/config.json", "model.safetensors"}
    assert (entry.engine, entry.licence) == ("sentence_transformers", "apache-2.0")
    assert isinstance(entry.source, HubSource)
    assert (entry.source.repo, entry.source.revision) == ("little/encoder", COMMIT)
    assert added.left.keys() == {"pytorch_model.bin", "README.md", ".gitattributes"}
    assert weights.state(entry, listed.parent) is State.PRESENT
    assert sorted(path.name for path in listed.parent.iterdir() if not path.name.startswith(".")) == [
        "encoder",
        "manifest.yaml",
    ]


async def test_the_token_goes_to_the_hub_alone(hub: LittleHub, listed: Path) -> None:
    """Every question to the hub carries it, none to the host that it redirects to."""
    hub.private = True
    await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert {token for host, _, token in hub.asked if host == "front"} == {f"Bearer {TOKEN}"}
    assert {token for host, _, token in hub.asked if host == "store"} == {None}


async def test_one_gguf_of_many_is_chosen_by_pattern(hub: LittleHub, listed: Path) -> None:
    """Without a pattern the choice is named; with one, that file alone is fetched, and is a model."""
    hub.files = {"a-Q4_K_M.gguf": b"GGUF" + WEIGHTS, "a-Q8_0.gguf": b"GGUF8" + WEIGHTS, "README.md": b""}
    with pytest.raises(ModelFileError, match=r"several models.*a-Q4_K_M\.gguf, a-Q8_0\.gguf"):
        await pull(listed, Wanted(repo="little/many"), Chosen(), quiet, hub.environ())

    wanted = Wanted(repo="little/many", patterns=("*Q4*",), revision="v1")
    added = await pull(listed, wanted, Chosen(name="mine"), quiet, hub.environ())

    assert isinstance(added.entry, FileEntry)
    assert added.entry.file == "a-Q4_K_M.gguf"
    assert (listed.parent / "a-Q4_K_M.gguf").read_bytes() == b"GGUF" + WEIGHTS
    assert isinstance(added.entry.source, HubSource)
    assert added.entry.source.revision == OLDER
    assert not (listed.parent / "mine.part").exists()


async def test_a_broken_download_goes_on_where_it_stopped(hub: LittleHub, listed: Path) -> None:
    """Connections that break are taken up again with what is there; no byte is asked for twice."""
    hub.cut_after = [100_000, 200_000]
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert len(hub.ranges_asked) == 3
    assert hub.ranges_asked[0] is None
    begun = [int(str(asked).removeprefix("bytes=").rstrip("-")) for asked in hub.ranges_asked[1:]]
    assert 0 < begun[0] <= 100_000 < begun[1] <= 200_000
    assert weights.state(added.entry, listed.parent) is State.PRESENT


async def test_a_pull_that_gave_up_is_taken_up_by_the_next(hub: LittleHub, listed: Path) -> None:
    """What was fetched is kept as `.part`, the manifest as it was, and the next pull needs the rest alone."""
    hub.cut_after = [100_000] * 7
    with pytest.raises(HubFailed, match=r"broke.*; what was fetched is kept: pull again"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    assert manifest.read(listed) == {}
    [part] = (listed.parent / "encoder.part").glob("model.safetensors.*.part")
    assert 0 < part.stat().st_size <= 100_000

    hub.cut_after, hub.ranges_asked, hub.asked = [], [], []
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert hub.ranges_asked == [f"bytes={100_000}-"]
    assert not any(path.endswith("resolve/config.json") for _, path, _ in hub.asked)
    assert weights.state(added.entry, listed.parent) is State.PRESENT


async def test_a_host_without_ranges_is_begun_anew(hub: LittleHub, listed: Path) -> None:
    """Bytes from the beginning are never put behind those that are there."""
    hub.cut_after, hub.ranges = [100_000], False
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert (listed.parent / added.entry.path / "model.safetensors").read_bytes() == WEIGHTS


async def test_bytes_that_are_not_the_listed_ones_are_never_listed(hub: LittleHub, listed: Path) -> None:
    """A file that changed behind the list is thrown away; everything else is kept for the next pull."""
    hub.swapped = True
    with pytest.raises(HubFailed, match=r"model\.safetensors is not what the hub says"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    assert manifest.read(listed) == {}
    assert (listed.parent / "encoder.part" / "config.json").is_file()
    assert list((listed.parent / "encoder.part").glob("*.part")) == []

    hub.swapped = False
    await pull(listed, WANTED, Chosen(), quiet, hub.environ())


async def test_versions_are_never_mixed(hub: LittleHub, listed: Path) -> None:
    """A file that changes upstream between two pulls is fetched from its beginning."""
    hub.cut_after = [100_000] * 7
    with pytest.raises(HubFailed):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    hub.cut_after, hub.ranges_asked = [], []
    hub.files["model.safetensors"] = newer = os.urandom(200_000)

    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert hub.ranges_asked == [None]
    folder = listed.parent / added.entry.path
    assert (folder / "model.safetensors").read_bytes() == newer
    assert weights.state(added.entry, listed.parent) is State.PRESENT


async def test_a_disk_without_room_is_said_before_a_byte_is_fetched(hub: LittleHub, listed: Path) -> None:
    """A petabyte is refused with both numbers."""
    hub.listed_bytes = 10**15
    with pytest.raises(ModelFileError, match="disk is full") as caught:
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert caught.value.detail.startswith("1000000.0 GB more are needed")
    assert not (listed.parent / "encoder.part").exists()


async def test_a_disk_that_fills_up_keeps_what_is_there(hub: LittleHub, listed: Path) -> None:
    """The error says that the next pull goes on, and the files that were whole stay."""
    folder = listed.parent / "encoder.part"
    folder.mkdir()
    oid = hashlib.sha256(WEIGHTS).hexdigest()
    (folder / f"model.safetensors.{oid[:16]}.part").symlink_to("/dev/full")

    with pytest.raises(ModelFileError, match=r"disk is full.*goes on from there") as caught:
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert os.strerror(errno.ENOSPC) in caught.value.detail
    assert (folder / "config.json").is_file()
    assert manifest.read(listed) == {}

    part = next(folder.glob("model.safetensors.*.part"))
    part.unlink()
    part.write_bytes(WEIGHTS[:70_000])  # what a disk that filled up has
    hub.asked.clear()
    hub.ranges_asked.clear()
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert hub.ranges_asked == ["bytes=70000-"]
    assert not any(path.endswith("resolve/config.json") for _, path, _ in hub.asked)
    assert weights.state(added.entry, listed.parent) is State.PRESENT


@pytest.mark.timeout(90)  # a process of its own, which imports the hub's library
async def test_ctrl_c_keeps_what_is_there(hub: LittleHub, listed: Path) -> None:
    """The command says that it is kept, ends as interrupted, and the next one fetches the rest alone."""
    hub.stall_after = 120_000
    environ = {**os.environ, **hub.environ()}
    arguments = ("-m", "hybrid_router", "models", "--manifest", str(listed), "pull", "little/encoder")
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=environ,
        stderr=asyncio.subprocess.PIPE,
        # A shell lets what it runs in the background ignore it, and its children with it.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )

    def fetched() -> list[Path]:
        parts = (listed.parent / "encoder.part").glob("model.safetensors.*.part")
        return [part for part in parts if part.stat().st_size > 100_000]

    [part] = await soon(fetched, "most of what the hub sends is on the disk")
    process.send_signal(signal.SIGINT)
    _, said = await process.communicate()

    assert process.returncode == 130
    assert said.decode() == "\nstopped; what was fetched is kept: pull again, and it goes on from there\n"
    assert manifest.read(listed) == {}
    there = part.stat().st_size
    assert part.read_bytes() == WEIGHTS[:there]

    hub.stall_after, hub.ranges_asked = None, []
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert hub.ranges_asked == [f"bytes={there}-"]
    assert weights.state(added.entry, listed.parent) is State.PRESENT


async def test_what_cannot_be_listed_is_not_lost(hub: LittleHub, listed: Path) -> None:
    """A manifest that has to be mended first leaves the files to the next pull, which fetches none again."""
    write_manifest(listed, f"models: {{one: {{file: one.gguf, sha256: '{'0' * 64}', size_bytes: 1}}}}\n")
    with pytest.raises(ModelFileError, match="in braces"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    assert not (listed.parent / "encoder").exists()

    write_manifest(listed, "models: {}\n")
    hub.asked.clear()
    added = await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert not any("resolve" in path for _, path, _ in hub.asked)
    assert weights.state(added.entry, listed.parent) is State.PRESENT


async def test_code_is_found_before_the_weights_are_fetched(hub: LittleHub, listed: Path) -> None:
    """A model that wants to bring its own code is refused by its small files."""
    hub.files["config.json"] = json.dumps({"auto_map": {"AutoModel": "x.Y"}}).encode()
    with pytest.raises(ModelFileError, match=r"config\.json has `auto_map`"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert not any(host == "store" for host, _, _ in hub.asked)


async def test_only_pickles_are_refused_before_anything_is_fetched(hub: LittleHub, listed: Path) -> None:
    """Nothing of a repository without safe weights comes onto the disk."""
    hub.files = {"pytorch_model.bin": b"x", "config.json": b"{}"}
    with pytest.raises(ModelFileError, match=r"pytorch_model\.bin: a pickle"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())

    assert not any("resolve" in path for _, path, _ in hub.asked)


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (Wanted(repo="little/../x"), "is no repository"),
        (Wanted(repo="nobody/has"), "the hub has no nobody/has"),
        (Wanted(repo="little/encoder", revision="v9"), "check repository and revision"),
        (
            Wanted(repo="little/encoder", patterns=("*.gguf",)),
            r"no file of little/encoder fits \*\.gguf; there are: \.gitatt",
        ),
    ],
)
async def test_what_there_is_not_is_said(hub: LittleHub, listed: Path, wanted: Wanted, said: str) -> None:
    """A wrong name, revision or pattern each has its own sentence."""
    with pytest.raises(ModelFileError, match=said):
        await pull(listed, wanted, Chosen(), quiet, hub.environ())


async def test_a_private_repository_asks_for_a_token(hub: LittleHub, listed: Path) -> None:
    """Without one, the error names the variable."""
    hub.private = True
    environ = hub.environ()
    del environ["HF_TOKEN"]

    with pytest.raises(HubFailed, match="HF_TOKEN"):
        await pull(listed, WANTED, Chosen(), quiet, environ)


async def test_what_is_listed_already_is_not_fetched_again(hub: LittleHub, listed: Path) -> None:
    """A name that is taken is told before gigabytes are."""
    await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    hub.asked.clear()

    with pytest.raises(ModelFileError, match="has a model 'encoder' already"):
        await pull(listed, WANTED, Chosen(), quiet, hub.environ())
    assert not any("resolve" in path for _, path, _ in hub.asked)


async def test_the_command_pulls(hub: LittleHub, listed: Path) -> None:
    """`models pull` says what it added, for which engine, what it left out, and at which commit."""
    arguments = ["--manifest", str(listed), "pull", "little/encoder", "--name", "mine", "--licence", "MIT"]

    result = await asyncio.to_thread(CliRunner().invoke, command, arguments, env=hub.environ())

    assert result.exit_code == 0, result.output
    assert "mine: added for the engine sentence_transformers" in result.output
    assert "licence MIT" in result.output
    assert "left out: pytorch_model.bin (a pickle)" in result.output
    assert COMMIT in result.output
    assert TOKEN not in result.output


async def test_progress_is_told_up_to_the_end(hub: LittleHub, listed: Path) -> None:
    """Each file's bytes only rise, over a broken connection too, and end at its size."""
    hub.cut_after = [100_000]
    seen: dict[str, list[int]] = {}

    def told(label: str, there: int, _of: int) -> None:
        seen.setdefault(label, []).append(there)

    await pull(listed, WANTED, Chosen(), told, hub.environ())

    assert all(counts == sorted(counts) for counts in seen.values())
    assert seen["model.safetensors"][-1] == len(WEIGHTS)


@pytest.mark.parametrize(
    ("endpoint", "said"),
    [
        ("http://hub.example", "HF_TOKEN is not sent"),
        ("ftp://hub.example", "is no address"),
        ("x", "no address"),
    ],
)
async def test_the_token_is_not_sent_in_the_clear(listed: Path, endpoint: str, said: str) -> None:
    """Only loopback may be asked without TLS by whoever has a token."""
    with pytest.raises(HubFailed, match=said):
        await pull(listed, WANTED, Chosen(), quiet, {"HF_ENDPOINT": endpoint, "HF_TOKEN": TOKEN})
