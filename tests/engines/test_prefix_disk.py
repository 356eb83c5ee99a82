"""States on disk: what survives, what is refused, what never gets there."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hybrid_router.engines.llama.prefix.disk import Disk
from hybrid_router.engines.llama.prefix.spaces import Found

KEY, SPACE, TOKENS = "sha256 and settings", "the principal's name", [1, -2, 3]
STATE = b"the state of a sequence" * 3
LIMIT = 2**20
ROOT = Path(__file__).parents[2]

# Runs in a process of its own: opens a disk and puts one state; `BEFORE` says what it does first.
CHILD = f"""
import os, resource, signal, sys
from hybrid_router.engines.llama.prefix.disk import Disk
disk = Disk(sys.argv[1], {LIMIT}, {KEY!r}, on_trouble=lambda reason: print("trouble:", reason))
BEFORE
print(disk.put({SPACE!r}, [4, 5], bytes(1000), private=False))
print(disk.put({SPACE!r}, [6, 7], bytes(1000), private=False))
print(disk.read(disk.best({SPACE!r}, {TOKENS}).key) == {STATE!r})
"""


def opened(folder: Path, *, key: str = KEY, limit_bytes: int = LIMIT, whole_only: bool = False) -> Disk:
    """A disk that must have no trouble."""

    def trouble(reason: str) -> None:
        raise AssertionError(reason)

    return Disk(folder, limit_bytes, key, whole_only=whole_only, on_trouble=trouble)


def put(
    disk: Disk,
    tokens: list[int] = TOKENS,
    state: bytes = STATE,
    *,
    used_s: float | None = None,
    space: str = SPACE,
) -> bool:
    """Put a state that may be written."""
    return disk.put(space, tokens, state, private=False, used_s=used_s)


def read(disk: Disk, tokens: list[int] = TOKENS, space: str = SPACE) -> bytes | None:
    """What a prompt of these tokens gets."""
    found = disk.best(space, tokens)
    return None if found is None else disk.read(found.key)


def states(folder: Path) -> list[Path]:
    """The files that hold states."""
    return sorted(folder.glob("*/*.state"))


def only(folder: Path) -> Path:
    """The one file that holds a state."""
    (path,) = states(folder)
    return path


def child(folder: Path, before: str) -> subprocess.CompletedProcess[str]:
    """Run CHILD to its end."""
    code = CHILD.replace("BEFORE", before)
    return subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one state in it."""
    path = tmp_path / "prefixes"
    disk = opened(path)
    assert put(disk)
    disk.close()
    return path


def test_a_state_survives_a_restart(folder: Path) -> None:
    """What was put is found and read, to the byte, by whoever opens the folder later."""
    disk = opened(folder)

    found = disk.best(SPACE, [1, -2, 3, 4])
    assert found == Found(3, only(folder).stem, 3)
    assert disk.read(found.key) == STATE
    tokens = disk.tokens(found.key)
    assert tokens is not None
    assert tokens.tolist() == TOKENS


def test_a_part_of_a_prompt_is_found(folder: Path) -> None:
    """A prompt that begins like a state finds it, with the count of common tokens."""
    disk = opened(folder)
    found = disk.best(SPACE, [1, -2, 9, 9])

    assert found is not None
    assert (found.count, found.length) == (2, 3)
    assert disk.best(SPACE, [9]) is None


def test_whole_states_are_found_whole(folder: Path) -> None:
    """For a model whose states cannot be shortened, a part of one is not found, and a prefix stays."""
    disk = opened(folder, whole_only=True)

    assert put(disk, [*TOKENS, 4])
    assert disk.best(SPACE, TOKENS[:2]) is None
    found = disk.best(SPACE, TOKENS)
    assert found is not None
    assert found.length == 3


@pytest.mark.parametrize(("key", "space"), [("another model", SPACE), (KEY, "another principal")])
def test_models_and_spaces_are_apart(folder: Path, key: str, space: str) -> None:
    """Neither another model, settings or version, nor another principal finds anything."""
    assert opened(folder, key=key).best(space, TOKENS) is None


