"""Ranks that read groups of shards of their own: what they open, and that together they make the same batches."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from loading import make_loader
from making import NUM_TRAIN
from s3_server import url

from galaxy_zoo.errors import ShardError
from galaxy_zoo.fold import Fold
from galaxy_zoo.manifest import Shard, read_manifest
from galaxy_zoo.remote import path_of
from galaxy_zoo.view import View
from pipeline.augment import FixedViews, RandomViews
from pipeline.cache import Cache, ShardSet, open_set
from pipeline.groups import Opened, deal, open_all, open_groups
from pipeline.loader import Backend, Batch, Loader
from pipeline.options import StampMode
from pipeline.stamps import StampPolicy

VIEW = View(crop_px=64, size_px=16, rotation_deg=180, zoom=(0.9, 1.1), shift_px=2, flip=True)
FOLD = Fold(1, 5)


def shard(name: str, samples: int) -> Shard:
    return Shard(name, samples, 0, "", "")


def opened(folder: Path, rank: int, world_size: int, *, num_groups: int = 3, fold: Fold | None = FOLD) -> Opened:
    source = ShardSet(folder, folder)
    return open_groups(source, fold=fold, num_groups=num_groups, rank=rank, world_size=world_size)


def load(part: Opened, views: RandomViews | None = None, **options) -> Loader:
    options = {"batch_size": 16, "num_threads": 1, "seed": 3, "groups": part.groups, **options}
    return make_loader(part.samples, views or RandomViews(VIEW, (1, 2)), **options)


def batches(part: Opened, *, epoch: int = 1, seen: int = 0, **options) -> list[Batch]:
    with load(part, **options) as loader:
        found = list(loader.epoch(epoch, seen=seen))
        assert len(found) == len(range(seen, loader.num_samples, 16))
    return found


def together(ranks: list[list[Batch]]) -> list[dict[str, tuple[torch.Tensor, ...]]]:
    """For each step, the views and votes of each sample, whichever rank it was on."""
    return [
        {
            key: (*(view[at] for view in batch.views), batch.votes[at])
            for batch in step
            for at, key in enumerate(batch.ids.tolist())
        }
        for step in zip(*ranks, strict=True)
    ]


def assert_same(ones: list[dict[str, tuple[torch.Tensor, ...]]], others: list) -> None:
    for one, other in zip(ones, others, strict=True):
        assert one.keys() == other.keys()
        assert all(torch.equal(a, b) for key in one for a, b in zip(one[key], other[key], strict=True))


@given(st.lists(st.integers(1, 50), max_size=40), st.integers(1, 7))
def test_groups_of_shards_are_as_even_as_a_shard_allows(sizes: list[int], num_groups: int) -> None:
    shards = [shard(str(number), size) for number, size in enumerate(sizes)]
    groups = deal(shards, num_groups)
    assert sorted(each.name for group in groups for each in group) == sorted(each.name for each in shards)
    counts = [sum(each.samples for each in group) for group in groups]
    assert max(counts) - min(counts) <= max(sizes, default=0)


def test_every_group_has_its_share_of_what_was_appended() -> None:
    shards = [shard(f"{part}-{number}", 100) for part in ("old", "new") for number in range(6)]
    for group in deal(shards, 3):
        assert [each.name.partition("-")[0] for each in group] == ["old", "old", "new", "new"]


def test_ranks_open_each_shard_once(shards: Path, subtests: pytest.Subtests) -> None:
    whole = open_all(ShardSet(shards, shards), fold=FOLD)
    assert whole.held_out is not None
    for world_size in (1, 2, 3):
        with subtests.test(world_size=world_size):
            parts = [opened(shards, rank, world_size) for rank in range(world_size)]
            names = [each.name for part in parts for each in part.samples.shards]
            assert sorted(names) == sorted(each.name for each in whole.samples.shards)
            held = [each.name for part in parts if part.held_out is not None for each in part.held_out.shards]
            assert sorted(held) == sorted(each.name for each in whole.held_out.shards)
            assert [part.held_out is None for part in parts] == [rank >= 2 for rank in range(world_size)]


def test_a_rank_needs_no_shard_but_its_own(shards: Path, tmp_path: Path) -> None:
    """Each has a folder with the manifest, its own training shards and its own part of the fold."""
    read = set[str]()
    found = []
    for rank in range(2):
        part = opened(shards, rank, 2)
        mine = {each.name for each in (*part.samples.shards, *(part.held_out.shards if part.held_out else ()))}
        assert not mine & read
        read |= mine
        own = tmp_path / str(rank)
        own.mkdir()
        for name in ("manifest.json", *mine, *(name.replace(".tar", ".idx") for name in mine)):
            shutil.copy(shards / name, own / name)
        found.append(batches(opened(own, rank, 2)))
    assert read == {each.name for each in read_manifest(shards).splits["train"]}
    assert_same(together(found), together([batches(opened(shards, rank, 2)) for rank in range(2)]))


WAYS: list[tuple[Backend, StampMode]] = [("opencv", "stream"), ("opencv", "resident"), ("dali", "stream")]


def test_all_numbers_of_ranks_make_the_same_batches(shards: Path, subtests: pytest.Subtests) -> None:
    whole = open_all(ShardSet(shards, shards), fold=FOLD).samples
    votes = dict(zip(whole.keys.tolist(), whole.votes, strict=True))
    for backend, mode in WAYS:
        options = {"backend": backend, "stamps": StampPolicy(mode, share=1.0)}
        alone = together([batches(opened(shards, 0, 1), **options)])
        met = {key: found[-1].numpy() for step in alone for key, found in step.items()}
        assert met.keys() == votes.keys()
        assert all(np.array_equal(met[key], votes[key]) for key in votes)
        for world_size in (2, 3):
            with subtests.test(backend=backend, mode=mode, world_size=world_size):
                ranks = [batches(opened(shards, rank, world_size), **options) for rank in range(world_size)]
                assert_same(together(ranks), alone)


def test_fewer_ranks_go_on_with_the_samples_that_are_left(shards: Path) -> None:
    before = together([batches(opened(shards, rank, 3)) for rank in range(3)])
    after = together([batches(opened(shards, rank, 2), seen=32) for rank in range(2)])
    assert_same(after, before[2:])


def test_a_rank_may_have_nothing_of_a_batch(shards: Path) -> None:
    ranks = [batches(opened(shards, rank, 10, num_groups=10, fold=None)) for rank in range(10)]
    counts = [[len(rank[step].ids) for rank in ranks] for step in range(6)]
    assert [sum(step) for step in counts] == [16] * 5 + [NUM_TRAIN - 80]
    assert min(counts[-1]) == 0
    assert all(batch.views[0].shape[0] == len(batch.votes) == len(batch.ids) for rank in ranks for batch in rank)


def test_the_fold_is_met_once_over_all_ranks(shards: Path) -> None:
    whole = open_all(ShardSet(shards, shards), fold=FOLD).held_out
    assert whole is not None
    keys = []
    for rank in range(3):
        part = opened(shards, rank, 3)
        if part.held_out is not None:
            options = {"batch_size": 6, "shuffle": False, "groups": part.held_groups, "num_threads": 1}
            with make_loader(part.held_out, FixedViews(VIEW), **options) as loader:
                keys += [key for batch in loader.epoch(0) for key in batch.ids.tolist()]
    assert sorted(keys) == sorted(whole.keys.tolist())


def test_a_rank_keeps_the_stamps_of_its_own_samples_and_each_rank_saves_its_own(
    shards: Path, tmp_path: Path
) -> None:
    policy = StampPolicy("resident", share=1.0, folder=tmp_path)
    streamed = together([batches(opened(shards, rank, 2), epoch=2) for rank in range(2)])
    for rank in range(2):
        part = opened(shards, rank, 2)
        with load(part, stamps=policy, rank=rank, world_size=2) as loader:
            assert len(list(loader.epoch(1))) == len(loader)
        assert len(list(tmp_path.glob("*.bin"))) == rank + 1  # after one epoch
    sizes = [path.stat().st_size for path in tmp_path.glob("*.bin")]
    assert max(sizes) < 0.75 * sum(sizes)  # two groups of three
    saved = [batches(opened(shards, r, 2), epoch=2, stamps=policy, rank=r, world_size=2) for r in range(2)]
    assert_same(together(saved), streamed)


def test_more_groups_than_shards_are_refused(shards: Path) -> None:
    with pytest.raises(ShardError, match=r"8 shards to train on for 9 groups.* start at most 8 ranks, or pack"):
        opened(shards, 0, 9, num_groups=9)


def test_of_a_store_only_what_the_ranks_of_a_machine_read_is_fetched(
    shards: Path, bucket: Path, tmp_path: Path
) -> None:
    stored = shutil.copytree(shards, bucket / "shards")
    for machine in range(2):
        cache, read = Cache(tmp_path / str(machine)), set[str]()
        for rank in (2 * machine, 2 * machine + 1):
            with open_set(path_of(url(stored)), cache) as source:
                part = open_groups(source, fold=FOLD, num_groups=4, rank=rank, world_size=4)
            read |= {
                each.name for each in (*part.samples.shards, *(part.held_out.shards if part.held_out else ()))
            }
        assert {path.name for path in (tmp_path / str(machine)).glob("*/*.tar")} == read
        assert len(read) == (4 if machine else 6)  # two of four groups of two shards; the fold is two shards


def test_positions_of_views_may_have_gaps() -> None:
    """A view is that of its position in the whole epoch, whichever rank draws it."""
    views, stamp = RandomViews(VIEW, (7,)), VIEW.stamp((96, 96))
    [whole] = views.parameters(stamp, 4, range(40))
    some = np.array([3, 4, 9, 31])
    [drawn] = views.parameters(stamp, 4, some)
    assert np.array_equal(drawn.warps, whole.warps[some])
