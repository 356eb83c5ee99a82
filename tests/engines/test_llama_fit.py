"""What fits where: decided from made-up machines, looked up on this one."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_gguf import write

from hybrid_router.engines.llama import machine, opening
from hybrid_router.engines.llama.fit import Device, Fit, Machine, fit, settled
from hybrid_router.engines.llama.outline import Outline
from hybrid_router.engines.settings import AdapterFile, LlamaSettings, Offload
from hybrid_router.engines.task import MOST_PARALLEL, EngineFailed

GIB = 2**30
MIB = 2**20
LAYERS = 32
ALL = LAYERS + 1
# About an 8B model at 4 bits: 128 KiB of cells for each token.
MODEL = Outline(
    architecture="llama",
    layers_count=LAYERS,
    context=131072,
    width=4096,
    cells=((1024, 1024),) * LAYERS,
    key_size=128,
    value_size=128,
    window=0,
    layer_bytes=(128 * MIB,) * LAYERS,
    output_bytes=512 * MIB,
    size_bytes=5 * GIB,
    vocabulary_count=128256,
)
SETTINGS = LlamaSettings(
    path="/models/m.gguf",
    context=None,
    parallel=None,
    threads=8,
    prefill_chunk=256,
    offload=Offload(layers=None),
)
ROOMY = Machine(free_bytes=64 * GIB)


def changed(**values: object) -> LlamaSettings:
    return msgspec.structs.replace(SETTINGS, **values)


def with_gpus(*free_gib: float, **offload: object) -> tuple[LlamaSettings, Machine]:
    """LlamaSettings with these offload options, and a machine with these GPUs."""
    devices = tuple(Device(f"GPU{i}", int(free * GIB)) for i, free in enumerate(free_gib))
    wanted = Offload(**{"layers": None, **offload})  # type: ignore[arg-type]
    return changed(offload=wanted), Machine(64 * GIB, devices=devices)


def gpu_layers(*free_gib: float, parallel: int | None = 1, **offload: object) -> int:
    settings, there = with_gpus(*free_gib, **offload)
    return fit(msgspec.structs.replace(settings, parallel=parallel), MODEL, there).gpu_layers


@pytest.mark.parametrize(
    ("threads", "free_gib", "parallel"),
    [(1, 64, 2), (2, 64, 4), (4, 64, 8), (64, 64, 8), (8, 8, 3), (8, 6.1, 1), (8, 1.0, 1)],
)
def test_calls_at_a_time_follow_threads_and_memory(threads: int, free_gib: float, parallel: int) -> None:
    """Two for each thread, at most eight, and half of what is free beside the weights; never none."""
    there = Machine(int(free_gib * GIB))

    assert fit(changed(threads=threads), MODEL, there).parallel == parallel


def test_what_is_written_is_taken() -> None:
    """Whoever names a number knows better, as long as there is memory at all."""
    found = fit(changed(parallel=20, context=8192), MODEL, ROOMY)

    assert found == Fit(context=8192, parallel=20, gpu_layers=0, cells_bytes=20 * 8192 * 128 * 1024)


def test_smaller_cells_make_room_for_more_calls() -> None:
    """A quarter of the bits, about four times the calls."""
    there = Machine(8 * GIB)
    small = changed(key_type="q4_0", value_type="q4_0")

    assert fit(SETTINGS, MODEL, there).parallel == 3
    assert fit(small, MODEL, there).parallel == MOST_PARALLEL


def test_what_lies_beside_the_model_takes_room_too() -> None:
    """A projector of one GiB is a GiB less for calls."""
    assert fit(SETTINGS, MODEL, Machine(8 * GIB), beside_bytes=GIB).parallel == 2


def test_a_context_that_the_model_was_not_trained_for_is_refused() -> None:
    """By name, with what it was trained for; without one written it is 4096 or less."""
    short = msgspec.structs.replace(SETTINGS, context=200_000)

    with pytest.raises(EngineFailed, match=r"^/models/m\.gguf: `context` is 200000; lower it.*131072"):
        fit(short, MODEL, ROOMY)
    assert fit(SETTINGS, MODEL, ROOMY).context == 4096


def test_a_cache_beyond_all_memory_is_refused_before_it_is_made() -> None:
    """Otherwise the kernel would look for somebody to kill; swap counts as memory here."""
    much = changed(parallel=8, context=131072)

    with pytest.raises(EngineFailed, match=r"8 × 131072 tokens needs 128\.0 GiB, 64\.0 GiB are free; lower"):
        fit(much, MODEL, ROOMY)
    assert fit(much, MODEL, Machine(64 * GIB, swap_bytes=65 * GIB)).parallel == 8


@pytest.mark.parametrize(("key", "setting"), [("key_type", "cache_type_k"), ("value_type", "cache_type_v")])
def test_heads_that_no_block_fits_are_refused(key: str, setting: str) -> None:
    """llama.cpp would only say that there is no memory."""
    odd = Outline(**{**vars(MODEL), "key_size": 80, "value_size": 80})

    with pytest.raises(EngineFailed, match=f"`{setting}` q8_0 wants heads of a multiple of 32 numbers"):
        fit(changed(**{key: "q8_0"}), odd, ROOMY)


@pytest.mark.parametrize(
    ("free_gib", "layers"), [(80, ALL), (7, ALL), (4, 19), (2, 5), (1.2, 0), (0.1, 0), (0, 0)]
)
def test_as_many_layers_as_fit_go_to_the_gpu(free_gib: float, layers: int) -> None:
    """With their cells, beside what is kept free: the more memory, the more layers, down to none."""
    assert gpu_layers(free_gib) == layers


def test_two_gpus_hold_what_neither_could() -> None:
    """Each gets its share, and none more than it holds."""
    assert gpu_layers(4) < ALL
    assert gpu_layers(4.5, 4.5) == ALL
    assert gpu_layers(4, 0.6) <= gpu_layers(4, 4)


def test_a_written_split_is_kept() -> None:
    """A share of nothing leaves a GPU alone; `none` knows one GPU only."""
    assert gpu_layers(0.1, 80, shares=(0.0, 1.0)) == ALL
    assert gpu_layers(0.1, 80, shares=(1.0, 0.0)) == 0
    assert gpu_layers(0.1, 80, split="none", main=1) == ALL
    assert gpu_layers(0.1, 80, split="none", main=0) == 0


def test_rows_are_split_and_cells_are_not() -> None:
    """With `row` the main GPU holds every layer's cells."""
    assert gpu_layers(6, 6, split="row", parallel=16) < gpu_layers(10, 6, split="row", parallel=16)
    assert gpu_layers(80, 80, split="row") == ALL