def test_a_private_state_is_never_written(tmp_path: Path) -> None:
    """Of a private call no byte reaches the folder."""
    disk = opened(tmp_path / "prefixes")

    assert not disk.put(SPACE, TOKENS, STATE, private=True)
    assert [path.name for path in (tmp_path / "prefixes").rglob("*") if path.is_file()] == ["secret"]


def test_names_of_principals_cannot_be_read(folder: Path) -> None:
    """Neither a file's name nor its content says whose it is, nor can it be found by trying names: the
    same state of the same principal has other names and bytes in another folder."""
    other = folder.parent / "other"
    put(opened(other))
    (content,) = {path.read_bytes() for path in states(folder)}

    assert SPACE.encode() not in content
    assert only(folder).name != only(other).name
    assert STATE in content


def test_only_we_may_look_inside(tmp_path: Path) -> None:
    """Folders have mode 0700 and files 0600, whatever the umask."""
    path = tmp_path / "prefixes"
    before = os.umask(0)
    try:
        put(opened(path))
    finally:
        os.umask(before)

    folders = [path, *(found for found in path.rglob("*") if found.is_dir())]
    files = [found for found in path.rglob("*") if found.is_file()]
    assert {stat.S_IMODE(found.stat().st_mode) for found in folders} == {0o700}
    assert {stat.S_IMODE(found.stat().st_mode) for found in files} == {0o600}
    assert len(files) == 2


def test_every_truncation_is_refused(folder: Path) -> None:
    """A file cut at any byte gives nothing and is deleted."""
    path = only(folder)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        disk = opened(folder)

        assert read(disk) is None, length
        assert not path.exists(), length
        disk.close()


def test_every_flipped_bit_is_refused(folder: Path) -> None:
    """A file with any bit changed gives nothing and is deleted."""
    path = only(folder)
    content = path.read_bytes()
    for bit in range(len(content) * 8):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        disk = opened(folder)

        assert read(disk) is None, bit
        assert not path.exists(), bit
        disk.close()


def test_a_change_after_the_head_was_read_is_refused(folder: Path) -> None:
    """The state is looked at when it is read, not when the folder was opened."""
    disk = opened(folder)
    found = disk.best(SPACE, TOKENS)
    assert found is not None
    with only(folder).open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"!")

    assert disk.read(found.key) is None
    assert states(folder) == []
    assert disk.best(SPACE, TOKENS) is None
    assert disk.read(found.key) is None


def test_a_file_from_elsewhere_is_refused(folder: Path) -> None:
    """A file of another folder, under another's name, for another model, with more behind it, or of
    nonsense and absurd lengths, is deleted."""
    good = only(folder).read_bytes()
    foreign = folder.parent / "foreign"
    put(opened(foreign))
    shelf = only(folder).parent
    opened(folder, key="another model").close()
    (other_shelf,) = set(folder.glob("*/")) - {shelf}
    planted = {
        shelf / only(foreign).name: only(foreign).read_bytes(),
        shelf / ("0" * 32 + ".state"): good,
        shelf / ("1" * 32 + ".state"): good + b"x",
        shelf / ("2" * 32 + ".state"): good[:8] + b"\x01\0\0\0" + b"\xff" * 100,
        shelf / ("3" * 32 + ".state"): os.urandom(1000),
        shelf / ("4" * 32 + ".state"): b"",
        other_shelf / only(folder).name: good,
    }
    for path, content in planted.items():
        path.write_bytes(content)

    assert opened(folder, key="another model").best(SPACE, TOKENS) is None
    disk = opened(folder)
    assert read(disk) == STATE
    assert [path for path in planted if path.exists()] == []


def test_what_is_not_ours_is_left_alone(folder: Path) -> None:
    """Other files, links and folders stay as they are; links are not followed, pipes block nobody."""
    shelf = only(folder).parent
    outside = folder.parent / "outside"
    shutil.copy(only(folder), outside)
    named = [shelf / (digit * 32 + ".state") for digit in "012"]
    named[0].symlink_to(outside)
    named[1].mkdir()
    os.mkfifo(named[2])
    (folder / ("3" * 32)).symlink_to(folder.parent)
    strangers = [shelf / "notes.txt", shelf / "x.part", folder / "notes.txt"]
    for path in strangers:
        path.write_text("mine")
    disk = opened(folder, limit_bytes=1)

    assert read(disk) is None
    assert not put(disk)
    assert outside.exists()
    assert all(os.path.lexists(path) for path in [*named, *strangers])
    assert {path.read_text() for path in strangers} == {"mine"}


