import os
import re
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, product
from pathlib import Path

import numpy as np
import pytest
import torch
from damaging import flip_bits
from loading import make_loader
from making import NUM_TRAIN

from galaxy_zoo.errors import ShardError
from galaxy_zoo.fold import Fold
from galaxy_zoo.view import Stamp, View
from pipeline.augment import FixedViews, RandomViews, rotations_and_flips
from pipeline.loader import Batch, Loader
from pipeline.memory import free_bytes
from pipeline.shards import Samples, open_shards
from pipeline.stamps import STREAM, Opener, StampPolicy

VIEW = View(crop_px=64, size_px=32, rotation_deg=180, zoom=(0.9, 1.1), shift_px=2, flip=True)
COLOURS = replace(VIEW, brightness=0.2, contrast=0.3, saturation=0.4, colour_noise=0.5)
RESIDENT = StampPolicy("resident", share=0.9)
Way = dict[str, str]
"""Options of a loader: a backend and its device."""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def samples(shards: Path) -> Samples:
    return open_shards(shards, "train")


@pytest.fixture
def own_shards(shards: Path, tmp_path: Path) -> Path:
    """Shards that a test may damage."""
    return Path(shutil.copytree(shards, tmp_path / "shards"))


def load(samples: Samples, **options) -> Loader:
    options = {"batch_size": 16, "num_threads": 2, "stamps": RESIDENT, **options}
    return make_loader(samples, options.pop("views", RandomViews(VIEW, (1,))), **options)


def epochs_of(samples: Samples, count: int = 3, **options) -> list[list[Batch]]:
    with load(samples, **options) as loader:
        return [list(loader.epoch(epoch)) for epoch in range(count)]


def assert_same(got: list[list[Batch]], expected: list[list[Batch]]) -> None:
    """The same batches, bit for bit."""
    assert [[b.ids.tolist() for b in epoch] for epoch in got] == [[b.ids.tolist() for b in e] for e in expected]
    for one, other in zip(chain(*got), chain(*expected), strict=True):
        assert torch.equal(one.votes, other.votes)
        for first, second in zip(one.views, other.views, strict=True):
            assert torch.equal(first, second)


def spoil(shards: Path) -> None:
    """Overwrite all of every shard: nothing decodes any more, also where it is mapped already."""
    for shard in shards.glob("*.tar"):
        with shard.open("r+b") as file:
            file.write(bytes(shard.stat().st_size))


VIEWS = [
    RandomViews(VIEW, (1,)),
    RandomViews(COLOURS, (1, 2)),
    FixedViews(VIEW, rotations_and_flips(4)),
    RandomViews(View(crop_px=96, size_px=96), (0,)),  # the stamp is the whole image
]


def test_streamed_and_resident_stamps_give_the_same_batches(samples: Samples, subtests: pytest.Subtests) -> None:
    for views, (rank, world_size) in product(VIEWS, [(0, 1), (0, 3), (1, 3), (2, 3)]):
        with subtests.test(views=views, rank=rank, world_size=world_size):
            options = {"views": views, "rank": rank, "world_size": world_size, "batch_size": 10}
            assert_same(epochs_of(samples, **options), epochs_of(samples, stamps=STREAM, **options))


def test_resident_and_streamed_stamps_give_the_views_of_dalis_graph(samples: Samples, kernel: Way) -> None:
    views = RandomViews(replace(COLOURS, mean=(0, 0, 0), std=(1 / 255,) * 3), (3, 4))
    options = {"device": kernel["device"], "dtype": torch.float32, "views": views}
    kept = epochs_of(samples, 2, **options, backend=kernel["backend"])
    assert_same(kept, epochs_of(samples, 2, **options, backend=kernel["backend"], stamps=STREAM))
    graph = epochs_of(samples, 2, **options, backend="dali", stamps=STREAM)
    for one, other in zip(chain(*kept), chain(*graph), strict=True):
        assert one.ids.tolist() == other.ids.tolist()
        for images, expected in zip(one.views, other.views, strict=True):
            assert (images - expected).abs().mean() < 0.5
            assert (images - expected).abs().max() < 10


