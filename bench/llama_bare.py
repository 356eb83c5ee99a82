"""llama-cpp-python's own `Llama`, as a bare script uses it.  `python -m bench.llama_bare OPENING`.

It answers one call at a time, so two at once are two, one after the other, behind its lock.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import msgspec
from llama_cpp import Llama

from bench.llama_asks import Ask, Opening, Told, serve


def main(opening: Opening) -> None:
    """Open the model and answer."""
    llama = Llama(
        opening.path,
        n_ctx=opening.context,
        n_threads=opening.threads,
        n_threads_batch=opening.threads,
        verbose=False,
    )

    def answer(ask: Ask) -> Told:
        started_s = time.perf_counter()
        told = Told(seconds=0.0, tokens_count=0, ttfts_s=[])
        for prompt in ask.prompts:
            first_s, tokens_count = _one(llama, prompt, ask.tokens_count)
            told.ttfts_s.append(first_s - started_s)
            told.tokens_count += tokens_count
        told.seconds = time.perf_counter() - started_s
        return told

    serve(answer)


def _one(llama: Llama, prompt: str, tokens_count: int) -> tuple[float, int]:
    """When the first text came, and how many tokens there were.

    Each token has a chunk of its own, but for those that are only part of a character: an answer that
    ran into its limit has as many tokens as the limit says.
    """
    chunks: Any = llama.create_chat_completion(
        [{"role": "user", "content": prompt}], max_tokens=tokens_count, temperature=0.0, stream=True
    )
    first_s, count = 0.0, 0
    for chunk in chunks:
        choice = chunk["choices"][0]
        if choice["finish_reason"] == "length":
            return first_s, tokens_count
        if choice["delta"].get("content"):
            count += 1
            first_s = first_s or time.perf_counter()
    return first_s, count


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Opening))
