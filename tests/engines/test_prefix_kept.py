"""What memory and disk are together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from hybrid_router.engines.llama.context import Context
from hybrid_router.engines.llama.prefix.disk import Disk
from hybrid_router.engines.llama.prefix.kept import Kept
from hybrid_router.engines.llama.prefix.ram import States
from hybrid_router.engines.llama.weights import Weights
from hybrid_router.engines.settings import LlamaSettings

ANN, RAM_BYTES, DISK_BYTES = "ann", 10_000, 2**24


class Clock:
    """Moves by a second whenever it is looked at."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


@pytest.fixture
def reopened(tmp_path: Path) -> Iterator[Callable[..., Kept]]:
    """Opens the same folder with an empty memory, as a restart does; takes that memory's size."""
    disks: list[Disk] = []

    def reopen(ram_bytes: int = RAM_BYTES) -> Kept:
        disks.append(Disk(tmp_path / "prefixes", DISK_BYTES, "model"))
        return Kept(States(ram_bytes), disks[-1])

    yield reopen
    for disk in disks:
        disk.close()


def state_of(kept: Kept, tokens: list[int], space: str = ANN) -> bytes | None:
    """What a prompt gets."""
    found = kept.best(space, tokens)
    fetched = None if found is None else kept.fetch(found.key)
    return None if fetched is None else fetched[1]


def test_what_memory_cannot_hold_goes_to_disk_at_once(reopened: Callable[..., Kept]) -> None:
    """A large prompt, or any where no memory is given; but nothing private."""
    kept = reopened(ram_bytes=0)

    assert kept.put(ANN, [1, 2], b"large", private=False)
    assert not kept.put(ANN, [3, 4], b"secret", private=True)
    assert state_of(kept, [1, 2, 9]) == b"large"
    assert state_of(kept, [3, 4, 9]) is None


def test_what_is_on_disk_already_is_not_saved_again(reopened: Callable[..., Kept]) -> None:
    """A sequence that was saved where it was, and moves to memory later."""
    kept = reopened()
    kept.put(ANN, [1, 2], b"state", private=False, saved=True)

    assert kept.unsaved == 0
    assert state_of(kept, [1, 2, 9]) == b"state"


def test_what_is_saved_is_there_after_a_restart(reopened: Callable[..., Kept]) -> None:
    """Each call of `save_one` brings one state to disk, from where it is fetched with its tokens."""
    kept = reopened()
    kept.put(ANN, [1, 2], b"first", private=False)
    kept.put(ANN, [3, 4], b"second", private=False)

    assert kept.unsaved == 2
    assert [kept.save_one() for _ in range(3)] == [True, True, False]
    assert kept.unsaved == 0
    later = reopened()
    found = later.best(ANN, [3, 4, 5])
    assert found is not None
    assert isinstance(found.key, str)
    fetched = later.fetch(found.key)
    assert fetched is not None
    assert (fetched[0].tolist(), fetched[1]) == ([3, 4], b"second")
    assert state_of(later, [1, 2]) == b"first"
    assert state_of(later, [1, 2], "bob") is None


def test_a_private_state_stays_in_memory(reopened: Callable[..., Kept], tmp_path: Path) -> None:
    """It is found as long as the process lives; it is nothing to save, and no file has a byte of it."""
    kept = reopened()
    kept.put(ANN, [1, 2], b"private words", private=True)

    assert kept.unsaved == 0
    assert not kept.save_one()
    assert state_of(kept, [1, 2]) == b"private words"
    kept.close(until_s=float("inf"))
    assert list(tmp_path.glob("prefixes/*/*")) == []
    assert state_of(reopened(), [1, 2]) is None


def test_memory_is_asked_first_and_disk_where_it_has_more(reopened: Callable[..., Kept]) -> None:
    """Of two that save as much the one in memory is taken; one on disk that saves more goes before it."""
    first = reopened()
    first.put(ANN, [1, 2, 3, 4], b"on disk", private=False)
    first.save_one()
    kept = reopened()
    kept.put(ANN, [1, 2, 3], b"in memory", private=False)

    assert state_of(kept, [1, 2, 3]) == b"in memory"
    assert state_of(kept, [1, 2, 3, 9]) == b"in memory"
    assert state_of(kept, [1, 2, 3, 4]) == b"on disk"
    assert state_of(kept, [9]) is None


