"""An index for each space: principals, or sets of adapters, that may not see each other's prompts."""

from __future__ import annotations

from array import array
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import islice, takewhile
from typing import Generic, TypeVar

from hybrid_router.engines.llama.prefix.radix import Radix

K = TypeVar("K", bound=Hashable)
_MOST_COMPARED = 100


@dataclass(frozen=True)
class Found(Generic[K]):
    """What begins like a prompt.

    Attributes:
        count: how many of the prompt's first tokens it has.
        key: of the state.
        length: how many tokens the state has.
    """

    count: int
    key: K
    length: int


class Spaces(Generic[K]):
    """Keys by space and tokens.

    `whole_only`: a state is of use only where a prompt begins with all of its tokens, because it cannot be
    shortened.
    """

    def __init__(self, *, whole_only: bool) -> None:
        self._whole_only = whole_only
        self._trees: dict[str, Radix[K]] = {}
        self._space_of: dict[K, str] = {}

    def __len__(self) -> int:
        return len(self._space_of)

    def __contains__(self, key: object) -> bool:
        return key in self._space_of

    def keys(self) -> list[K]:
        """All keys of all spaces."""
        return list(self._space_of)

    def add(self, space: str, key: K, tokens: Sequence[int]) -> None:
        """Hold a new key."""
        self._trees.setdefault(space, Radix()).insert(key, tokens)
        self._space_of[key] = space

    def drop(self, key: K) -> None:
        """Forget a key; one that is not held is fine."""
        space = self._space_of.pop(key, None)
        if space is not None:
            tree = self._trees[space]
            tree.remove(key)
            if not tree:
                del self._trees[space]

    def space(self, key: K) -> str:
        """The space of `key`.

        Raises:
            KeyError: it is not held.
        """
        return self._space_of[key]

    def tokens(self, key: K) -> array[int]:
        """The tokens of `key`.

        Raises:
            KeyError: it is not held.
        """
        return self._trees[self._space_of[key]].tokens(key)

    def best(self, space: str, tokens: Sequence[int]) -> Found[K] | None:
        """The most useful key: most common tokens, and of several such the shortest."""
        tree = self._trees.get(space)
        if tree is None:
            return None
        matches = tree.wholes(tokens) if self._whole_only else tree.matches(tokens)
        first = next(matches, None)
        if first is None:
            return None
        count = first[0]
        equals = takewhile(lambda match: match[0] == count, islice(matches, _MOST_COMPARED))
        key = min((first[1], *(key for _, key in equals)), key=tree.length)
        return Found(count, key, tree.length(key))

    def covering(self, space: str, tokens: Sequence[int]) -> list[K]:
        """The keys that can do all that a state of these tokens could."""
        tree = self._trees.get(space)
        if tree is None:
            return []
        longer = takewhile(lambda match: match[0] == len(tokens), tree.matches(tokens))
        return [key for _, key in longer if not self._whole_only or tree.length(key) == len(tokens)]

    def covered(self, space: str, tokens: Sequence[int]) -> list[K]:
        """The keys that can do nothing that a state of these tokens could not."""
        tree = self._trees.get(space)
        if tree is None:
            return []
        shorter = tree.wholes(tokens)
        return [key for count, key in shorter if not self._whole_only or count == len(tokens)]
