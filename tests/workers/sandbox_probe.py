"""A child's process without its engine: takes on the sandbox, then tries what it is told to.

`sandbox_probe.py SETTINGS WHAT [MORE...]`: SETTINGS are as in the first frame, in JSON.  Writes a JSON
object: attempt → "done", what it gave, or the name of the error that it met.
"""

from __future__ import annotations

import ctypes
import errno
import importlib.util
import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from hybrid_router.engines.settings import AnySettings
from hybrid_router.workers import environment, sandbox, syscalls
from hybrid_router.workers.syscalls import MACHINES, NUMBERS

Attempt = Callable[[], Any]
ALLOW, FAIL = 0x7FFF_0000, 0x0005_0000
LANDLOCK = 444


def call(name: str, *arguments: int | bytes | None) -> int:
    """A system call by its name."""
    number = NUMBERS[name][MACHINES[platform.machine()].column]
    assert number is not None
    libc = ctypes.CDLL(None, use_errno=True)
    passed = [ctypes.c_long(each) if isinstance(each, int) else ctypes.c_char_p(each) for each in arguments]
    result: int = libc.syscall(ctypes.c_long(number), *passed)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def network() -> Iterator[tuple[str, Attempt]]:
    """Everything that a socket can be, and what is done with one."""
    for family in ("AF_INET", "AF_INET6", "AF_UNIX", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"):
        for kind in ("SOCK_STREAM", "SOCK_DGRAM", "SOCK_RAW"):
            attempt = partial(socket.socket, getattr(socket, family), getattr(socket, kind))
            yield f"{family} {kind}", attempt
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield "sendto", partial(left.sendto, b"x", "/dev/log")
    yield "connect", partial(right.connect, "/dev/log")
    yield "resolve", lambda: socket.getaddrinfo("name.example", 80)
    yield "io_uring_setup", lambda: call("io_uring_setup", 4, bytes(120))
    yield "shmget", lambda: call("shmget", 4711, 4096, 0o1600)
    yield "pair", partial(left.send, b"x")


def programs() -> Iterator[tuple[str, Attempt]]:
    """Another program, and another process of this one."""
    true = "/bin/true"
    yield "execve", lambda: os.execv(true, [true])  # noqa: S606 - it is refused
    yield "fork", os.fork
    yield "posix_spawn", lambda: os.posix_spawn(true, [true], {})
    yield "subprocess", lambda: subprocess.run([true], check=False)
    yield "unshare", lambda: call("unshare", 0x1000_0000)
    yield "thread", threading.Thread(target=int).start


def processes(pid: int) -> Iterator[tuple[str, Attempt]]:
    """Whatever one process can do to another of the same user."""
    yield "kill", lambda: os.kill(pid, 0)
    yield "killpg", lambda: os.killpg(os.getpgid(pid), 0)
    yield "ptrace", lambda: call("ptrace", 16, pid, 0, 0)
    yield "process_vm_readv", lambda: call("process_vm_readv", pid, None, 0, None, 0, 0)
    yield "pidfd_open", lambda: os.pidfd_open(pid)
    yield "prlimit", lambda: resource.prlimit(pid, resource.RLIMIT_NOFILE, (16, 16))
    yield "environ", lambda: Path(f"/proc/{pid}/environ").read_bytes()
    yield "memory", lambda: os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    yield "open files", Path(f"/proc/{pid}/fd/2").readlink
    yield "by its files", lambda: os.open(f"/proc/{pid}/fd/2", os.O_RDONLY)
    yield "root", lambda: listed(f"/proc/{pid}/root")
    yield "outlive", lambda: check(ctypes.CDLL(None, use_errno=True).prctl(1, 0, 0, 0, 0))
    yield "setsid", os.setsid
    yield "itself", lambda: os.kill(os.getpid(), 0)
    yield "a thread", lambda: signal.pthread_kill(threading.get_ident(), 0)


def check(result: int) -> None:
    """Raise what a function of the C library met."""
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def listed(folder: str) -> list[str]:
    """The names in a folder."""
    return sorted(each.name for each in Path(folder).iterdir())


def read(path: str) -> Any:
    """A folder's names, or how much a file holds."""
    return listed(path) if Path(path).is_dir() else len(Path(path).read_bytes())


def reading(paths: list[str]) -> Iterator[tuple[str, Attempt]]:
    """Files and folders, by path."""
    for path in paths:
        yield path, partial(read, path)


def writing(folders: list[str]) -> Iterator[tuple[str, Attempt]]:
    """New files in folders."""
    for folder in folders:
        yield folder, partial(Path(folder, "probe").write_bytes, b"x")


def state() -> Iterator[tuple[str, Attempt]]:
    """What the kernel says of this process."""
    wanted = ("CapPrm", "CapEff", "NoNewPrivs", "Seccomp")
    status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
    found = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    yield from ((name, partial(found.get, name)) for name in wanted)
    for name in ("CORE", "NOFILE", "FSIZE", "DATA"):
        yield name, partial(resource.getrlimit, getattr(resource, f"RLIMIT_{name}"))
    yield "oom", lambda: int(Path("/proc/self/oom_score_adj").read_text())
    yield "home", lambda: Path.home().exists()


def libraries() -> Iterator[tuple[str, Attempt]]:
    """What engines are made of: each computes something."""

    def torch() -> float:
        import torch  # noqa: PLC0415

        return float(torch.nn.Linear(8, 8)(torch.ones(2, 8)).detach().isfinite().all())

    def ctranslate2() -> list[int]:
        import ctranslate2  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415

        return list(ctranslate2.StorageView.from_array(np.ones((2, 3), dtype=np.float32)).shape)

    def onnxruntime() -> list[str]:
        import onnxruntime  # noqa: PLC0415

        found = importlib.util.find_spec("faster_whisper")
        assert found is not None
        assert found.origin is not None
        (model,) = Path(found.origin).parent.glob("assets/*.onnx")
        return [each.name for each in onnxruntime.InferenceSession(str(model)).get_outputs()]

    def av() -> int:
        import io  # noqa: PLC0415

        import av  # noqa: PLC0415
        import numpy as np  # noqa: PLC0415

        file = io.BytesIO()
        with av.open(file, "w", format="mp3") as container:
            stream = container.add_stream("mp3", rate=24000)
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 2400), dtype=np.int16), format="s16", layout="mono"
            )
            frame.sample_rate = 24000
            for sent in (frame, None):
                container.mux(stream.encode(sent))
        return len(file.getvalue())

    yield from (("torch", torch), ("ctranslate2", ctranslate2), ("onnxruntime", onnxruntime), ("av", av))