def test_after_the_first_epoch_nothing_is_decoded(own_shards: Path, place: Way) -> None:
    samples = open_shards(own_shards, "train")
    expected = epochs_of(samples, **place)
    with load(samples, **place) as loader:
        got = [list(loader.epoch(0))]
        spoil(own_shards)
        got += [list(loader.epoch(epoch)) for epoch in (1, 2)]
    assert_same(got, expected)
    with load(samples, **place) as loader, pytest.raises(ShardError):
        list(loader.epoch(1))


def test_an_epoch_left_half_way_leaves_its_stamps_and_is_entered_again_at_any_step(own_shards: Path) -> None:
    samples = open_shards(own_shards, "train")
    (expected,) = epochs_of(samples, 1)
    with load(samples) as loader:
        batches = loader.epoch(0)
        got = [next(batches) for _ in range(4)]
        batches.close()
        got += list(loader.epoch(0, start=4))
        assert_same([got], [expected])
        spoil(own_shards)
        assert_same([list(loader.epoch(0))], [expected])


def test_ranks_keep_the_stamps_of_what_they_meet(own_shards: Path) -> None:
    samples = open_shards(own_shards, "train")
    with load(samples, rank=1, world_size=2) as loader:
        half = list(loader.epoch(0))
        expected = list(loader.epoch(0))
        spoil(own_shards)
        assert_same([list(loader.epoch(0))], [expected])
        with pytest.raises(ShardError):
            list(loader.epoch(1))
    assert_same([half], [expected])


def test_an_image_that_does_not_decode_is_named_also_while_stamps_are_kept(own_shards: Path) -> None:
    samples = open_shards(own_shards, "train")
    spoil(own_shards)
    with load(samples) as loader, pytest.raises(ShardError, match=r"train-\d+\.tar: sample \d+ at offset"):
        list(loader.epoch(0))


def test_auto_keeps_stamps_where_they_fit_and_says_so(
    samples: Samples, capsys: pytest.CaptureFixture[str]
) -> None:
    load(samples, stamps=StampPolicy("auto")).close()
    assert re.search(
        r"the stamps of 83 galaxies, 0\.00 GB, are kept in memory \(within 50% of ", capsys.readouterr().err
    )
    load(samples, stamps=StampPolicy("auto", share=1e-9)).close()
    said = capsys.readouterr().err
    assert "are more than 0% of" in said
    assert "streamed from the shards" in said
    assert "warning" not in said
    load(samples, stamps=StampPolicy("auto", reused=False)).close()  # used once: nothing is kept
    assert capsys.readouterr().err == ""


