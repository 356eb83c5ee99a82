"""The servers that the llama part compares: the router with a local model, and llama-server."""

from __future__ import annotations

import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from msgspec import Struct

from bench.llama_asks import body
from bench.llama_client import Server, together
from bench.llama_figures import ROUTER, SERVER
from bench.processes import ROOT, BenchError, Child, free_port, python

WEIGHTS = "smollm2-135m-instruct"
_WORKER = b"hybrid_router.workers.main"
_LOAD_S = 60.0
_FIRST = body("Say hello.", 4)  # it opens the router's model, and touches every page of the weights

_ROUTER_YAML = """
server:
  listen: 127.0.0.1:{port}
manifest: {manifest}
backends:
  local:
    type: local
    models:
      smollm2:
        weights: {weights}
        context: {context}
        parallel: {slots}
        threads: {threads}
        prefix_cache: {{ ram: {kept}, disk: {disk} }}
timeouts: {{ load: 60s, first_token: 10m, between_tokens: 10m, total: 30m }}
aliases:
  default:
    try: local/smollm2
"""


class Setup(Struct, kw_only=True):
    """What a run of the part is asked for.

    Attributes:
        path: the model's file.
        binary: llama-server, if it shall be measured too; `server_arguments`: besides the usual ones.
        tokens_count: of an answer, where a section does not need another length.
        prefix_count: tokens that the calls of the prefix section share.
        long_count: tokens of the prompt that is computed beside running streams.
        pause_s: between the two waves of the prefix section.
        calls_count: of the leak section.
        schemas_count: of the forms section.
    """

    path: Path
    binary: Path | None
    say: Callable[[str], None]
    rounds_count: int = 3
    server_arguments: tuple[str, ...] = ()
    tokens_count: int = 128
    threads: int = 2
    prefix_count: int = 2000
    long_count: int = 4000
    pause_s: float = 5.0
    calls_count: int = 10_000
    schemas_count: int = 500


class Shape(Struct, frozen=True):
    """How large the subjects of a section are.

    Attributes:
        context: tokens of one sequence.
        slots_count: sequences at once.
        kept: the router's store of computed prompts in memory, as router.yaml has it.
    """

    context: int
    slots_count: int
    kept: str = "512MB"


@contextmanager
def servers(setup: Setup, shape: Shape, room: Path | None = None) -> Iterator[dict[str, Server]]:
    """Start both with the model open; only one is asked at a time.

    Args:
        room: where the router keeps its files, prefixes among them; the same again is the same router
            started anew.  None: it keeps nothing on disk.
    """
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        disk = "off" if room is None else "1GB"
        found = {ROUTER: _router(stack, setup, shape, room or Path(folder), disk)}
        if setup.binary is not None:
            found[SERVER] = _llama_server(stack, setup, shape, Path(folder))
        yield found


def _router(stack: ExitStack, setup: Setup, shape: Shape, room: Path, disk: str) -> Server:
    """The real service, with its engine in a child process as always."""
    port, config = free_port(), room / "router.yaml"
    config.write_text(
        _ROUTER_YAML.format(
            port=port,
            manifest=ROOT / "models" / "manifest.yaml",
            weights=WEIGHTS,
            context=shape.context,
            slots=shape.slots_count,
            threads=setup.threads,
            kept=shape.kept,
            disk=disk,
        )
    )
    command = python("hybrid_router", "serve", "--config", config, "--log-format", "json")
    child = _started(stack, command, room / "router.log", port)
    server = Server(ROUTER, f"http://127.0.0.1:{port}", "default", child.pid, child.pid)
    together(server, [_FIRST])
    worker = next((pid for pid in child.pids if _WORKER in _command_line(pid)), None)
    if worker is None:
        raise BenchError("the router answered and has no worker")
    server.pid = worker
    return server


def _llama_server(stack: ExitStack, setup: Setup, shape: Shape, room: Path) -> Server:
    """llama-server with its own defaults, but for what must be equal: context, slots, threads.

    `-c` is of all slots together.
    """
    port = free_port()
    command = [
        str(setup.binary),
        *("-m", str(setup.path), "-c", str(shape.context * shape.slots_count)),
        *("-np", str(shape.slots_count), "-t", str(setup.threads), "-tb", str(setup.threads)),
        *("--host", "127.0.0.1", "--port", str(port), "--no-webui"),
        *setup.server_arguments,
    ]
    child = _started(stack, command, room / "llama-server.log", port)
    server = Server(SERVER, f"http://127.0.0.1:{port}", "any", child.pid, child.pid)
    _wait_until_loaded(server)
    together(server, [_FIRST])
    return server


def _started(stack: ExitStack, command: list[str], log: Path, port: int) -> Child:
    child = stack.enter_context(Child(command, cores=os.sched_getaffinity(0), stderr=log))
    child.wait_for(port)
    return child


def _wait_until_loaded(server: Server) -> None:
    """Wait for a 200: it listens before the model is open."""
    until_s = time.monotonic() + _LOAD_S
    while time.monotonic() < until_s:
        try:
            with urllib.request.urlopen(f"{server.url}/health", timeout=_LOAD_S):  # noqa: S310 - our own
                return
        except urllib.error.HTTPError:
            time.sleep(0.05)
    raise BenchError(f"{server.name} did not load its model within {_LOAD_S:g} s")


def _command_line(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()