def test_all_or_a_number_is_not_questioned() -> None:
    """Written layers are taken, -1 as all of them, more than there are as all of them."""
    assert gpu_layers(1, layers=-1) == ALL
    assert gpu_layers(1, layers=5) == 5
    assert gpu_layers(1, layers=500) == ALL
    assert gpu_layers(80, layers=0) == 0


def test_without_a_gpu_there_is_nothing_to_split() -> None:
    """Whatever is written: the same file works on a machine without one."""
    assert gpu_layers() == 0
    assert gpu_layers(layers=-1) == 0
    assert gpu_layers(layers=12, split="none", main=3) == 0


def test_fewer_calls_rather_than_layers_off_the_gpu() -> None:
    """Left open, calls at a time are what fits beside all layers; only then layers stay behind."""
    settings, there = with_gpus(7.5)
    small, tight = with_gpus(3)

    assert fit(settings, MODEL, there).gpu_layers == ALL
    assert 1 <= fit(settings, MODEL, there).parallel < MOST_PARALLEL
    assert 0 < fit(small, MODEL, tight).gpu_layers < ALL


@pytest.mark.parametrize(
    ("offload", "why"),
    [
        ({"split": "none", "main": 2}, "`main_gpu` is 2, and there are 2 GPUs, counted from 0"),
        ({"shares": (1.0, 1.0, 1.0)}, "`tensor_split` divides among 3 GPUs, and there are 2"),
    ],
)
def test_gpus_that_are_not_there_are_named(offload: dict[str, object], why: str) -> None:
    """llama.cpp would fail without a word, or read beyond the list."""
    settings, there = with_gpus(8, 8, **offload)

    with pytest.raises(EngineFailed, match=why):
        fit(settings, MODEL, there)