@pytest.mark.parametrize("what", ["shelf", "secret"])
def test_a_link_in_our_place_is_not_followed(folder: Path, what: str) -> None:
    """A link where a shelf or the secret should be: no disk, a reason, and nothing written behind it."""
    place = folder / "secret" if what == "secret" else only(folder).parent
    aside = folder.parent / "aside"
    place.rename(aside)
    place.symlink_to(aside)
    reasons: list[str] = []
    disk = Disk(folder, LIMIT, KEY, on_trouble=reasons.append)

    assert len(reasons) == 1
    assert str(folder) in reasons[0]
    assert not put(disk, [7])
    assert disk.best(SPACE, TOKENS) is None


def test_the_limit_holds_over_all_models(tmp_path: Path) -> None:
    """What was not used for longest leaves first, whichever model it is for; reading is using."""
    now_s = time.time()
    path = tmp_path / "prefixes"
    one, other = opened(path, limit_bytes=5000), opened(path, key="other", limit_bytes=5000)
    put(one, [1], bytes(1000), used_s=now_s - 40)
    put(other, [2], bytes(1000), used_s=now_s - 30)
    put(one, [3], bytes(1000), used_s=now_s - 20)
    put(other, [4], bytes(1000), used_s=now_s - 10)
    assert read(one, [1]) == bytes(1000)
    assert put(one, [5], bytes(1000), used_s=now_s)

    assert sum(file.stat().st_size for file in states(path)) <= 5000
    assert [read(one, [token]) is not None for token in (1, 3, 5)] == [True, True, True]
    assert [read(other, [token]) is not None for token in (2, 4)] == [False, True]


def test_what_was_used_later_makes_no_room(tmp_path: Path) -> None:
    """An old state does not push out a newer one, and one over the limit pushes out nobody."""
    now_s = time.time()
    disk = opened(tmp_path / "prefixes", limit_bytes=2000)
    put(disk, [1], bytes(1000), used_s=now_s - 10)

    assert not put(disk, [2], bytes(1000), used_s=now_s - 20)
    assert not put(disk, [2], bytes(3000), used_s=now_s)
    assert read(disk, [1]) == bytes(1000)


def test_a_time_still_to_come_protects_nothing(tmp_path: Path) -> None:
    """A file that a wrong clock dated ahead leaves like the oldest."""
    disk = opened(tmp_path / "prefixes", limit_bytes=2000)
    put(disk, [1], bytes(1000), used_s=time.time() + 86_400)

    assert put(disk, [2], bytes(1000))
    assert read(disk, [1]) is None


def test_a_lower_limit_holds_from_the_start(folder: Path) -> None:
    """A folder that is over a new limit shrinks when it is opened."""
    opened(folder, limit_bytes=10)

    assert states(folder) == []


def test_a_longer_state_takes_the_place_of_its_beginning(folder: Path) -> None:
    """A prefix is deleted, first of all where room is short; a prefix of what is there is not written."""
    old = only(folder)
    size = old.stat().st_size
    disk = opened(folder, limit_bytes=size + 50)

    assert put(disk, [*TOKENS, 4])
    assert not old.exists()
    new = only(folder)
    written_ns = new.stat().st_ctime_ns
    assert put(disk, TOKENS, used_s=1.0)
    assert only(folder) == new
    assert new.stat().st_mtime == 1.0
    assert written_ns <= new.stat().st_ctime_ns


@pytest.mark.parametrize("case", ["no parent", "a file", "shared"])
def test_a_folder_that_cannot_be_used_is_told_of_once(tmp_path: Path, case: str) -> None:
    """The cache goes on without a disk and says why, once."""
    path = tmp_path / "prefixes"
    if case == "no parent":
        path /= "prefixes"
    elif case == "a file":
        path.write_text("")
    else:
        path.mkdir()
        path.chmod(0o777)
    reasons: list[str] = []
    disk = Disk(path, LIMIT, KEY, on_trouble=reasons.append)

    assert not put(disk)
    assert disk.best(SPACE, TOKENS) is None
    assert disk.read("0" * 32) is None
    disk.close()
    assert len(reasons) == 1
    assert reasons[0].startswith(f"prefixes are not kept in {path}: ")


