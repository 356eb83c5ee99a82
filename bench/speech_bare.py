"""`python -m bench.speech_bare THREADS`: texts in, how long hibari took to first and last sound."""

from __future__ import annotations

import sys
import time

import msgspec


def main(threads: int) -> None:
    """Answer until standard input ends."""
    from hibari import Hibari  # noqa: PLC0415 - loading a voice is slow

    voice = Hibari(threads=threads)
    for line in sys.stdin.buffer:
        started_s = time.perf_counter()
        first_s, sample_count = 0.0, 0
        for samples in voice.stream(msgspec.json.decode(line, type=str), seed=0):
            first_s = first_s or time.perf_counter() - started_s
            sample_count += len(samples)
        took_s = time.perf_counter() - started_s
        sys.stdout.buffer.write(msgspec.json.encode((first_s, took_s, sample_count)) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]))