@given(
    st.lists(st.floats(0, 40), max_size=4),
    st.floats(0, 64),
    st.none() | st.integers(1, 64),
    st.sampled_from(["none", "layer", "row"]),
)
def test_whatever_there_is_something_is_decided(
    gpus: list[float], free_gib: float, parallel: int | None, split: str
) -> None:
    """At least one call, no more layers than there are, none without a GPU; or a named refusal."""
    settings, there = with_gpus(*gpus, split=split)
    there = Machine(int(free_gib * GIB), devices=there.devices)
    try:
        found = fit(msgspec.structs.replace(settings, parallel=parallel), MODEL, there)
    except EngineFailed as no:
        found = None
        said = str(no)

    if found is None:
        assert "lower `context` or `parallel`" in said
    else:
        assert found.parallel == (parallel or found.parallel) >= 1
        assert 0 <= found.gpu_layers <= (ALL if gpus else 0)
        assert settled(settings.offload, found).layers == found.gpu_layers


def lay(root: Path, files: dict[str, str]) -> Path:
    """A machine's files."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = (
    "MemTotal:       16000000 kB\nMemAvailable:    8000000 kB\nSwapFree:        1000 kB\nHugePages_Free:  3\n"
)


def test_memory_is_what_can_be_had_without_harm(tmp_path: Path) -> None:
    """The kernel's own estimate, and free swap."""
    there = machine.look(with_devices=False, root=lay(tmp_path, {"proc/meminfo": MEMINFO}))

    assert there == Machine(8_000_000 * 1024, swap_bytes=1_024_000)


@pytest.mark.parametrize(
    ("files", "free_bytes"),
    [
        (
            {
                "proc/self/cgroup": "0::/a.slice/b.service\n",
                "sys/fs/cgroup/a.slice/memory.max": "3000000000\n",
                "sys/fs/cgroup/a.slice/memory.current": "1000000000\n",
                "sys/fs/cgroup/a.slice/memory.stat": "anon 5\ninactive_file 500\n",
                "sys/fs/cgroup/a.slice/b.service/memory.max": "max\n",
                "sys/fs/cgroup/a.slice/b.service/memory.current": "900000000\n",
            },
            2_000_000_500,
        ),
        (
            {
                "proc/self/cgroup": "4:memory:/box\n1:cpu:/box\n",
                "sys/fs/cgroup/memory/box/memory.limit_in_bytes": "2000000000\n",
                "sys/fs/cgroup/memory/box/memory.usage_in_bytes": "2500000000\n",
            },
            0,
        ),
        ({"proc/self/cgroup": "0::/\nnonsense\n"}, 8_000_000 * 1024),
    ],
)
def test_a_groups_limit_counts(tmp_path: Path, files: dict[str, str], free_bytes: int) -> None:
    """Of the process's own group and those around it, old kind and new; its swap is not ours then."""
    there = machine.look(with_devices=False, root=lay(tmp_path, {"proc/meminfo": MEMINFO, **files}))

    assert there.free_bytes == free_bytes
    assert (there.swap_bytes == 0) == (free_bytes != 8_000_000 * 1024)


def test_memory_that_nobody_tells_of_is_half_the_machines(tmp_path: Path) -> None:
    """A service may not see the kernel's figures."""
    there = machine.look(with_devices=False, root=tmp_path)

    assert there == Machine(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2)


@pytest.mark.model
def test_this_machine_is_looked_at(model_settings: LlamaSettings) -> None:
    """GPUs are those that the library was built for and finds; without any, no layer leaves the CPU."""
    wanted = msgspec.structs.replace(model_settings, parallel=None, offload=Offload(layers=None))
    there = machine.look(with_devices=True)

    model, found = opening.fitted(wanted)

    assert model.layers_count == 30
    assert found.gpu_layers == (31 if there.devices else 0)
    assert 1 <= found.parallel <= MOST_PARALLEL


def test_files_beside_the_model_are_checked_with_it(tmp_path: Path, model_settings: LlamaSettings) -> None:
    """The error names the one that is wrong."""
    good, bad = write(tmp_path / "good.gguf"), tmp_path / "lora.gguf"
    bad.write_bytes(b"GGUF")
    both = msgspec.structs.replace(
        model_settings, path=str(good), context=64, adapters=(AdapterFile("sql", str(bad)),)
    )

    with pytest.raises(EngineFailed, match=r"lora\.gguf: cut off"):
        opening.fitted(both)
