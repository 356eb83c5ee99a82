"""`python -m bench.transcription_bare FOLDER THREADS`: paths in, what faster-whisper took and wrote out."""

from __future__ import annotations

import os
import sys
import time

import msgspec


def main(folder: str, threads: int) -> None:
    """Answer until standard input ends; settings are the service's own."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    os.environ["GOMP_SPINCOUNT"] = "1000"
    from faster_whisper import WhisperModel  # noqa: PLC0415 - after what it reads from the environment is set

    model = WhisperModel(
        folder, device="cpu", compute_type="int8", cpu_threads=threads, local_files_only=True
    )
    for line in sys.stdin.buffer:
        started_s = time.perf_counter()
        segments, _ = model.transcribe(msgspec.json.decode(line, type=str), beam_size=5, vad_filter=True)
        text = "".join(segment.text for segment in segments)
        answer = msgspec.json.encode((time.perf_counter() - started_s, text.strip()))
        sys.stdout.buffer.write(answer + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
