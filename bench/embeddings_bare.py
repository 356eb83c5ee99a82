"""`python -m bench.embeddings_bare FOLDER THREADS`: lines of texts in, seconds that `encode` took out."""

from __future__ import annotations

import os
import sys
import time

import msgspec


def main(folder: str, threads: int) -> None:
    """Answer until standard input ends."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch  # noqa: PLC0415 - after what it reads from the environment is set
    from sentence_transformers import SentenceTransformer  # noqa: PLC0415

    torch.set_num_threads(threads)
    model = SentenceTransformer(folder, device="cpu", local_files_only=True)
    for line in sys.stdin.buffer:
        texts = msgspec.json.decode(line, type=list[str])
        started_s = time.perf_counter()
        model.encode(texts, show_progress_bar=False)
        sys.stdout.buffer.write(msgspec.json.encode(time.perf_counter() - started_s) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