def test_stamps_that_were_asked_for_and_do_not_fit_are_a_warning(
    samples: Samples, place: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    got = epochs_of(samples, **place, stamps=StampPolicy("resident", share=1e-9))
    assert capsys.readouterr().err.startswith("warning: the stamps of 83 galaxies, 0.00 GB, are more than")
    assert_same(got, epochs_of(samples, **place, stamps=STREAM))


def test_memory_that_cannot_be_had_is_a_warning(
    samples: Samples, place: Way, capsys: pytest.CaptureFixture[str]
) -> None:
    huge = Stamp((1 << 20, 1 << 20), (1 << 20, 1 << 20))
    policy = StampPolicy("resident", share=float("inf"))
    device = torch.device(place["device"])
    assert Opener(policy, samples, huge, device=device, rank=0, world_size=1).open() is None
    assert "warning: there is no memory for the stamps of 83 galaxies" in capsys.readouterr().err


def test_stamps_stop_filling_memory_before_it_runs_out_and_those_there_stay_in_use(
    samples: Samples, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("pipeline.stamps.RESERVE_BYTES", 1 << 60)
    got = epochs_of(samples)
    assert re.search(r"memory runs out; \d\d of 83 stamps are kept", capsys.readouterr().err)
    assert_same(got, epochs_of(samples, stamps=StampPolicy("stream")))


def test_only_the_first_rank_speaks(samples: Samples, capsys: pytest.CaptureFixture[str]) -> None:
    epochs_of(samples, rank=1, world_size=2)
    assert capsys.readouterr().err == ""


def test_two_loaders_share_the_memory_that_is_free(samples: Samples) -> None:
    with load(samples) as first, load(samples) as second:
        assert first._resident is not None
        assert second._resident is not None
        size = first._resident.pixels.numel()
        assert type(first._resident).promised_bytes() == 2 * size
        list(first.epoch(0))
        assert type(first._resident).promised_bytes() == size


# Free memory


def write_group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(f"{text}\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_group(tmp_path / "proc", meminfo="MemTotal: 4000 kB\nMemAvailable: 3000 kB")
    write_group(tmp_path / "proc/self", cgroup="0::/")
    return tmp_path


def test_free_memory_is_that_of_the_machine_and_of_its_control_groups_less_their_page_cache(root: Path) -> None:
    assert free_bytes(CPU, root=root) == 3000 * 1024
    write_group(root / "proc/self", cgroup="0::/a/b")
    groups = root / "sys/fs/cgroup"
    write_group(groups / "a/b", memory__max="max", memory__current=5, memory__stat="inactive_file 0")
    assert free_bytes(CPU, root=root) == 3000 * 1024
    write_group(groups / "a", memory__max=1000, memory__current=700, memory__stat="anon 1\ninactive_file 200")
    assert free_bytes(CPU, root=root) == 500
    write_group(groups / "a/b", memory__max=100, memory__current=700)
    assert free_bytes(CPU, root=root) == 0
    assert 0 < free_bytes(CPU) < 1 << 50  # of this machine


def test_control_groups_of_version_1_count_too(root: Path) -> None:
    write_group(root / "proc/self", cgroup="5:devices:/\n4:memory:/c\n0::/")
    files = {"memory__limit_in_bytes": 900, "memory__usage_in_bytes": 400}
    write_group(root / "sys/fs/cgroup/memory/c", memory__stat="total_inactive_file 50", **files)
    assert free_bytes(CPU, root=root) == 550


# Saved stamps


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "stamps"


def saved_file(folder: Path) -> Path:
    [path] = folder.glob("*.bin")
    return path


def saving(folder: Path) -> StampPolicy:
    return replace(RESIDENT, folder=folder)


def test_saved_stamps_are_mapped_at_the_next_start_and_nothing_is_decoded(own_shards: Path, folder: Path) -> None:
    samples = open_shards(own_shards, "train")
    expected = epochs_of(samples, stamps=saving(folder))
    assert sorted(path.suffix for path in folder.iterdir()) == [".bin", ".lock"]
    before = saved_file(folder).stat()
    spoil(own_shards)
    for mode in ("resident", "auto"):
        policy = StampPolicy(mode, share=1e-9, folder=folder, reused=False)  # mapped pages are not held
        assert_same(epochs_of(samples, stamps=policy), expected)
    assert saved_file(folder).stat().st_mtime_ns == before.st_mtime_ns


DAMAGES: list[tuple[Callable[[Path], None], str]] = [
    (partial(flip_bits, at=5000, bits=255), "1 stamps are damaged"),
    (partial(flip_bits, at=-1, bits=255), "checksums are damaged"),
    (partial(flip_bits, at=3, bits=255), "another version"),
    *((partial(os.truncate, length=size), "are decoded again") for size in (0, 100, 4096, 100_000)),
]


def test_damage_is_found_and_mended(
    samples: Samples, folder: Path, capsys: pytest.CaptureFixture[str], place: Way, subtests: pytest.Subtests
) -> None:
    expected = epochs_of(samples, **place, stamps=saving(folder))
    whole = saved_file(folder).read_bytes()
    for number, (damage, said) in enumerate(DAMAGES):
        with subtests.test(said, number=number):
            damage(saved_file(folder))
            capsys.readouterr()
            assert_same(epochs_of(samples, **place, stamps=saving(folder)), expected)
            warning = capsys.readouterr().err
            assert str(folder) in warning
            assert said in warning
            assert saved_file(folder).read_bytes() == whole


def test_a_mapped_file_is_not_written_to(samples: Samples, folder: Path) -> None:
    epochs_of(samples, 1, stamps=saving(folder))
    flip_bits(saved_file(folder), 5000, bits=255)
    damaged = saved_file(folder).read_bytes()
    with load(samples, stamps=saving(folder)) as loader:
        next(iter(loader.epoch(0)))
        assert loader._resident is not None
        loader._resident.pixels.zero_()
    assert saved_file(folder).read_bytes() == damaged


def test_other_samples_and_other_stamps_have_other_files(shards: Path, folder: Path) -> None:
    whole = open_shards(shards, "train")
    fold = open_shards(shards, "train", fold=Fold(0, 5))
    held_out = open_shards(shards, "train", fold=Fold(0, 5), held_out=True)
    for some in (whole, fold, held_out):
        epochs_of(some, 1, stamps=saving(folder))
    epochs_of(whole, 1, stamps=saving(folder), views=RandomViews(View(crop_px=40, size_px=20), (0,)))
    assert len(list(folder.glob("*.bin"))) == 4
    names = {path.name for path in folder.glob("stamps-*-to-*-cpu-*.bin")}
    assert len({name.rpartition("-")[2] for name in names}) == 3


def test_a_file_under_the_name_of_another_is_not_trusted(shards: Path, folder: Path) -> None:
    fold = open_shards(shards, "train", fold=Fold(0, 2))
    held_out = open_shards(shards, "train", fold=Fold(0, 2), held_out=True)
    expected = epochs_of(fold, 1, stamps=saving(folder))
    first = saved_file(folder)
    epochs_of(held_out, 1, stamps=saving(folder))
    [second] = set(folder.glob("*.bin")) - {first}
    shutil.copyfile(second, first)
    assert_same(epochs_of(fold, 1, stamps=saving(folder)), expected)


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """As on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_warning_and_leaves_nothing(
    samples: Samples, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with files_of_at_most(50_000):
        got = epochs_of(samples, stamps=saving(folder))
    assert re.search(r"warning: the stamps are not saved in \S+\.bin: ", capsys.readouterr().err)
    assert not [path for path in folder.iterdir() if path.suffix != ".lock"]
    assert_same(got, epochs_of(samples, stamps=StampPolicy("stream")))


def test_a_disk_without_room_is_not_written_to(
    samples: Samples, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = shutil.disk_usage(folder.parent)._replace(free=1000)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    epochs_of(samples, 1, stamps=saving(folder))
    assert "the disk has 1,000 free" in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_made_is_a_warning(
    samples: Samples, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert sum(len(b.ids) for b in epochs_of(samples, 1, stamps=saving(tmp_path / "file"))[0]) == NUM_TRAIN
    assert "the stamps are not saved" in capsys.readouterr().err


def test_stamps_are_saved_by_the_first_rank_alone(samples: Samples, folder: Path) -> None:
    epochs_of(samples, 12, rank=1, world_size=2, stamps=saving(folder))
    assert not folder.exists()
    whole = epochs_of(samples, 12, rank=0, world_size=2, stamps=saving(folder))
    assert saved_file(folder).exists()
    assert_same(epochs_of(samples, 12, rank=0, world_size=2, stamps=saving(folder)), whole)


def test_saving_waits_for_no_other_process(
    samples: Samples, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import fcntl

    epochs_of(samples, 1, stamps=saving(folder))
    saved_file(folder).unlink()
    with next(folder.glob("*.lock")).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        epochs_of(samples, 1, stamps=saving(folder))
    assert "another process saves them" in capsys.readouterr().err
    assert not list(folder.glob("*.bin"))
    assert np.all([path.suffix == ".lock" for path in folder.iterdir()])
