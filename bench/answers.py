"""The canned bytes of the fake upstream, and the calls that ask for them.

The alias names the load: the router passes it on as the model, the other gateways as it is, so every
gateway gets the same bytes from its client.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

PATH = "/v1/chat/completions"
KEY = "hr-bench-key-0123456789abcdefghijklmnopqrstuv"
CHUNKS_COUNT = 50
PLAIN_PIECES_COUNT = 6
GAP_S = 0.02
_WORDS = "A router tells its callers who answered and why, and it never keeps them waiting without a word. "
_TEXT = _WORDS * 7
_USAGE = {"prompt_tokens": 220, "completion_tokens": 140, "total_tokens": 360}


class Load(Struct, frozen=True):
    """One kind of call."""

    name: str
    stream: bool
    gap_s: float
    title: str


LOADS = (
    Load("bench-plain", stream=False, gap_s=0.0, title="plain, 1 KB reply"),
    Load("bench-stream", stream=True, gap_s=0.0, title=f"streamed, {CHUNKS_COUNT} chunks, no gaps"),
    Load(
        "bench-stream-slow",
        stream=True,
        gap_s=GAP_S,
        title=f"streamed, {CHUNKS_COUNT} chunks, {GAP_S * 1000:g} ms apart",
    ),
)


class Canned(Struct, frozen=True):
    """A reply: its writes, and the time between two."""

    writes: tuple[bytes, ...]
    gap_s: float = 0.0


def request(load: Load, host: str) -> bytes:
    """One whole request: 1.3 KB, as an editor might send it."""
    messages = [
        {"role": "system", "content": "You are a careful assistant. " * 12},
        {"role": "user", "content": "Please explain how the following text came about: " + _WORDS * 6},
    ]
    call: dict[str, Any] = {"model": load.name, "messages": messages, "max_tokens": 256, "temperature": 0.2}
    if load.stream:
        call |= {"stream": True, "stream_options": {"include_usage": True}}
    body = msgspec.json.encode(call)
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nAccept: */*\r\n"
        f"User-Agent: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def canned(name: str, *, stream: bool) -> Canned:
    """What upstream answers.

    A plain call that is asked for as a stream, as the router does, gets the same text in one write.
    """
    load = next(load for load in LOADS if load.name == name)
    if not stream:
        return Canned((_whole(),))
    events = _events(CHUNKS_COUNT if load.stream else PLAIN_PIECES_COUNT)
    if not load.stream:
        return Canned((_head() + _chunk(b"".join(events)) + _END,))
    first, *rest, last = (_chunk(event) for event in events)
    return Canned((_head() + first, *rest, last + _END), load.gap_s)


_END = b"0\r\n\r\n"


def _head() -> bytes:
    return (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n"
    )


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


def _whole() -> bytes:
    message = {"role": "assistant", "content": _TEXT}
    body = msgspec.json.encode(
        {
            **_envelope("chat.completion"),
            "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
            "usage": _USAGE,
        }
    )
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        len(body),
        body,
    )


def _events(pieces_count: int) -> list[bytes]:
    """As many writes as pieces: the role goes with the first, the end with the last."""
    size = -(-len(_TEXT) // pieces_count)
    pieces = [_TEXT[at : at + size] for at in range(0, len(_TEXT), size)]
    deltas = ({"index": 0, "delta": {"content": piece}, "finish_reason": None} for piece in pieces)
    events = [_event([delta], 0) for delta in deltas]
    role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    events[0] = _event([role], 220) + events[0]
    events[-1] += _event([{"index": 0, "delta": {}, "finish_reason": "stop"}], 0) + _event([], 0) + _last()
    return events


def _event(choices: list[dict[str, Any]], prompt_tokens: int) -> bytes:
    """One chunk as Workers AI's newer models stream it, each with a usage of its own."""
    counted = int(bool(choices) and "content" in choices[0]["delta"])
    usage = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": counted,
        "total_tokens": prompt_tokens + counted,
    }
    document = {**_envelope("chat.completion.chunk"), "choices": choices, "usage": usage}
    return b"data: " + msgspec.json.encode(document) + b"\n\n"


def _last() -> bytes:
    """Workers AI's own usage line, and the end."""
    return b"data: " + msgspec.json.encode({"response": "", "usage": _USAGE}) + b"\n\ndata: [DONE]\n\n"


def _envelope(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-0123456789", "object": kind, "created": 1_750_000_000, "model": "@cf/bench/model"}


def text_of(reply: bytes) -> str:
    """The answer's text, from a whole reply of either kind: what every gateway must give unchanged."""
    head, _, body = reply.partition(b"\r\n\r\n")
    if b"text/event-stream" not in head.lower():
        return str(msgspec.json.decode(body)["choices"][0]["message"]["content"])
    events = (line[6:] for line in _unchunked(body).split(b"\n") if line.startswith(b"data: {"))
    choices = (choice for event in events for choice in msgspec.json.decode(event).get("choices", ()))
    return "".join(choice["delta"].get("content", "") for choice in choices)


def _unchunked(body: bytes) -> bytes:
    """The body without its transfer coding."""
    out = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        out += body[: int(size, 16)]
        body = body[int(size, 16) + 2 :]
    return out


def expected_text() -> str:
    """What every reply says."""
    return _TEXT
