from fractions import Fraction
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.order import (
    GroupedOrder,
    Groups,
    balanced_order,
    class_shares,
    epoch_order,
    group_positions,
    num_steps,
    rank_share,
)

sizes = st.tuples(st.integers(1, 200), st.integers(5, 30), st.integers(1, 5))  # samples, batch, ranks


@given(sizes)
def test_ranks_take_each_position_once_in_order_and_as_evenly_as_can_be(size: tuple[int, int, int]) -> None:
    samples, batch, ranks = size
    batches = [range(at, min(at + batch, samples)) for at in range(0, samples, batch)]
    steps = [[rank_share(each, rank=r, world_size=ranks) for r in range(ranks)] for each in batches]
    assert len(batches) == num_steps(samples, batch)
    assert [position for step in steps for share in step for position in share] == list(range(samples))
    for step in steps:
        counts = [len(share) for share in step]
        assert max(counts) - min(counts) <= 1
    for step in steps[:-1]:  # only the last one is short
        assert sum(map(len, step)) == batch
        assert all(step)


@given(st.integers(0, 500), st.integers(0, 2**32), st.integers(0, 1000))
def test_an_order_is_a_permutation(samples: int, seed: int, epoch: int) -> None:
    assert sorted(epoch_order(samples, seed=seed, epoch=epoch)) == list(range(samples))


def test_orders_repeat_for_a_seed_and_epoch_and_differ_otherwise() -> None:
    order = epoch_order(1000, seed=1, epoch=2)
    assert np.array_equal(order, epoch_order(1000, seed=1, epoch=2))
    assert not np.array_equal(order, epoch_order(1000, seed=2, epoch=2))
    assert not np.array_equal(order, epoch_order(1000, seed=1, epoch=3))


def test_the_order_is_a_global_shuffle() -> None:
    order = epoch_order(61578, seed=0, epoch=0)
    assert abs(np.corrcoef(order, np.arange(len(order)))[0, 1]) < 0.02
    shard_of = order // 6158  # ten shards
    for start in range(0, 61578 - 256, 256 * 30):
        assert len(set(shard_of[start : start + 256])) >= 9


some_classes = st.lists(st.integers(-1, 4), min_size=1, max_size=60).map(np.array)


@given(some_classes, st.floats(0, 1), st.integers(0, 2**32))
def test_a_balanced_epoch_is_as_long_and_holds_each_sample_as_often_as_its_share(
    classes: np.ndarray, strength: float, seed: int
) -> None:
    shares = class_shares(classes, strength)
    order = balanced_order(shares, seed=seed, epoch=3)
    times = np.bincount(order, minlength=len(classes))
    assert len(order) == len(classes) == len(times)
    assert (np.floor(shares - 1e-9) <= times).all()
    assert (times <= np.ceil(shares + 1e-9)).all()
    assert np.array_equal(order, balanced_order(shares, seed=seed, epoch=3))


@given(some_classes)
def test_at_full_strength_all_classes_come_equally_often_and_at_none_all_samples(classes: np.ndarray) -> None:
    shares = class_shares(classes, 1.0)
    sums = [shares[classes == each].sum() for each in set(classes.tolist()) - {-1}]
    assert np.allclose(sums, sums[:1] * len(sums))
    assert (shares[classes == -1] == 1).all()
    assert np.allclose(class_shares(classes, 0.0), 1)


def test_balanced_epochs_keep_their_shares_on_average_and_differ() -> None:
    classes = np.repeat([0, 1, 2], [100, 20, 3])
    shares = class_shares(classes, 0.7)
    orders = [balanced_order(shares, seed=1, epoch=epoch) for epoch in range(300)]
    times = np.mean([np.bincount(order, minlength=123) for order in orders], axis=0)
    assert np.abs(times - shares).max() < 0.15
    assert not np.array_equal(np.sort(orders[0]), np.sort(orders[1]))
    assert abs(np.corrcoef(np.concatenate(orders), np.tile(np.arange(123), 300))[0, 1]) < 0.02


group_sizes = st.lists(st.integers(1, 60), min_size=1, max_size=8)


@st.composite
def groups_of_ranks(draw: st.DrawFn) -> list[Groups]:
    """Groups of any sizes, and what each of some ranks has of them."""
    sizes = tuple(draw(group_sizes))
    inner = draw(st.lists(st.integers(1, len(sizes)), max_size=len(sizes), unique=True))
    ends = sorted({0, *inner, len(sizes)})
    return [Groups(sizes, range(start, stop)) for start, stop in pairwise(ends)]


