"""The sandbox, around real processes: what a child cannot do, and what it still can."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import hybrid_router
from hybrid_router.engines.settings import (
    AdapterFile,
    ClassifierSettings,
    Drafting,
    EncoderSettings,
    Keeping,
    LlamaSettings,
    Settings,
)
from hybrid_router.workers.environment import child_environment
from hybrid_router.workers.landlock import known_version
from hybrid_router.workers.reach import gpu_devices, model_paths, reach

SYSTEM = ("/etc/shadow", "/etc/hostname", "/var", "/tmp", "/home", "/root")  # noqa: S108 - nothing is written
PROBE = Path(__file__).with_name("sandbox_probe.py")
ANY = ClassifierSettings(path="/nonexistent", threads=3)
REFUSED = {"EACCES", "EPERM"}
landlocked = pytest.mark.skipif(known_version() < 1, reason="the kernel has no Landlock")
without_gpu = pytest.mark.skipif(bool(gpu_devices()), reason="drivers get sockets that connect to nobody")


def tried(what: str, *rest: object, settings: Settings = ANY, environ: dict[str, str] | None = None) -> Any:
    """What a probe met."""
    done = subprocess.run(
        [sys.executable, "-I", str(PROBE), msgspec.json.encode(settings), what, *map(str, rest)],
        capture_output=True,
        timeout=110,
        env=child_environment(environ or os.environ),
        cwd="/",
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@without_gpu
def test_a_child_has_no_network() -> None:
    """No socket of any family and type, no name, no message to somebody else; the pipes it was given work."""
    met = tried("network")

    assert met.pop("lacking") == []
    assert met.pop("pair") == 1
    assert met.pop("io_uring_setup") == "ENOSYS"
    assert met.pop("resolve") == "no such name"
    assert {name: error for name, error in met.items() if error != "EACCES"} == {}
    assert len(met) > 18


def test_a_child_starts_no_program_and_no_process() -> None:
    """Neither by exec nor by fork nor by any library's way to them; threads it may have."""
    met = tried("programs")

    assert met.pop("thread") == "done"
    del met["lacking"]
    assert set(met.values()) <= REFUSED, met


@landlocked
def test_a_child_can_do_nothing_to_the_router() -> None:
    """Not signal, trace, read or limit it, nor outlive it; itself it may end."""
    met = tried("processes", os.getpid())

    assert (met.pop("itself"), met.pop("a thread"), met.pop("lacking")) == ("done", "done", [])
    assert set(met.values()) <= REFUSED, met


def test_a_child_has_no_privileges_and_bounds() -> None:
    """Root's children neither; and where memory is short the kernel takes them before the router."""
    met = tried("state")

    assert (int(met["CapPrm"], 16), int(met["CapEff"], 16)) == (0, 0)
    assert (met["NoNewPrivs"], met["Seccomp"]) == ("1", "2")
    assert met["CORE"] == [0, 0]
    assert met["NOFILE"][1] <= 4096
    assert met["oom"] >= 500
    assert met["home"] is False
    if not gpu_devices():
        assert met["FSIZE"] == [2**24, 2**24]
        assert 0 < met["DATA"][1] <= 2 * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """A home with a key in it, and a models folder beside the key."""
    for folder in (".ssh", "models/enc", "elsewhere", "state"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / ".ssh/id_ed25519").write_text("a key")
    (tmp_path / "router.yaml").write_text("a policy")
    (tmp_path / "state/router.sqlite3").write_text("a store")
    (tmp_path / "models/enc/config.json").write_text("{}")
    (tmp_path / "models/other.gguf").write_text("weights")
    (tmp_path / "elsewhere/blob").write_text("weights")
    (tmp_path / "models/enc/model.safetensors").symlink_to(tmp_path / "elsewhere/blob")
    return tmp_path


@landlocked
def test_a_child_reads_its_model_and_nothing_else_of_a_home(house: Path) -> None:
    """Its folder, and what links in it lead to; no key, policy or store, not even names."""
    encoder = EncoderSettings(path=str(house / "models/enc"))
    own = [house / "models/enc", house / "models/enc/config.json", house / "models/enc/model.safetensors"]
    others = [
        *(house, house / ".ssh", house / ".ssh/id_ed25519", house / "router.yaml", house / "state"),
        *(house / "models", house / "models/other.gguf", house / "state/router.sqlite3"),
        *map(Path, SYSTEM),
    ]

    met = tried("reading", *own, *others, settings=encoder)

    assert [met[str(path)] for path in own] == [["config.json", "model.safetensors"], 2, 7]
    assert {str(path): met[str(path)] for path in others if path.exists()} == {
        str(path): "EACCES" for path in others if path.exists()
    }


