"""Where conversations are: which step has computed the beginning of one already."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeAlias

from hybrid_router.core.call import AudioPart, Call, ImagePart, Message, Part, RefusalPart, TextPart
from hybrid_router.core.event import Usage

_SESSION_BYTES = 16
_BEGINNING_CHARS = 16_384  # of a message: what tells conversations apart is found before
Mark: TypeAlias = int


class Affinity:
    """Remembers which steps hold the prompts of the last calls.

    The next turn of a conversation begins with all messages of the one before.  So each call leaves a mark of
    all its messages, and the marks of a longer call's beginnings are looked for among them.  Marks are
    Python's own hashes: keyed anew in every process, and those of strings, which are the cost of it, are
    computed once for each string.  A step counts as keeping prefixes once it has told of a cached token.
    """

    def __init__(self, limit: int = 4096) -> None:
        """`limit`: how many conversations are remembered."""
        self._limit = limit
        self._held: OrderedDict[Mark, dict[str, int]] = OrderedDict()
        self._keeping: set[str] = set()

    def cached(self, call: Call) -> dict[str, int]:
        """Step → prompt tokens of this conversation's beginning that it has computed before."""
        found: dict[str, int] = {}
        if not self._keeping:
            return found
        for mark in _marks(call):  # each stands for more than the one before
            found.update(self._held.get(mark, ()))
        return found

    def note(self, call: Call, step: str, usage: Usage) -> None:
        """`step` has answered `call`."""
        if usage.cached_tokens > 0:
            self._keeping.add(step)
        if step not in self._keeping:
            return
        mark = None
        for mark in _marks(call):  # noqa: B007 - the last one is wanted
            pass
        if mark is None:
            return
        self._held.setdefault(mark, {})[step] = usage.prompt_tokens
        self._held.move_to_end(mark)
        if len(self._held) > self._limit:
            self._held.popitem(last=False)


def _marks(call: Call) -> Iterator[Mark]:
    """A mark for each beginning of a conversation, the shortest first.

    Principals share nothing.  Tools stand before the messages in every prompt.
    """
    mark = hash((call.principal, call.operation, tuple(map(repr, call.tools))))
    for message in call.messages:  # those of complete calls would never come again
        mark = hash((mark, message.role, _content(message), _tool_calls(message)))
        yield mark


def _content(message: Message) -> str | tuple[str, ...] | None:
    if isinstance(message.content, list):
        return tuple(map(_part, message.content))
    return message.content


def _part(part: Part) -> str:
    """The long string in a part, as it is, so that its hash is kept."""
    match part:
        case TextPart(text) | RefusalPart(text):
            return text
        case ImagePart(picture):
            return str(picture.get("url"))
        case AudioPart(sound):
            return str(sound.get("data"))
    return str(part.file.get("file_data") or part.file.get("file_id"))


def _tool_calls(message: Message) -> tuple[tuple[str, str], ...]:
    return tuple((call.function.name, call.function.arguments) for call in message.tool_calls or ())


def session(call: Call, salt: bytes) -> str:
    """A name for the call's conversation that says nothing about it: 32 hexadecimal digits.

    All turns have the same: it comes from the principal, the alias, and the conversation's beginning, keyed
    with `salt` (1 to 64 random bytes that stay here).
    """
    digest = hashlib.blake2b(digest_size=_SESSION_BYTES, key=salt)
    for piece in (call.principal, call.alias, *_beginning(call)):
        encoded = piece[:_BEGINNING_CHARS].encode("utf-8", "surrogatepass")
        digest.update(b"%d:%d:" % (len(piece), len(encoded)))
        digest.update(encoded)
    return digest.hexdigest()


def _beginning(call: Call) -> Iterator[str]:
    """What all turns of a conversation have in common: everything up to the first user message."""
    for message in call.messages:
        yield message.role
        yield message.text
        if message.role == "user":
            return
    for prompt in call.prompts[:1]:
        yield prompt if isinstance(prompt, str) else repr(prompt[: _BEGINNING_CHARS // 8])