def test_what_was_used_last_is_saved_first(reopened: Callable[..., Kept]) -> None:
    """If the process dies between two saves, what is most likely to be asked for again is safe."""
    kept = reopened()
    for number in range(3):
        kept.put(ANN, [number, 9], bytes([number]), private=False)
    state_of(kept, [1, 9])
    kept.save_one()

    assert [state_of(reopened(), [number, 9]) for number in range(3)] == [None, b"\x01", None]


def test_the_end_saves_what_there_is_time_for(tmp_path: Path) -> None:
    """Closing begins no write that will not be done in time, at the speed of the last one."""
    clock = Clock()
    kept = Kept(States(RAM_BYTES), Disk(tmp_path / "prefixes", DISK_BYTES, "model"), clock=clock)
    for number in range(5):  # each write takes one second of this clock, and a look at it one more
        kept.put(ANN, [number], bytes(100), private=False)
    kept.close(until_s=8.5)

    disk = Disk(tmp_path / "prefixes", DISK_BYTES, "model")
    assert [disk.best(ANN, [number]) is not None for number in range(5)] == [False, False, True, True, True]


def test_what_was_dropped_is_not_found_again(reopened: Callable[..., Kept]) -> None:
    """A state that was of no use is forgotten, in memory and on disk."""
    kept = reopened()
    kept.put(ANN, [1], b"state", private=False)
    kept.save_one()
    for _ in range(2):
        found = kept.best(ANN, [1])
        assert found is not None
        kept.drop(found.key)
        assert kept.fetch(found.key) is None

    assert kept.best(ANN, [1]) is None
    assert state_of(reopened(), [1]) is None


def test_all_works_without_a_disk() -> None:
    """Without a folder there is memory, and nothing to save."""
    kept = Kept(States(RAM_BYTES))

    assert kept.put(ANN, [1], b"state", private=False)
    assert not kept.put(ANN, [2], bytes(RAM_BYTES), private=False)
    assert state_of(kept, [1]) == b"state"
    assert kept.fetch("a file") is None
    kept.drop("a file")
    assert kept.unsaved == 0
    assert not kept.save_one()
    kept.close(until_s=0)
    assert state_of(kept, [1]) == b"state"


def test_after_the_end_memory_goes_on(reopened: Callable[..., Kept]) -> None:
    """A closed disk is no longer asked."""
    kept = reopened()
    kept.put(ANN, [1], b"state", private=False)
    kept.close(until_s=float("inf"))

    assert state_of(kept, [1]) == b"state"
    assert kept.best(ANN, [2]) is None
    assert not kept.save_one()


@pytest.mark.model
def test_a_models_memory_goes_to_disk_and_back(
    model_settings: LlamaSettings, reopened: Callable[..., Kept]
) -> None:
    """A real sequence that was saved, fetched by a new process's store and restored in a new context goes
    on with the logits it would have had, to the bit."""
    weights = Weights(model_settings.path, model_settings.offload)
    tokens = weights.tokenize("The quick brown fox jumps over the lazy")
    computed = Context(weights, model_settings, cells_count=256, sequences_count=1, batch_count=64)
    computed.decode([(token, at, 0, False) for at, token in enumerate(tokens)])
    kept = reopened(2**24)
    assert kept.put(ANN, tokens, computed.state(0), private=False)
    kept.close(until_s=float("inf"))
    computed.decode([(1, len(tokens), 0, True)])
    wanted = computed.logits(0).copy()
    computed.close()

    later = reopened()
    found = later.best(ANN, tokens)
    assert found is not None
    fetched = later.fetch(found.key)
    assert fetched is not None
    restored = Context(weights, model_settings, cells_count=256, sequences_count=1, batch_count=64)
    assert restored.restore(0, fetched[1])
    restored.decode([(1, len(tokens), 0, True)])
    assert np.array_equal(restored.logits(0), wanted)
    restored.close()
    weights.close()