@landlocked
def test_of_a_checkout_a_child_reads_the_package_alone() -> None:
    """Policy, store and keys lie beside it where the router runs from its source."""
    package = Path(hybrid_router.__file__).parent
    if (package.parent / "msgspec").exists():
        pytest.skip("the package is installed among those it needs")

    met = tried("reading", package / "core/call.py", package.parent / "pyproject.toml")

    assert met[str(package / "core/call.py")] > 0
    assert met[str(package.parent / "pyproject.toml")] == "EACCES"


@landlocked
def test_a_child_writes_only_into_what_it_keeps(house: Path) -> None:
    """The folder of kept prefixes, made for it; not its model's, not one for files of the moment."""
    prefixes = house / "state/prefixes"
    llama = LlamaSettings(
        path=str(house / "models/other.gguf"),
        context=64,
        prefill_chunk=16,
        keeping=Keeping(folder=str(prefixes), disk_bytes=2**20),
    )
    closed = [str(house / "models"), str(house / "state"), str(house), "/tmp", "/dev/shm", "/var/tmp"]  # noqa: S108 - closed

    met = tried("writing", prefixes, *closed, settings=llama)

    assert met[str(prefixes)] == 1
    assert prefixes.stat().st_mode & 0o777 == 0o700
    assert {path: met[path] for path in closed} == dict.fromkeys(closed, "EACCES")


@without_gpu
def test_a_kernel_without_landlock_is_named() -> None:
    """The child serves all the same, without network, and says what is lacking around it."""
    met = tried("without landlock")

    (lacking,) = met["lacking"]
    assert lacking.startswith("files are not confined: the kernel has no Landlock")
    assert met["AF_INET SOCK_STREAM"] == "EACCES"


@landlocked
@pytest.mark.timeout(120)
def test_what_engines_are_made_of_computes_in_the_sandbox() -> None:
    """Each library is loaded, finds its files and threads, and gives a result."""
    for module in ("torch", "ctranslate2", "onnxruntime", "av", "faster_whisper"):
        pytest.importorskip(module)

    met = tried("libraries")

    assert met["lacking"] == []
    assert met["torch"] == 1.0
    assert met["ctranslate2"] == [2, 3]
    assert met["onnxruntime"]
    assert met["av"] > 100


def test_libraries_are_told_to_stay_at_home() -> None:
    """No hub, no telemetry, no token, no home; what a driver or OpenMP reads is passed on."""
    given = {
        "HF_TOKEN": "canary",
        "HOME": "/home/canary",
        "HTTPS_PROXY": "canary",
        "OMP_WAIT_POLICY": "passive",
        "CUDA_VISIBLE_DEVICES": "1",
        "PYTHONPATH": "canary",
    }

    seen = child_environment(given)

    assert "canary" not in " ".join(seen.values())
    assert (seen["OMP_WAIT_POLICY"], seen["CUDA_VISIBLE_DEVICES"]) == ("passive", "1")
    assert (seen["HF_HUB_OFFLINE"], seen["TRANSFORMERS_OFFLINE"], seen["ORT_DISABLE_TELEMETRY"]) == ("1",) * 3


def test_all_files_of_a_model_are_within_reach() -> None:
    """Adapters, draft model and projector too, wherever they are written in the settings."""
    llama = LlamaSettings(
        path="/m/a",
        context=64,
        prefill_chunk=16,
        drafting=Drafting(most_tokens=2, model_path="/m/b"),
        adapters=(AdapterFile("x", "/m/c"), AdapterFile("/not/a/path", "/m/d")),
        projector_path="/m/e",
    )

    assert sorted(model_paths(llama)) == ["/m/a", "/m/b", "/m/c", "/m/d", "/m/e"]
    assert {"/m/a", "/m/b", "/m/c", "/m/d", "/m/e"} <= set(reach(llama).readable)