def taken(groups: Groups, epoch: int, batch: int, seen: int = 0) -> list[list[tuple[int, int, int]]]:
    """For each step what a rank takes: positions, with the group of each sample and its number there."""
    order, starts = GroupedOrder(groups, seed=5), np.cumsum([0, *(groups.sizes[group] for group in groups.mine)])
    take, steps = order.epoch(epoch), []
    for at in range(seen, len(order), batch):
        positions, samples = take(range(at, min(at + batch, len(order))))
        own = np.searchsorted(starts, samples, side="right") - 1
        places = np.stack([positions, own + groups.mine.start, samples - starts[own]], axis=1)
        steps.append([(position, group, number) for position, group, number in places.tolist()])
    return steps


def all_taken(ranks: list[Groups], epoch: int, batch: int, seen: int = 0) -> list[list[tuple[int, int, int]]]:
    """For each step what all ranks take together, by position."""
    each = [taken(groups, epoch, batch, seen) for groups in ranks]
    return [sorted(place for one in step for place in one) for step in zip(*each, strict=True)]


@given(group_sizes)
def test_groups_are_merged_evenly(sizes: list[int]) -> None:
    keys = [(Fraction(2 * k + 1, 2 * size), group) for group, size in enumerate(sizes) for k in range(size)]
    merged = [group for _, group in sorted(keys)]
    for group in range(len(sizes)):
        expected = [at for at, each in enumerate(merged) if each == group]
        assert group_positions(sizes, group).tolist() == expected


def test_positions_of_large_groups_do_not_overflow() -> None:
    sizes = [3 * 10**6, 3 * 10**9]
    assert group_positions(sizes, 0)[[0, -1]].tolist() == [500, sum(sizes) - 501]


@given(groups_of_ranks(), st.integers(1, 70), st.integers(0, 3))
def test_an_epoch_of_groups_holds_each_sample_once_at_the_same_position_on_any_ranks(
    ranks: list[Groups], batch: int, epoch: int
) -> None:
    sizes = ranks[0].sizes
    steps = all_taken(ranks, epoch, batch)
    places = [place for step in steps for place in step]
    assert [position for position, *_ in places] == list(range(sum(sizes)))
    everything = {(group, number) for group, size in enumerate(sizes) for number in range(size)}
    assert {(group, number) for _, group, number in places} == everything
    assert steps == all_taken([Groups(sizes, range(len(sizes)))], epoch, batch)


@given(groups_of_ranks(), st.integers(1, 70))
def test_a_batch_holds_of_each_group_its_share(ranks: list[Groups], batch: int) -> None:
    sizes = ranks[0].sizes
    for step in all_taken(ranks, 1, batch):
        counts = np.bincount([group for _, group, _ in step], minlength=len(sizes))
        shares = np.array(sizes) / sum(sizes)
        assert (np.abs(counts - len(step) * shares) <= 1 + len(sizes) * shares).all()


@given(groups_of_ranks(), st.integers(1, 30))
def test_no_rank_takes_more_of_any_batch_than_it_is_ready_for(ranks: list[Groups], batch: int) -> None:
    for groups in ranks:
        most = GroupedOrder(groups, seed=0).most(batch)
        counts = [len(step) for seen in range(batch) for step in taken(groups, 0, batch, seen)]
        assert max(counts) == most <= batch


@given(groups_of_ranks(), st.integers(1, 70), st.data())
def test_an_epoch_of_groups_is_gone_on_with_by_another_number_of_ranks(
    ranks: list[Groups], batch: int, data: st.DataObject
) -> None:
    sizes = ranks[0].sizes
    steps = all_taken(ranks, 2, batch)
    step = data.draw(st.integers(0, len(steps)))
    fewer = [Groups(sizes, range(ranks[0].mine.stop)), Groups(sizes, range(ranks[0].mine.stop, len(sizes)))]
    others = all_taken([each for each in fewer if each.mine], 2, batch, seen=sum(map(len, steps[:step])))
    assert others == steps[step:]


def test_the_order_of_a_group_repeats_for_a_seed_and_epoch_and_is_another_one_otherwise() -> None:
    groups = Groups((500, 500), range(2))

    def orders(seed: int, epoch: int) -> list[list[int]]:
        _, samples = GroupedOrder(groups, seed=seed).epoch(epoch)(range(1000))
        return [(samples[samples // 500 == group] % 500).tolist() for group in range(2)]

    found = [order for seed, epoch in ((0, 0), (0, 1), (1, 0)) for order in orders(seed, epoch)]
    assert len(set(map(tuple, found))) == 6
    assert orders(0, 1) == found[2:4]


@given(st.integers(1, 200), st.integers(0, 2**32), st.integers(0, 9))
def test_a_single_group_is_the_order_without_groups(samples: int, seed: int, epoch: int) -> None:
    positions, order = GroupedOrder(Groups((samples,), range(1)), seed=seed).epoch(epoch)(range(samples))
    assert positions.tolist() == list(range(samples))
    assert np.array_equal(order, epoch_order(samples, seed=seed, epoch=epoch))