def test_a_full_disk_ends_writing_and_nothing_else(folder: Path) -> None:
    """When a write fails, no part of it stays, one reason is told, and what is there can still be read."""
    done = child(folder, "resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))")

    assert done.stdout.splitlines() == [
        f"trouble: prefixes are no longer written to {folder}: File too large",
        "False",
        "False",
        "True",
    ], done.stderr
    assert [path.name for path in folder.glob("*/*")] == [only(folder).name]


def test_a_folder_that_may_not_be_written_is_gone_without(folder: Path) -> None:
    """A folder whose modes forbid writing costs the disk, not the process."""
    shutil.rmtree(only(folder).parent)
    folder.chmod(0o500)
    code = f"""
import ctypes, sys
from hybrid_router.engines.llama.prefix.disk import Disk
# Without its capabilities, root is held to the modes like anybody else.
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
ctypes.CDLL(None).capset(header, (ctypes.c_uint32 * 6)())
disk = Disk(sys.argv[1], {LIMIT}, {KEY!r}, on_trouble=print)
print(disk.put({SPACE!r}, [1], b"state", private=False))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    folder.chmod(0o700)

    reason = f"prefixes are not kept in {folder}: Permission denied"
    assert done.stdout.splitlines() == [reason, "False"], done.stderr


@pytest.mark.parametrize(
    ("call", "nth", "there"),
    [("write", 1, False), ("write", 2, False), ("fsync", 1, False), ("rename", 1, False), ("fsync", 2, True)],
)
def test_a_process_killed_while_writing_leaves_a_usable_folder(
    folder: Path, call: str, nth: int, there: bool
) -> None:
    """Wherever kill -9 falls, the new state is there whole or not at all, the others stay, and whoever
    opens the folder next removes the rest."""
    before = f"""
real, calls = os.{call}, []
def dying(*args, **named):
    calls.append(args)
    if len(calls) == {nth}:
        if {call!r} == "write":
            real(args[0], args[1][:7])  # torn in the middle
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **named)
os.{call} = dying
"""
    done = child(folder, before)
    assert done.returncode == -9, done.stderr
    assert len(list(folder.glob("*/*.part"))) == (0 if there else 1)

    disk = opened(folder)
    assert list(folder.glob("*/*.part")) == []
    assert read(disk) == STATE
    assert read(disk, [4, 5]) == (bytes(1000) if there else None)
    assert put(disk, [4, 5], b"again")


def test_two_processes_do_not_hurt_each_other(folder: Path) -> None:
    """Who opens a folder while another process is writing in it leaves that write alone, and finds what it
    brought; what one deletes the other no longer finds."""
    before = """
real = os.fsync
def waiting(fd):
    print("writing", flush=True)
    sys.stdin.readline()
    os.fsync = real
    real(fd)
os.fsync = waiting
"""
    with subprocess.Popen(
        [sys.executable, "-c", CHILD.replace("BEFORE", before), str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "writing\n"
        disk = opened(folder)
        found = disk.best(SPACE, TOKENS)
        rest, _ = other.communicate("\n")

    assert rest.splitlines() == ["True", "True", "True"]
    assert read(disk, [4, 5]) == bytes(1000)
    assert found is not None
    opened(folder).drop(found.key)
    assert disk.read(found.key) is None
    assert disk.best(SPACE, TOKENS) is None


def test_a_file_that_vanished_is_written_again(folder: Path) -> None:
    """A state that another process deleted in the meantime is not taken for written."""
    disk = opened(folder)
    assert put(disk)
    only(folder).unlink()

    assert put(disk)
    assert read(disk) == STATE


def test_a_shelf_that_was_deleted_under_us_is_told_of_once(folder: Path) -> None:
    """Somebody cleans the cache away while it is in use: nothing is found, one reason is told."""
    reasons: list[str] = []
    disk = Disk(folder, LIMIT, KEY, on_trouble=reasons.append)
    assert read(disk) == STATE
    shutil.rmtree(folder)

    assert read(disk) is None
    assert not put(disk, [7])
    assert not put(disk, [8])
    assert reasons == [f"prefixes are no longer written to {folder}: No such file or directory"]
