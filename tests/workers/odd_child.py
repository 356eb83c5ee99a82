"""A worker's process that does not do what it should.  Standard library only: it must start in a blink.

`odd_child.py WAY READY ANSWER FD PARENT_PID`: READY and ANSWER are frames as hex.  It says `pid N` for
itself and for whatever it starts, then that its model is open.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from contextlib import suppress


def say(*words: object) -> None:
    """A line for the router."""
    sys.stderr.write(" ".join(map(str, words)) + "\n")
    sys.stderr.flush()


def linger() -> None:
    """Ignore everything that can be ignored."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    while True:
        time.sleep(60)


def fork(*, leave_group: bool) -> bool:
    """Start a process that holds all our descriptors; whether we are it."""
    if os.fork():
        return False
    if leave_group:
        os.setsid()
    say("pid", os.getpid())
    return True


def haunt(pipe: socket.socket, answer: bytes) -> None:
    """Speak in the parent's name, also when it is dead, until nobody listens."""
    with suppress(OSError):
        pipe.sendall(answer * 100)
        say("haunts")
        while True:
            pipe.sendall(answer)


def serve(pipe: socket.socket, answer: bytes) -> None:
    """Answer whatever comes with the same frame."""
    while pipe.recv(65536):
        pipe.sendall(answer)


def answer_pings(pipe: socket.socket, *, computing: bool) -> None:
    """Be there, and at the same step for ever."""
    while received := pipe.recv(65536):
        for ping in received.split(b"\xa4ping")[1:]:
            body = b"\x94\xa4pong" + ping[:1] + b"\x05" + (b"\xc3" if computing else b"\xc2")
            pipe.sendall(len(body).to_bytes(4, "big") + body)


def behave(way: str, pipe: socket.socket, ready: bytes, answer: bytes) -> None:
    """Be odd once the model is open."""
    match way:
        case "ignores its end":
            linger()
        case "hangs up and stays":
            pipe.shutdown(socket.SHUT_RDWR)
            linger()
        case "speaks nonsense" | "opens twice":
            pipe.sendall(ready if way == "opens twice" else b"\x00\x00\x00\x02{}")
            linger()
        case "is stuck" | "is idle":
            answer_pings(pipe, computing=way == "is stuck")
        case "leaves a child" | "leaves a ghost":
            pipe.recv(65536)
            os._exit(7)
        case "is silent":
            while pipe.recv(65536):
                pass
        case _:
            serve(pipe, answer)


def main() -> None:
    """Be odd."""
    way, ready, answer = sys.argv[1], bytes.fromhex(sys.argv[2]), bytes.fromhex(sys.argv[3])
    pipe = socket.socket(fileno=int(sys.argv[4]))
    say("pid", os.getpid())
    if pipe.recv(65536) and way == "never opens":
        linger()
    if way.startswith("dies of "):
        say("GGML_ASSERT(tensor->nb[0] > 0) failed")
        sys.stderr.write("the stack, which says little")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.Signals[way.removeprefix("dies of ")])
    if way == "raises":
        raise MemoryError("no room for \x1b[31m 7 layers")
    if way == "leaves a child" and fork(leave_group=False):
        linger()
    if way == "leaves a ghost" and fork(leave_group=True):
        haunt(pipe, answer)
        return
    with suppress(OSError):
        pipe.sendall(ready)
        behave(way, pipe, ready, answer)


main()
