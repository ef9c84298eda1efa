"""What holds for every source of stamps, any number of ranks and any batch size."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loading import make_loader
from making import NUM_TEST

from galaxy_zoo.view import View
from pipeline.augment import FixedViews, RandomViews, rotations_and_flips
from pipeline.loader import Batch, Loader
from pipeline.shards import Samples, open_shards
from pipeline.stamps import StampPolicy

VIEW = View(crop_px=64, size_px=8, rotation_deg=180, flip=True)
SOURCES = [StampPolicy("stream"), StampPolicy("resident", share=0.9)]

several = settings(max_examples=8)
sources, ranks, batch_sizes = st.sampled_from(SOURCES), st.integers(1, 3), st.integers(3, 24)


@pytest.fixture(scope="module")
def samples(shards: Path) -> Samples:
    """21 samples: often fewer than ranks x batch."""
    return open_shards(shards, "test")


def load(samples: Samples, **options) -> Loader:
    options = {"num_threads": 1, "batch_size": 8, **options}
    return make_loader(samples, options.pop("views", RandomViews(VIEW, (1,))), **options)


def of_all_ranks(samples: Samples, epoch: int, world_size: int, *, seen: int = 0, **options) -> list[list[Batch]]:
    """The batches of an epoch of each rank."""
    batches = []
    for rank in range(world_size):
        with load(samples, rank=rank, world_size=world_size, **options) as loader:
            batches.append(list(loader.epoch(epoch, seen=seen)))
    return batches


def images_by_id(batches: list[Batch]) -> list[tuple[str, torch.Tensor]]:
    return [(i, image) for b in batches for i, image in zip(b.ids.tolist(), b.views[0], strict=True)]


@several
@given(source=sources, world_size=ranks, batch_size=batch_sizes, epoch=st.integers(0, 9))
def test_each_sample_is_seen_once_an_epoch_over_all_ranks_in_equal_steps(
    samples: Samples, source: StampPolicy, world_size: int, batch_size: int, epoch: int
) -> None:
    batches = of_all_ranks(samples, epoch, world_size, batch_size=batch_size, stamps=source)
    assert sorted(i for part in batches for b in part for i in b.ids) == sorted(samples.keys)
    with load(samples, batch_size=batch_size, world_size=world_size) as loader:
        assert {len(part) for part in batches} == {len(loader)}


@several
@given(
    source=sources,
    before=st.tuples(ranks, batch_sizes),
    after=st.tuples(ranks, batch_sizes),
    steps=st.integers(0, 30),
)
def test_the_rest_of_an_epoch_is_met_once_on_another_number_of_ranks_with_the_same_views(
    samples: Samples, source: StampPolicy, before: tuple[int, int], after: tuple[int, int], steps: int
) -> None:
    (whole,) = of_all_ranks(samples, 2, 1, batch_size=NUM_TEST)
    seen = min(steps * before[1], NUM_TEST)
    first = of_all_ranks(samples, 2, before[0], batch_size=before[1], stamps=source)
    rest = of_all_ranks(samples, 2, after[0], batch_size=after[1], stamps=source, seen=seen)
    assert len({len(part) for part in rest}) == 1
    met = [pair for part in first for pair in images_by_id(part[:steps])]
    met += [pair for part in rest for pair in images_by_id(part)]
    expected = dict(images_by_id(whole))
    assert sorted(key for key, _ in met) == sorted(expected)
    assert all(torch.equal(image, expected[key]) for key, image in met)


@several
@given(source=sources, world_size=ranks, seen=st.integers(0, NUM_TEST), start=st.integers(0, 5))
def test_the_rest_of_an_epoch_is_entered_at_any_step_too(
    samples: Samples, source: StampPolicy, world_size: int, seen: int, start: int
) -> None:
    options = {"rank": world_size - 1, "world_size": world_size, "batch_size": 7, "stamps": source}
    with load(samples, **options) as loader:
        rest = list(loader.epoch(1, seen=seen))
    with load(samples, **options) as loader:
        entered = list(loader.epoch(1, seen=seen, start=start))
    assert [b.ids.tolist() for b in entered] == [b.ids.tolist() for b in rest[start:]]
    for one, other in zip(entered, rest[start:], strict=True):
        assert torch.equal(one.views[0], other.views[0])


def test_plain_views_are_the_same_for_scoring_in_training_and_for_prediction(samples: Samples) -> None:
    """train.py and predict.py differ in batch size and number of views, and maybe in where stamps come from."""
    images = []
    for source in SOURCES:
        for batch_size, count in ((8, 1), (21, 1), (5, 4)):
            views = FixedViews(VIEW, rotations_and_flips(count))
            with load(samples, views=views, batch_size=batch_size, shuffle=False, stamps=source) as loader:
                images.append(torch.cat([batch.views[0] for batch in loader.epoch(0)]))
    assert all(torch.equal(each, images[0]) for each in images)


def test_two_epochs_under_way_keep_stamps_together_and_do_not_disturb_each_other(samples: Samples) -> None:
    with load(samples) as loader:
        expected = [dict(images_by_id(list(loader.epoch(epoch)))) for epoch in range(2)]
    with load(samples, stamps=SOURCES[1]) as loader:
        pairs = list(zip(loader.epoch(0), loader.epoch(1), strict=True))
    for epoch in range(2):
        got = images_by_id([pair[epoch] for pair in pairs])
        assert len(got) == NUM_TEST
        assert all(torch.equal(image, expected[epoch][key]) for key, image in got)


# Leaving a loader in any way: nothing is left behind


def leave(loader: Loader) -> None:
    next(iter(loader.epoch(0)))


def leave_by_an_exception(loader: Loader) -> None:
    with pytest.raises(ZeroDivisionError):
        for batch in loader.epoch(0):
            assert len(batch.ids) / 0


def leave_by_ctrl_c(loader: Loader) -> None:
    with pytest.raises(KeyboardInterrupt):
        for _ in loader.epoch(0):
            signal.raise_signal(signal.SIGINT)


def leave_with_a_batch_in_hand(loader: Loader) -> None:
    batches = loader.epoch(0)
    next(batches)
    loader.close()
    batches.close()


def leave_twice_at_once(loader: Loader) -> None:
    first, second = loader.epoch(0), loader.epoch(1)
    next(first), next(second)


def held() -> tuple[int, int, int]:
    """Threads, open files and mapped files of this process."""
    maps = Path("/proc/self/maps").read_text().splitlines()
    mapped = sum(line.endswith((".tar", ".bin")) for line in maps)
    return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd")), mapped  # noqa: PTH208


def comes_back_to(before: tuple[int, int, int]) -> bool:
    """Whether no more is held than before, at once or soon: threads end a moment after they are told to."""
    until = time.monotonic() + 10
    while any(now > then for now, then in zip(held(), before, strict=True)):
        if time.monotonic() > until:
            return False
        time.sleep(0.02)
    return True


def leave_in_every_way(samples: Samples, policy: StampPolicy) -> None:
    with load(samples, stamps=policy) as loader, load(samples) as other:
        leave(other)
        list(loader.epoch(0))  # libraries start threads of their own once; stamps are saved
    del loader, other
    before = held()
    ways: list[Callable[[Loader], None]] = [
        leave,
        leave_by_an_exception,
        leave_by_ctrl_c,
        leave_with_a_batch_in_hand,
        leave_twice_at_once,
    ]
    for way in ways:
        with load(samples, stamps=policy) as loader, load(samples) as other:
            leave(other)
            way(loader)
        del loader, other
        assert comes_back_to(before), f"{way.__name__}: {before} before, {held()} now"


@pytest.mark.slow
def test_leaving_a_loader_in_any_way_leaves_nothing_behind(shards: Path, tmp_path: Path) -> None:
    """In a process of its own, whose threads and files are no other test's."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, __file__, shards, tmp_path], env=environment, check=True)


if __name__ == "__main__":
    for each in (*SOURCES, StampPolicy("resident", share=0.9, folder=Path(sys.argv[2]))):
        leave_in_every_way(open_shards(Path(sys.argv[1]), "test"), each)