def met(attempt: Attempt) -> Any:
    """What came of an attempt."""
    try:
        result = attempt()
    except socket.gaierror:
        return "no such name"
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, type(error).__name__)
    return result if isinstance(result, bool | int | float | str | list | tuple) else "done"


def without_landlock() -> None:
    """Be on a kernel that was built without it."""
    steps = [(0x20, 0, 0, 0), (0x15, 0, 1, LANDLOCK), (0x06, 0, 0, FAIL | errno.ENOSYS), (0x06, 0, 0, ALLOW)]
    sandbox._prctl(38, 1)
    assert syscalls.install(MACHINES[platform.machine()], steps) is None


def main() -> None:
    """Take on the sandbox, try everything, tell."""
    what, *rest = sys.argv[2:]
    settings = msgspec.json.decode(sys.argv[1], type=AnySettings)
    if what == "without landlock":
        without_landlock()
    lacking = sandbox.restrict()
    environment.prepare(settings)
    lacking += sandbox.confine(settings)
    tried = {
        "network": network,
        "programs": programs,
        "processes": lambda: processes(int(rest[0])),
        "reading": lambda: reading(rest),
        "writing": lambda: writing(rest),
        "state": state,
        "libraries": libraries,
        "without landlock": network,
    }[what]()
    json.dump({"lacking": lacking} | {name: met(attempt) for name, attempt in tried}, sys.stdout)


main()
